"""The work itself: a person's message, two replies of unnamed models, a choice, and the next turn after that choice.

Each function is one decision inside one transaction. It checks that the subject belongs to the person and is still
open, so an outdated page, a form sent twice or a forged form changes nothing: the same answer again is accepted,
another one is refused. Sources: Bai 2022a, section 2; Ganguli 2022, section 3.

A single question is a given prompt, a gold question, or replies that another person has already judged. All look alike
to the person who answers, and their replies take as long as others. Nobody sees what other people wrote: only given
prompts are repeated.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import HARMLESS, RATINGS, Ballot
from charter.ground.text.dialogue import check_text
from charter_service.people.collection import Collection, Kind
from charter_service.people.conversations import (
    OPEN,
    open_conversation,
    own_conversation,
    own_turn,
    state_of,
    turns_of,
    votes_by,
)
from charter_service.people.tables import CONVERSATIONS, PEOPLE, TURNS, VOTES
from charter_service.people.wellbeing import check_break
from charter_service.people.workers import Person, lock, note
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id, new_token

GOLD_MODELS = ("gold:good", "gold:bad")
RECENT = 50  # last turns that measure how long models take
SHORTEST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds
FEELINGS = (1, 2, 3, 4, 5)
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Single:
    """A prompt with its models and replies, if known; None if the models are still to be drawn."""

    kind: Kind
    source: str
    prompt: str
    models: tuple[str, str] | None = None
    replies: tuple[str, str] | None = None


def draw_single(
    connection: Connection, collection: Collection, person: Person, axis: str, conversation: str, kind: Kind
) -> Single | None:
    """A question of `kind` that the person has not had; a given prompt if no repeat is left; None if there is none of
    the kind, or free conversation was drawn."""
    if kind == "chat":
        return None
    rng = collection.draw("single", conversation)
    had = set(
        connection.execute(
            select(CONVERSATIONS.c.source).where(
                CONVERSATIONS.c.person == person.id, CONVERSATIONS.c.axis == axis, CONVERSATIONS.c.kind != "chat"
            )
        ).scalars()
    )
    if kind == "gold":
        golds = [g for g in collection.golds.get(axis, ()) if g.id not in had]
        if not golds:
            return None
        gold = rng.choice(golds)
        return Single("gold", gold.id, gold.prompt, GOLD_MODELS, (gold.good, gold.bad))
    if kind == "repeat" and (repeat := _repeat(connection, person, axis, had)) is not None:
        return repeat
    openings = [o for o in collection.openings.get(axis, ()) if o.id not in had]
    if not openings:
        return None
    opening = rng.choice(openings)
    return Single("given", opening.id, opening.prompt)


def usual_wait(connection: Connection, collection: Collection, conversation: str) -> float:
    """Seconds to hold back known replies, so that speed doesn't give away a gold question or a repeat: about the recent
    time of models, 0 if they are almost instant."""
    query = (
        select(TURNS.c.ready - TURNS.c.created)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(CONVERSATIONS.c.kind.in_(("chat", "given")), TURNS.c.ready.is_not(None))
        .order_by(TURNS.c.created.desc())
        .limit(RECENT)
    )
    took = [float(seconds) for seconds in connection.execute(query).scalars()]
    wait = median(took) * collection.draw("wait", conversation).uniform(0.6, 1.4) if took else 0.0
    return 0.0 if wait < SHORTEST_WAIT else min(LONGEST_WAIT, wait)


def _repeat(connection: Connection, person: Person, axis: str, had: set[str]) -> Single | None:
    """The given prompt, judged once by somebody else, that has waited longest for a second opinion; people and
    simulated raters repeat only their own kind's."""
    repeated = select(CONVERSATIONS.c.source).where(CONVERSATIONS.c.kind == "repeat")
    query = (
        select(TURNS, CONVERSATIONS.c.source)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .join(VOTES, VOTES.c.turn == TURNS.c.id)
        .join(PEOPLE, PEOPLE.c.id == CONVERSATIONS.c.person)
        .where(
            PEOPLE.c.simulated.is_(person.simulated),
            CONVERSATIONS.c.kind == "given",
            CONVERSATIONS.c.axis == axis,
            CONVERSATIONS.c.person != person.id,
            TURNS.c.id.not_in(repeated),
        )
        .order_by(VOTES.c.created)
        .limit(50)
    )
    for turn in connection.execute(query):
        if turn.source not in had:
            return Single("repeat", turn.id, turn.prompt, (turn.model_a, turn.model_b), (turn.reply_a, turn.reply_b))
    return None


