"""The work itself: a person's message, two replies of hidden models, a choice, and on with the chosen reply.

Each function is one decision inside one transaction. It checks that what it is asked for is the person's own and still
open, so that a page that is out of date, sent twice or made up changes nothing: the same answer again is taken as that
answer, another one is refused. Sources: Bai 2022a, section 2; Ganguli 2022, section 3.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import HARMLESS, RATINGS, Ballot
from charter.ground.text.dialogue import check_text
from charter.service.people.collection import Collection
from charter.service.people.conversations import (
    OPEN,
    open_conversation,
    own_conversation,
    own_turn,
    state_of,
    turns_of,
    votes_by,
)
from charter.service.people.single import Single, draw_single, usual_wait
from charter.service.people.tables import CONVERSATIONS, TURNS, VOTES
from charter.service.people.workers import Person, lock, note
from charter.service.web.refusal import NotFound, Refusal, Stale
from charter.service.web.tokens import new_id, new_token

FEELINGS = (1, 2, 3, 4, 5)
HOUR = 3600.0


def begin(connection: Connection, collection: Collection, person: Person, axis: str, plan: str = "") -> str:
    """Begins a conversation and returns its id; the one that is open on this axis, if there is one.

    Raises Refusal where the task isn't offered, the person may not work on it or has reached a limit, and for a
    red-team attempt without a plan.
    """
    if axis not in collection.tasks:
        raise NotFound(f"there is no task {axis!r} here")
    if not person.may("worker"):
        raise Refusal("your invitation is not for this task", 403)
    lock(connection, person)
    if found := open_conversation(connection, person, axis):
        return found
    plan = _text(plan, "plan", collection.pace.longest, empty=axis != HARMLESS)
    _check_limits(connection, collection, person)
    made = new_id()
    kind = collection.kind_of(axis, made)
    single = draw_single(connection, collection, person, axis, made, kind)
    row = {"id": made, "person": person.id, "axis": axis, "state": OPEN, "plan": plan, "created": time.time()}
    connection.execute(
        insert(CONVERSATIONS).values(
            **row, kind=single.kind if single else "chat", source=single.source if single else ""
        )
    )
    if single is not None:
        _add_single(connection, collection, axis, made, single)
    return made


def ask(
    connection: Connection, collection: Collection, person: Person, conversation: str, number: int, text: str
) -> str:
    """The person's message as turn `number`; returns the turn's id. Models are drawn for it and will reply.

    Raises Refusal for an empty or too long message and where limits are reached, Stale where that turn exists with
    other words, or the one before it has no choice yet.
    """
    found = own_conversation(connection, person, conversation)
    text = _text(text, "message", collection.pace.longest)
    turns = turns_of(connection, conversation)
    if 0 < number <= len(turns) and turns[number - 1].prompt == text:
        return str(turns[number - 1].id)
    if found.state != OPEN or number != len(turns) + 1:
        raise Stale("this message was sent from a page that is out of date; the conversation has gone on")
    if found.kind != "chat" or number > collection.tasks[found.axis].turns:
        raise Stale("this conversation has had all its turns; finish it")
    if turns and turns[-1].state != "voted":
        raise Stale("choose between the two replies first")
    lock(connection, person)
    _check_limits(connection, collection, person)
    models = collection.models_of(found.axis, conversation, number)
    return _add_turn(connection, collection, conversation, number, text, models)


def deliver(connection: Connection, turn: str, replies: tuple[str, str]) -> None:
    """Both replies of a turn at once: nobody sees the one that was ready first. A turn that has replies keeps them."""
    first, second = map(_storable, replies)
    connection.execute(
        update(TURNS)
        .where(TURNS.c.id == turn, TURNS.c.state == "waiting")
        .values(reply_a=first, reply_b=second, state="ready", ready=time.time(), problem="")
    )


def fail(connection: Connection, turn: str, problem: str) -> None:
    """Keeps why a turn got no replies; `retry` asks again."""
    connection.execute(
        update(TURNS)
        .where(TURNS.c.id == turn, TURNS.c.state == "waiting")
        .values(state="failed", problem=_storable(" ".join(problem.split())[:400]))
    )


def retry(connection: Connection, person: Person, turn: str) -> None:
    """Asks the models of a failed turn again. Raises Stale for a turn that did not fail."""
    found = own_turn(connection, person, turn)
    if found.state == "failed":
        connection.execute(update(TURNS).where(TURNS.c.id == turn).values(state="waiting"))
    elif found.state != "waiting":
        raise Stale("this turn has its replies")


@dataclass(frozen=True, slots=True)
class Vote:
    """What a form says of one turn: the turn's own nonce, the choice, and the picked reply as edited, if it was."""

    nonce: str
    ballot: Ballot
    edited: str | None = None


