"""What a person does here: choosing a task, talking, choosing between replies, reviewing transcripts; and the person's
own data, to download or delete."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, func, select
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from charter.ground.text.ballot import HARMLESS, MOST_TAGS, TAGS, ballot_of
from charter_service.arena.service import queue_attempt
from charter_service.arena.site import Visit, show
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
from charter_service.people.entrance import gone
from charter_service.people.members import check_may_remove
from charter_service.people.reviewing import Verdict, claim, reviews_left
from charter_service.people.reviewing import review as keep_review
from charter_service.people.reviewing import skip as give_back
from charter_service.people.tables import CONVERSATIONS, TURNS, VOTES
from charter_service.people.workers import Person, consent, consented, data_of, forget
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.site import see

SURE = "yes"
Stage = Literal["ask", "waiting", "failed", "ready", "finish", "closed"]


def home(visit: Visit) -> HTMLResponse:
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
        reviews = reviews_left(connection, person, service.config.reviewers) if person.may("reviewer") else None
        votes = votes_by(connection, person)
    quota = quota_of(visit)
    return show(visit, "home", "Your tasks", tasks=tasks, left=reviews, votes=votes, quota=quota, leads=LEADS)


def quota_of(visit: Visit) -> int:
    """The person's quota of choices, 0 without a limit."""
    return visit.person.quota or visit.service.config.pace.quota


def is_done(connection: Connection, visit: Visit) -> bool:
    """Whether the person has reached their quota of choices."""
    quota = quota_of(visit)
    return bool(quota) and votes_by(connection, visit.person) >= quota


def votes_by_axis(connection: Connection, person: Person) -> dict[str, int]:
    """Number of choices of a person on each axis."""
    query = (
        select(CONVERSATIONS.c.axis, func.count())
        .select_from(VOTES)
        .join(TURNS, TURNS.c.id == VOTES.c.turn)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(VOTES.c.person == person.id)
        .group_by(CONVERSATIONS.c.axis)
    )
    return {axis: int(count) for axis, count in connection.execute(query)}


def task_page(visit: Visit) -> HTMLResponse:
    """Instructions of a task, and its agreement; after agreeing, the form that begins."""
    axis = visit.axis
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


def agree(visit: Visit) -> RedirectResponse:
    """Stores that the person agreed to exactly these words."""
    axis = visit.axis
    _check_task(visit, axis)
    with writing(visit.service.database) as connection:
        consent(connection, visit.person.id, axis, visit.service.words.versions[axis])
    return see("/review" if axis == REVIEW else f"/task/{axis}")


def begin(visit: Visit) -> RedirectResponse:
    """Begins a conversation, with a plan if the task needs one."""
    axis = visit.axis
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


def talk(visit: Visit) -> HTMLResponse:
    """The page of a conversation."""
    service, id = visit.service, visit.id
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


def ask(visit: Visit) -> RedirectResponse:
    """Sends a message; two models will reply."""
    service, id, number = visit.service, visit.id, visit.form.number("number")
    with writing(service.database) as connection:
        _check_offered(visit, own_conversation(connection, visit.person, id).axis)
        work.ask(connection, service.collection, visit.person, id, number or 0, visit.form.text("text"))
    service.answers.nudge()
    return see(f"/talk/{id}")


def state(visit: Visit) -> JSONResponse:
    """Whether a turn is waiting, ready, voted or failed."""
    with reading(visit.service.database) as connection:
        return JSONResponse({"state": turn_state(connection, visit.person, visit.id)})


def vote(visit: Visit) -> RedirectResponse:
    """Stores a choice between two replies."""
    service, form, id = visit.service, visit.form, visit.id
    with writing(service.database) as connection:
        ballot = ballot_of(form.text("choice"), own_turn(connection, visit.person, id).shown_left)
        if ballot is None:
            raise Refusal("choose one of the answers first: go back, choose, and send it again")
        choice = work.Vote(form.text("nonce"), ballot, form.text("edited") or None)
        conversation = work.vote(connection, service.collection, visit.person, id, choice)
    return see(f"/talk/{conversation}")


