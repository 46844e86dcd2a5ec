"""The work of a person: choosing a task, talking, choosing between replies, ending a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from sqlalchemy import Connection, func, select

from charter.ground.text.ballot import HARMLESS, ballot_of
from charter_service.arena.rendering import page
from charter_service.arena.sessions import Member, Visit
from charter_service.arena.transcripts import queue_attempt
from charter_service.arena.words import COMPARED, LEADS, QUESTIONS, REVIEW, TITLES
from charter_service.people import work
from charter_service.people.conversations import (
    OPEN,
    Conversation,
    conversation_of,
    open_conversation,
    own_conversation,
    own_turn,
    turn_state,
    votes_by,
)
from charter_service.people.reviewing import reviews_left
from charter_service.people.tables import CONVERSATIONS, TURNS, VOTES
from charter_service.people.visits import see
from charter_service.people.workers import Person, consent, consented
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Stage = Literal["ask", "waiting", "failed", "ready", "finish", "closed"]


def home(visit: Member) -> HTMLResponse:
    """The tasks that the person can do, and their progress."""
    service, person = visit.service, visit.person
    with reading(service.database) as connection:
        done = votes_by_axis(connection, person)
        tasks = [
            {
                "axis": axis,
                "title": TITLES[axis],
                "lead": LEADS[axis],
                "votes": done.get(axis, 0),
                "open": open_conversation(connection, person, axis),
            }
            for axis in (service.config.tasks if person.may("worker") else ())
        ]
        left = reviews_left(connection, person, service.config.reviewers) if person.may("reviewer") else None
        votes = votes_by(connection, person)
    quota = quota_of(visit)
    return show(visit, "home", "Your tasks", tasks=tasks, left=left, votes=votes, quota=quota, leads=LEADS)


def quota_of(visit: Visit) -> int:
    """The person's quota of choices, 0 without a limit."""
    return visit.person.quota or visit.service.config.pace.quota


def is_done(connection: Connection, visit: Visit) -> bool:
    """Whether the person has reached their quota of choices."""
    quota = quota_of(visit)
    return bool(quota) and votes_by(connection, visit.person) >= quota


def votes_by_axis(connection: Connection, person: Person) -> dict[str, int]:
    """Number of choices of a person on each axis."""
    wanted = (
        select(CONVERSATIONS.c.axis, func.count())
        .select_from(VOTES)
        .join(TURNS, TURNS.c.id == VOTES.c.turn)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(VOTES.c.person == person.id)
        .group_by(CONVERSATIONS.c.axis)
    )
    return {axis: int(count) for axis, count in connection.execute(wanted)}


def task_page(visit: Member, axis: str) -> HTMLResponse:
    """Instructions of a task, and its agreement; after agreeing, the form that begins."""
    _check_task(visit, axis)
    words = visit.service.words
    with reading(visit.service.database) as connection:
        agreed = consented(connection, visit.person.id, axis, words.versions[axis])
        open_one = open_conversation(connection, visit.person, axis)
        done = axis != REVIEW and is_done(connection, visit)
    return show(
        visit,
        "task",
        TITLES[axis],
        axis=axis,
        lead=LEADS[axis],
        instructions=words.instructions[axis],
        agreement=words.agreements[axis],
        agreed=agreed,
        open=open_one,
        done=done,
        quota=quota_of(visit),
        longest=visit.service.config.pace.longest,
    )


def agree(visit: Member, axis: str) -> RedirectResponse:
    """Stores that the person agreed to exactly these words."""
    _check_task(visit, axis)
    with writing(visit.service.database) as connection:
        consent(connection, visit.person.id, axis, visit.service.words.versions[axis])
    return see("/review" if axis == REVIEW else f"/task/{axis}")


def begin(visit: Member, axis: str) -> RedirectResponse:
    """Begins a conversation, with a plan if the task needs one."""
    if axis == REVIEW:
        return see("/review")
    _check_task(visit, axis)
    service = visit.service
    with writing(service.database) as connection:
        if not consented(connection, visit.person.id, axis, service.words.versions[axis]):
            raise Refusal("read the instructions and agree to them first", 403)
        id = work.begin(connection, service.collection, visit.person, axis, visit.form.text("plan"))
    service.answers.nudge()
    return see(f"/talk/{id}")