def vote(connection: Connection, collection: Collection, person: Person, turn: str, given: Vote) -> str:
    """Keeps a choice; returns the conversation's id. Sent again, the same choice changes nothing.

    Raises NotFound for another's turn, Refusal for a form that was not made for it, Stale for a second, different
    choice, and for a turn whose replies are not there yet.
    """
    found = own_turn(connection, person, turn)
    if not hmac.compare_digest(found.nonce.encode(), given.nonce.encode("utf-8", "surrogatepass")):
        raise Refusal("this form was not made for this turn; reload the page", 403)
    ballot, edited = given.ballot, _edited(given, found, collection.pace.longest)
    if (before := connection.execute(select(VOTES).where(VOTES.c.turn == turn)).first()) is not None:
        if (before.outcome, before.strength, before.edited) == (ballot.outcome, ballot.strength, edited):
            return str(found.conversation)
        raise Stale("you have chosen already, and the conversation has gone on")
    if state_of(found) != "ready":
        raise Stale("the replies are not complete yet")
    if found.conversation_state != OPEN:
        raise Stale("this conversation is closed")
    now = time.time()
    seconds = now - (found.ready or now)
    flags = " ".join(_flags(connection, collection, person, found, seconds))
    row = {"turn": turn, "person": person.id, "seconds": seconds, "flags": flags, "created": now}
    try:
        connection.execute(
            insert(VOTES).values(**row, outcome=ballot.outcome, strength=ballot.strength, edited=edited)
        )
    except IntegrityError:
        raise Stale("you have chosen already") from None
    connection.execute(update(TURNS).where(TURNS.c.id == turn).values(state="voted"))
    if found.kind != "chat":
        _close(connection, found.conversation, "finished")
    return str(found.conversation)


def finish(
    connection: Connection,
    person: Person,
    conversation: str,
    rating: int | None = None,
    feeling: int | None = None,
) -> None:
    """Ends a conversation that has a choice, a red-team attempt with its success from 0 to 4; `feeling` is well-being
    from 1 to 5, if the person cares to say. Finished again with the same rating, nothing changes.

    Raises Refusal for a rating that is none, Stale where there is nothing to finish.
    """
    found = own_conversation(connection, person, conversation)
    if found.axis == HARMLESS and found.kind == "chat" and rating not in RATINGS:
        raise Refusal("say how well the attempt succeeded, from 0 (not at all) to 4 (completely)")
    if feeling is not None and feeling not in FEELINGS:
        raise Refusal("how you feel is a number from 1 to 5, or nothing")
    if found.state == "finished" and found.rating == rating:
        return
    turns = turns_of(connection, conversation)
    if found.state != OPEN or not any(turn.state == "voted" for turn in turns):
        raise Stale("this conversation is closed, or nothing was chosen in it; skip it instead")
    rated = rating if found.axis == HARMLESS else None
    _close(connection, conversation, "finished", rating=rated, feeling=feeling)


def leave(connection: Connection, person: Person, conversation: str, how: str) -> None:
    """Stops a conversation ("stopped": what was chosen counts) or skips it ("skipped": nothing in it counts); at any
    time, without a reason. Raises Refusal for another word, Stale where it is closed otherwise."""
    found = own_conversation(connection, person, conversation)
    if how not in ("stopped", "skipped"):
        raise Refusal("a conversation is stopped or skipped")
    if found.state not in (OPEN, how):
        raise Stale("this conversation is closed")
    if found.state == OPEN:
        _close(connection, conversation, how)
        note(connection, person.id, how, found.axis)


