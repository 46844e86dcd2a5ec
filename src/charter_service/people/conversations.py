"""The state of conversations: what a person may see of them, and the turns that models have to answer.

A request for another person's conversation or turn gets the answer that there is none. Nothing here names a model to
a person.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from charter.ground.text.ballot import Side
from charter.ground.text.dialogue import Message, assistant, user
from charter_service.people.tables import CONVERSATIONS, TURNS, VOTES
from charter_service.people.workers import Person
from charter_service.web.refusal import NotFound

OPEN = "open"


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as its person may see it. `replies` are the left and the right one once both are complete, else None."""

    id: str
    number: int
    prompt: str
    state: str
    replies: tuple[str, str] | None
    left: Side
    nonce: str
    picked: str | None  # the reply with which the conversation continued
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as its person may see it."""

    id: str
    axis: str
    kind: str
    state: str
    plan: str
    turns: tuple[Turn, ...]
    rating: int | None


def open_conversation(connection: Connection, person: Person, axis: str) -> str | None:
    """The conversation of a person that is open on an axis, or None."""
    query = select(CONVERSATIONS.c.id).where(
        CONVERSATIONS.c.person == person.id, CONVERSATIONS.c.axis == axis, CONVERSATIONS.c.state == OPEN
    )
    id: str | None = connection.execute(query).scalar()
    return id


def waiting_turns(connection: Connection) -> list[tuple[str, str, str, int, list[Message]]]:
    """Turns that wait for replies, oldest first: id, the two models, seed, and the messages to reply to."""
    query = (
        select(TURNS)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(TURNS.c.state == "waiting", CONVERSATIONS.c.state == OPEN)
        .order_by(TURNS.c.created)
    )
    turns = connection.execute(query).all()
    return [(t.id, t.model_a, t.model_b, t.seed, messages_before(connection, t.conversation, t.number)) for t in turns]


def messages_before(connection: Connection, conversation: str, number: int) -> list[Message]:
    """The messages that a turn's replies answer: all earlier turns with their chosen replies, and the turn's prompt."""
    messages: list[Message] = []
    for turn in turns_of(connection, conversation)[:number]:
        messages.append(user(turn.prompt))
        if turn.number < number:
            messages.append(assistant(picked_reply(turn) or ""))
    return messages


def conversation_of(connection: Connection, person: Person, conversation: str) -> Conversation:
    """A person's own conversation. Raises NotFound if it is another's."""
    row = own_conversation(connection, person, conversation)
    turns = tuple(_turn_of(turn) for turn in turns_of(connection, conversation))
    return Conversation(row.id, row.axis, row.kind, row.state, row.plan, turns, row.rating)


def turn_state(connection: Connection, person: Person, turn: str) -> str:
    """Whether a person's turn is waiting, ready, voted or failed. Raises NotFound."""
    return state_of(own_turn(connection, person, turn))


def state_of(turn: Row[Any]) -> str:
    """The state of a turn as its person sees it: replies known from the start appear when others would."""
    early = turn.state == "ready" and (turn.ready or 0.0) > time.time()
    return "waiting" if early else str(turn.state)


def votes_by(connection: Connection, person: Person) -> int:
    """How many choices a person has made."""
    count = connection.execute(select(func.count()).select_from(VOTES).where(VOTES.c.person == person.id))
    return int(count.scalar_one())


def own_conversation(connection: Connection, person: Person, conversation: str) -> Row[Any]:
    """A person's own conversation as a row, locked for a decision on it. Raises NotFound."""
    query = (
        select(CONVERSATIONS)
        .where(CONVERSATIONS.c.id == conversation, CONVERSATIONS.c.person == person.id)
        .with_for_update()
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound
    return row


def own_turn(connection: Connection, person: Person, turn: str) -> Row[Any]:
    """A person\'s own turn as a row, with its conversation\'s kind, axis and state, locked. Raises NotFound."""
    query = (
        select(TURNS, CONVERSATIONS.c.kind, CONVERSATIONS.c.axis, CONVERSATIONS.c.state.label("conversation_state"))
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(TURNS.c.id == turn, CONVERSATIONS.c.person == person.id)
        .with_for_update()
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound
    return row


def turns_of(connection: Connection, conversation: str) -> Sequence[Row[Any]]:
    """The turns of a conversation in order, with the choices."""
    query = (
        select(TURNS, VOTES.c.outcome, VOTES.c.edited)
        .outerjoin(VOTES, VOTES.c.turn == TURNS.c.id)
        .where(TURNS.c.conversation == conversation)
        .order_by(TURNS.c.number)
    )
    return connection.execute(query).all()


def picked_reply(turn: Row[Any]) -> str | None:
    """The reply with which a conversation continues: the chosen one as edited, else the left one."""
    if turn.outcome is None:
        return None
    if turn.edited is not None:
        return str(turn.edited)
    side = turn.outcome if turn.outcome in ("a", "b") else turn.shown_left
    return str(turn.reply_a if side == "a" else turn.reply_b)


def _turn_of(turn: Row[Any]) -> Turn:
    replies, state, left_model = None, state_of(turn), turn.shown_left
    if state in ("ready", "voted"):
        replies = (turn.reply_a, turn.reply_b) if turn.shown_left == "a" else (turn.reply_b, turn.reply_a)
    return Turn(
        turn.id, turn.number, turn.prompt, state, replies, left_model, turn.nonce, picked_reply(turn), turn.outcome
    )