def talk(visit: Member, id: Id) -> HTMLResponse:
    """The page of a conversation."""
    service = visit.service
    with reading(service.database) as connection:
        conversation = conversation_of(connection, visit.person, id)
        _check_offered(visit, conversation.axis)
        fresh = not conversation.turns and not votes_by(connection, visit.person)
        done = is_done(connection, visit)
    axis, turns = conversation.axis, service.config.tasks[conversation.axis].turns  # type: ignore[index]
    return show(
        visit,
        "talk",
        TITLES[axis],
        c=conversation,
        stage=stage_of(conversation, turns),
        turns=turns if conversation.kind == "chat" else 1,
        question=QUESTIONS[axis],
        compared=COMPARED[axis],
        harmful=axis == HARMLESS,
        rated=axis == HARMLESS and conversation.kind == "chat",
        voted=sum(turn.state == "voted" for turn in conversation.turns),
        done=done,
        quota=quota_of(visit),
        instructions=service.words.instructions[axis],
        fresh=fresh,
        longest=service.config.pace.longest,
        contact=service.config.contact,
    )


def stage_of(conversation: Conversation, turns: int) -> Stage:
    """The next stage of a conversation."""
    if conversation.state != OPEN:
        return "closed"
    if not conversation.turns:
        return "ask"
    last = conversation.turns[-1]
    if last.state == "voted":
        return "ask" if len(conversation.turns) < turns else "finish"
    return last.state  # type: ignore[return-value]


def ask(visit: Member, id: Id) -> RedirectResponse:
    """Sends a message; two models will reply."""
    service, number = visit.service, visit.form.number("number")
    with writing(service.database) as connection:
        _check_offered(visit, own_conversation(connection, visit.person, id).axis)
        work.ask(connection, service.collection, visit.person, id, number or 0, visit.form.text("text"))
    service.answers.nudge()
    return see(f"/talk/{id}")


def state(visit: Member, id: Id) -> JSONResponse:
    """Whether a turn is waiting, ready, voted or failed."""
    with reading(visit.service.database) as connection:
        return JSONResponse({"state": turn_state(connection, visit.person, id)})


def vote(visit: Member, id: Id) -> RedirectResponse:
    """Stores a choice between two replies."""
    service, form = visit.service, visit.form
    with writing(service.database) as connection:
        ballot = ballot_of(form.text("choice"), own_turn(connection, visit.person, id).shown_left)
        if ballot is None:
            raise Refusal("choose one of the answers first: go back, choose, and send it again")
        choice = work.Vote(form.text("nonce"), ballot, form.text("edited") or None)
        conversation = work.vote(connection, service.collection, visit.person, id, choice)
    return see(f"/talk/{conversation}")


def retry(visit: Member, id: Id) -> RedirectResponse:
    """Asks for the replies of a failed turn again."""
    with writing(visit.service.database) as connection:
        work.retry(connection, visit.person, id)
        conversation = own_turn(connection, visit.person, id).conversation
    visit.service.answers.nudge()
    return see(f"/talk/{conversation}")


def finish(visit: Member, id: Id) -> RedirectResponse:
    """Ends a conversation; a red-team attempt needs a rating, and then goes to the reviewers."""
    form = visit.form
    with writing(visit.service.database) as connection:
        work.finish(connection, visit.person, id, form.number("rating"), form.number("feeling"))
        conversation = own_conversation(connection, visit.person, id)
        if conversation.rating is not None and visit.service.config.review_attempts:
            queue_attempt(connection, id)
    return see(f"/talk/{id}")


def stop(visit: Member, id: Id) -> RedirectResponse:
    """Ends a conversation at once; its choices count."""
    return _leave(visit, id, "stopped")


def skip(visit: Member, id: Id) -> RedirectResponse:
    """Ends a conversation at once; nothing in it counts."""
    return _leave(visit, id, "skipped")


def _leave(visit: Visit, id: str, how: str) -> RedirectResponse:
    with writing(visit.service.database) as connection:
        work.leave(connection, visit.person, id, how)
    return see(f"/talk/{id}")


def _check_task(visit: Visit, axis: str) -> None:
    """Raises NotFound if the task isn't offered, Refusal if the person isn't invited to it."""
    if not visit.service.words.offers(axis):
        raise NotFound("there is no such task here")
    if not visit.person.may("reviewer" if axis == REVIEW else "worker"):
        raise Refusal("your invitation is not for this task", 403)


def _check_offered(visit: Visit, axis: str) -> None:
    """Raises NotFound if the configuration no longer has the conversation's task."""
    if axis not in visit.service.collection.tasks:
        raise NotFound("this task has ended; thank you for your work")


def show(visit: Visit, template: str, title: str, **context: Any) -> HTMLResponse:
    """A page for a signed-in person."""
    return page(template, name=visit.service.config.name, title=title, member=visit, **context)