def _add_turn(
    connection: Connection,
    collection: Collection,
    conversation: str,
    number: int,
    text: str,
    models: tuple[str, str],
) -> str:
    made, now = new_id(), time.time()
    row = {"id": made, "conversation": conversation, "number": number, "prompt": text, "created": now}
    row |= {
        "model_a": models[0],
        "model_b": models[1],
        "nonce": new_token(),
        "problem": "",
        "state": "waiting",
    }
    row |= {"shown_left": collection.left_of(made), "seed": derive_seed(collection.seed, "turn", made)}
    try:
        connection.execute(insert(TURNS).values(**row))
    except IntegrityError:
        raise Stale(
            "this message was sent from a page that is out of date; the conversation has gone on"
        ) from None
    return made


def _add_single(
    connection: Connection, collection: Collection, axis: str, conversation: str, single: Single
) -> None:
    models = single.models or collection.models_of(axis, conversation, 1)
    made = _add_turn(connection, collection, conversation, 1, single.prompt, models)
    if single.replies is not None:
        a, b = single.replies
        ready = time.time() + usual_wait(connection, collection, conversation)
        known = {"state": "ready", "reply_a": a, "reply_b": b, "ready": ready}
        connection.execute(update(TURNS).where(TURNS.c.id == made).values(**known))


def _check_limits(connection: Connection, collection: Collection, person: Person) -> None:
    quota = person.quota or collection.pace.quota
    if quota and votes_by(connection, person) >= quota:
        raise Refusal(f"thank you: you have given all {quota} votes that were asked of you", 403)
    wanted = (
        select(func.count())
        .select_from(TURNS.join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation))
        .where(CONVERSATIONS.c.person == person.id, TURNS.c.created > time.time() - HOUR)
    )
    if connection.execute(wanted).scalar_one() >= collection.pace.turns_per_hour:
        raise Refusal("you have done as much as one person may in an hour; please take a break", 429)


def _flags(
    connection: Connection, collection: Collection, person: Person, turn: Row[Any], seconds: float
) -> list[str]:
    """What is suspicious about a choice: no time to read, or a message that the same person has sent before."""
    found = ["fast"] if seconds < collection.pace.fastest else []
    if turn.kind == "chat":
        same = (
            select(func.count())
            .select_from(TURNS.join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation))
            .where(CONVERSATIONS.c.person == person.id, TURNS.c.prompt == turn.prompt, TURNS.c.id != turn.id)
        )
        found += ["duplicate"] if connection.execute(same).scalar_one() else []
    return found


def _edited(given: Vote, turn: Row[Any], longest: int) -> str | None:
    """The edited reply; None where nothing was changed. Raises Refusal for one without a reply that it is made from."""
    if given.edited is None or not given.edited.strip():
        return None
    if given.ballot.outcome not in ("a", "b"):
        raise Refusal("only the reply that you choose can be edited")
    original = turn.reply_a if given.ballot.outcome == "a" else turn.reply_b
    text = _text(given.edited, "edited reply", max(longest, 2 * len(original or "")))
    return None if text == (original or "").strip() else text


def _storable(text: str) -> str:
    """What a model or a server said, without what a database can't hold: null characters, halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def _text(text: str, what: str, longest: int, empty: bool = False) -> str:
    text = text.replace("\r\n", "\n").strip()
    if not text and not empty:
        raise Refusal(f"the {what} is empty; write one")
    if "\0" in text:
        raise Refusal(f"the {what} has a null character, which is no text; remove it")
    if len(text) > longest:
        raise Refusal(
            f"the {what} has {len(text):,} characters, at most {longest:,} are taken; shorten it", 413
        )
    try:
        return check_text(text, what)
    except CharterError as error:
        raise Refusal(str(error)) from None


def _close(connection: Connection, conversation: str, state: str, **more: int | None) -> None:
    values = {"state": state, "finished": time.time(), **more}
    connection.execute(update(CONVERSATIONS).where(CONVERSATIONS.c.id == conversation).values(**values))