def begin(connection: Connection, collection: Collection, person: Person, axis: str, plan: str = "") -> str:
    """Begins a conversation and returns its id, or that of the conversation already open on this axis.

    Raises Refusal if the task isn't offered, the person may not work on it or has reached a limit, or a red-team
    attempt has no plan.
    """
    if axis not in collection.tasks:
        raise NotFound(f"there is no task {axis!r} here")
    if not person.may("worker"):
        raise Refusal("your invitation is not for this task", 403)
    lock(connection, person)
    check_break(connection, person)
    if open_id := open_conversation(connection, person, axis):
        return open_id
    plan = _text(plan, "plan", collection.pace.longest, empty=axis != HARMLESS)
    _check_limits(connection, collection, person)
    id = new_id()
    kind = collection.kind_of(axis, id)
    single = draw_single(connection, collection, person, axis, id, kind)
    row = {"id": id, "person": person.id, "axis": axis, "state": OPEN, "plan": plan, "created": time.time()}
    connection.execute(
        insert(CONVERSATIONS).values(
            **row, kind=single.kind if single else "chat", source=single.source if single else ""
        )
    )
    if single is not None:
        _add_single(connection, collection, axis, id, single)
    return id


def ask(
    connection: Connection, collection: Collection, person: Person, conversation: str, number: int, text: str
) -> str:
    """The person's message as turn `number`; returns the turn's id. Models are drawn for it and will reply.

    Raises Refusal if the message is empty or too long, or a limit is reached; Stale if the turn exists with other
    words, or the turn before it has no choice yet.
    """
    row = own_conversation(connection, person, conversation)
    text = _text(text, "message", collection.pace.longest)
    turns = turns_of(connection, conversation)
    if 0 < number <= len(turns) and turns[number - 1].prompt == text:
        return str(turns[number - 1].id)
    if row.state != OPEN or number != len(turns) + 1:
        raise Stale("this page is out of date: the conversation has moved on; reload the page")
    if row.kind != "chat" or number > collection.tasks[row.axis].turns:
        raise Stale("this conversation has had all its turns; finish it")
    if turns and turns[-1].state != "voted":
        raise Stale("choose between the two replies first")
    lock(connection, person)
    check_break(connection, person)
    _check_limits(connection, collection, person)
    models = collection.models_of(row.axis, conversation, number)
    return _add_turn(connection, collection, conversation, number, text, models)


def deliver(connection: Connection, turn: str, replies: tuple[str, str]) -> None:
    """Stores both replies of a turn at once: nobody sees which was ready first. A turn that has replies keeps them."""
    first, second = map(_storable, replies)
    connection.execute(
        update(TURNS)
        .where(TURNS.c.id == turn, TURNS.c.state == "waiting")
        .values(reply_a=first, reply_b=second, state="ready", ready=time.time(), problem="")
    )


def fail(connection: Connection, turn: str, problem: str) -> None:
    """Stores why a turn got no replies; `retry` asks again."""
    connection.execute(
        update(TURNS)
        .where(TURNS.c.id == turn, TURNS.c.state == "waiting")
        .values(state="failed", problem=_storable(" ".join(problem.split())[:400]))
    )