def retry(visit: Visit) -> RedirectResponse:
    """Asks for the replies of a failed turn again."""
    id = visit.id
    with writing(visit.service.database) as connection:
        work.retry(connection, visit.person, id)
        conversation = own_turn(connection, visit.person, id).conversation
    visit.service.answers.nudge()
    return see(f"/talk/{conversation}")


def finish(visit: Visit) -> RedirectResponse:
    """Ends a conversation; a red-team attempt needs a rating, and then goes to the reviewers."""
    form, id = visit.form, visit.id
    with writing(visit.service.database) as connection:
        work.finish(connection, visit.person, id, form.number("rating"), form.number("feeling"))
        conversation = own_conversation(connection, visit.person, id)
        if conversation.rating is not None and visit.service.config.review_attempts:
            queue_attempt(connection, id)
    return see(f"/talk/{id}")


def stop(visit: Visit) -> RedirectResponse:
    """Ends a conversation at once; its choices count."""
    return _leave(visit, "stopped")


def skip(visit: Visit) -> RedirectResponse:
    """Ends a conversation at once; nothing in it counts."""
    return _leave(visit, "skipped")


def _leave(visit: Visit, how: str) -> RedirectResponse:
    id = visit.id
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


def review_page(visit: Visit) -> Response:
    """The transcript that the reviewer has open, or the next. Raises Refusal if the person is not a reviewer."""
    service = visit.service
    if not visit.person.may("reviewer"):
        raise Refusal("your invitation is not for reviews", 403)
    with writing(service.database) as connection:
        if not consented(connection, visit.person.id, REVIEW, service.words.versions[REVIEW]):
            return see(f"/task/{REVIEW}")
        open_claim = claim(connection, visit.person, service.config.reviewers, _agreement(visit))
        reviews = reviews_left(connection, visit.person, service.config.reviewers)
    return show(
        visit,
        "review",
        "Review",
        claim=open_claim,
        left=reviews,
        tags=TAGS,
        most=MOST_TAGS,
        instructions=service.words.instructions[REVIEW],
        contact=service.config.contact,
    )


def review(visit: Visit) -> RedirectResponse:
    """Stores a verdict."""
    id, form, rating = visit.id, visit.form, visit.form.number("rating")
    if rating is None:
        raise Refusal("choose how harmful it is, from 0 (not at all) to 4 (very): go back and choose")
    note = form.text("note").replace("\r\n", "\n")
    more = form.number("worst"), form.number("intent")
    verdict = Verdict(form.text("nonce"), rating, form.many("tags"), note, *more)
    with writing(visit.service.database) as connection:
        keep_review(connection, visit.person, id, verdict, _agreement(visit))
    return see("/review")


def _agreement(visit: Visit) -> str:
    """The words to which authors of attempts agree, if this collection has attempts."""
    return visit.service.words.versions.get(HARMLESS, "")


def skip_review(visit: Visit) -> RedirectResponse:
    """Gives a transcript back."""
    with writing(visit.service.database) as connection:
        give_back(connection, visit.person, visit.id)
    return see("/review")


def me_page(visit: Visit) -> HTMLResponse:
    """How much data there is on the person."""
    with reading(visit.service.database) as connection:
        data = data_of(connection, visit.person.id)
    counts = {name: len(rows) for name, rows in data.items() if name != "person"}
    return show(visit, "me", "Your data", counts=counts, contact=visit.service.config.contact)


def my_data(visit: Visit) -> JSONResponse:
    """All data of the person."""
    with reading(visit.service.database) as connection:
        return attached(data_of(connection, visit.person.id), "my-data.json")


def forget_me(visit: Visit) -> Response:
    """Deletes the person with all their data; the form says `sure=yes`."""
    if visit.form.text("sure") != SURE:
        raise Refusal("nothing was deleted: tick that you are sure, and send it again")
    with writing(visit.service.database) as connection:
        check_may_remove(connection, visit.person, visit.person.id)
        forget(connection, visit.person.id)
    return gone(visit, "forgotten")


def attached(data: object, name: str) -> JSONResponse:
    """Data as a download."""
    return JSONResponse(data, headers={"content-disposition": f'attachment; filename="{name}"'})