def retry(connection: Connection, person: Person, turn: str) -> None:
    """Asks the models of a failed turn again. Raises Stale for a turn that did not fail."""
    row = own_turn(connection, person, turn)
    if row.state == "failed":
        connection.execute(update(TURNS).where(TURNS.c.id == turn).values(state="waiting"))
    elif row.state != "waiting":
        raise Stale("this turn already has its replies")


@dataclass(frozen=True, slots=True)
class Vote:
    """The content of a turn's form: the turn's nonce, the choice, and the picked reply if it was edited."""

    nonce: str
    ballot: Ballot
    edited: str | None = None


def vote(connection: Connection, collection: Collection, person: Person, turn: str, choice: Vote) -> str:
    """Stores a choice; returns the conversation's id. Sent again, the same choice changes nothing.

    Raises NotFound for another's turn, Refusal if the form belongs to another turn, Stale for a second, different
    choice, and if the turn has no replies yet.
    """
    turn_row = own_turn(connection, person, turn)
    if not hmac.compare_digest(turn_row.nonce.encode(), choice.nonce.encode("utf-8", "surrogatepass")):
        raise Refusal("this form was not made for this turn; reload the page", 403)
    ballot, edited = choice.ballot, _edited(choice, turn_row, collection.pace.longest)
    if (before := connection.execute(select(VOTES).where(VOTES.c.turn == turn)).first()) is not None:
        if (before.outcome, before.strength, before.edited) == (ballot.outcome, ballot.strength, edited):
            return str(turn_row.conversation)
        raise Stale("you have already chosen, and the conversation has moved on")
    if state_of(turn_row) != "ready":
        raise Stale("the replies are not complete yet")
    if turn_row.conversation_state != OPEN:
        raise Stale("this conversation is closed")
    now = time.time()
    seconds = now - (turn_row.ready or now)
    flags = " ".join(_flags(connection, collection, person, turn_row, seconds))
    row = {"turn": turn, "person": person.id, "seconds": seconds, "flags": flags, "created": now}
    try:
        connection.execute(insert(VOTES).values(**row, outcome=ballot.outcome, strength=ballot.strength, edited=edited))
    except IntegrityError:
        raise Stale("you have chosen already") from None
    connection.execute(update(TURNS).where(TURNS.c.id == turn).values(state="voted"))
    if turn_row.kind != "chat":
        _close(connection, turn_row.conversation, "finished")
    return str(turn_row.conversation)


def finish(
    connection: Connection, person: Person, conversation: str, rating: int | None = None, feeling: int | None = None
) -> None:
    """Ends a conversation that has a choice. A red-team attempt needs its success, from 0 to 4; `feeling` is optional
    well-being from 1 to 5. Finishing again with the same rating changes nothing.

    Raises Refusal for an invalid rating, Stale if there is nothing to finish.
    """
    row = own_conversation(connection, person, conversation)
    if row.axis == HARMLESS and row.kind == "chat" and rating not in RATINGS:
        raise Refusal("choose how well the attempt succeeded, from 0 (not at all) to 4 (completely)")
    if feeling is not None and feeling not in FEELINGS:
        raise Refusal("how you feel must be a number from 1 to 5, or empty")
    if row.state == "finished" and row.rating == rating:
        return
    turns = turns_of(connection, conversation)
    if row.state != OPEN or not any(turn.state == "voted" for turn in turns):
        raise Stale("this conversation is closed, or nothing was chosen in it; skip it instead")
    rated = rating if row.axis == HARMLESS else None
    _close(connection, conversation, "finished", rating=rated, feeling=feeling)


def leave(connection: Connection, person: Person, conversation: str, how: str) -> None:
    """Stops a conversation ("stopped": its choices count) or skips it ("skipped": nothing in it counts), at any time
    and without a reason. Raises Refusal for another word, Stale if it was closed in another way."""
    row = own_conversation(connection, person, conversation)
    if how not in ("stopped", "skipped"):
        raise Refusal("a conversation is stopped or skipped")
    if row.state not in (OPEN, how):
        raise Stale("this conversation is closed")
    if row.state == OPEN:
        _close(connection, conversation, how)
        note(connection, person.id, how, row.axis)


def _add_turn(
    connection: Connection, collection: Collection, conversation: str, number: int, text: str, models: tuple[str, str]
) -> str:
    id, now = new_id(), time.time()
    row = {"id": id, "conversation": conversation, "number": number, "prompt": text, "created": now}
    row |= {"model_a": models[0], "model_b": models[1], "nonce": new_token(), "problem": "", "state": "waiting"}
    row |= {"shown_left": collection.left_of(id), "seed": derive_seed(collection.seed, "turn", id)}
    try:
        connection.execute(insert(TURNS).values(**row))
    except IntegrityError:
        raise Stale("this page is out of date: the conversation has moved on; reload the page") from None
    return id


def _add_single(connection: Connection, collection: Collection, axis: str, conversation: str, single: Single) -> None:
    models = single.models or collection.models_of(axis, conversation, 1)
    turn = _add_turn(connection, collection, conversation, 1, single.prompt, models)
    if single.replies is not None:
        a, b = single.replies
        ready = time.time() + usual_wait(connection, collection, conversation)
        values = {"state": "ready", "reply_a": a, "reply_b": b, "ready": ready}
        connection.execute(update(TURNS).where(TURNS.c.id == turn).values(**values))


def _check_limits(connection: Connection, collection: Collection, person: Person) -> None:
    quota = person.quota or collection.pace.quota
    if quota and votes_by(connection, person) >= quota:
        raise Refusal(f"thank you: you have given all {quota} votes that we asked you for", 403)
    query = (
        select(func.count())
        .select_from(TURNS.join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation))
        .where(CONVERSATIONS.c.person == person.id, TURNS.c.created > time.time() - HOUR)
    )
    if connection.execute(query).scalar_one() >= collection.pace.turns_per_hour:
        raise Refusal("you have reached the limit for one hour; please take a break", 429)


def _flags(connection: Connection, collection: Collection, person: Person, turn: Row[Any], seconds: float) -> list[str]:
    """Signs of a suspicious choice: too little time to read, or a message that the same person has sent before."""
    flags = ["fast"] if seconds < collection.pace.fastest else []
    if turn.kind == "chat":
        same = (
            select(func.count())
            .select_from(TURNS.join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation))
            .where(CONVERSATIONS.c.person == person.id, TURNS.c.prompt == turn.prompt, TURNS.c.id != turn.id)
        )
        flags += ["duplicate"] if connection.execute(same).scalar_one() else []
    return flags


def _edited(choice: Vote, turn: Row[Any], longest: int) -> str | None:
    """The edited reply; None if nothing was changed. Raises Refusal if the choice is neither of the two replies."""
    if choice.edited is None or not choice.edited.strip():
        return None
    if choice.ballot.outcome not in ("a", "b"):
        raise Refusal("you can edit only the reply that you choose")
    original = turn.reply_a if choice.ballot.outcome == "a" else turn.reply_b
    text = _text(choice.edited, "edited reply", max(longest, 2 * len(original or "")))
    return None if text == (original or "").strip() else text


def _storable(text: str) -> str:
    """A model's or a server's text without characters that a database can't hold: nulls, lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def _text(text: str, name: str, longest: int, empty: bool = False) -> str:
    text = text.replace("\r\n", "\n").strip()
    if not text and not empty:
        raise Refusal(f"the {name} is empty; write one")
    if "\0" in text:
        raise Refusal(f"the {name} has a null character, which is not text; remove it")
    if len(text) > longest:
        raise Refusal(f"the {name} has {len(text):,} characters, and the limit is {longest:,}; shorten it", 413)
    try:
        return check_text(text, name)
    except CharterError as error:
        raise Refusal(str(error)) from None


def _close(connection: Connection, conversation: str, state: str, **more: int | None) -> None:
    values = {"state": state, "finished": time.time(), **more}
    connection.execute(update(CONVERSATIONS).where(CONVERSATIONS.c.id == conversation).values(**values))
