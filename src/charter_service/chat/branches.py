"""What a person's chats hold: the list, a branch of messages, and where a message stands among its siblings.

Only the parent of a message is stored, and the chat's leaf: the end of the branch that is shown. A request for another
person's chat gets the answer that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, literal, select

from charter_service.chat.attached import File, by_message
from charter_service.chat.reply_options import USUAL, ChatSettings
from charter_service.chat.tool_calls import ToolCall, calls_of
from charter_service.people.tables import CHATS, MESSAGES
from charter_service.people.workers import Person
from charter_service.web.refusal import NotFound

RUNNING, DONE, STOPPED, REFUSED, FAILED = "running", "done", "stopped", "refused", "failed"
CUT = ("max_tokens", "model_context_window_exceeded", "pause_turn")  # reasons to stop before the end
NO_CHAT = "there is no such chat, or it isn't yours"
NO_MESSAGE = "there is no such message, or it isn't yours"


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat without its messages."""

    id: str
    title: str
    model: str
    leaf: str
    draft: str
    pinned: bool
    archived: bool
    created: float
    touched: float
    settings: ChatSettings = USUAL


@dataclass(frozen=True, slots=True)
class Message:
    """A message; `place` and `siblings`: which one it is of how many that answer, or ask, the same. A branch
    knows its files and calls of tools."""

    id: str
    chat: str
    parent: str
    role: str
    author: str
    state: str
    text: str
    model: str
    request: str
    stop: str
    reason: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    thumb: str
    created: float
    citations: str = "[]"  # JSON
    quotes_unfound: int = 0
    temperature: float | None = None
    category: str = ""
    appealed: bool = False
    place: int = 1
    siblings: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    calls: tuple[ToolCall, ...] = ()

    @property
    def running(self) -> bool:
        """Whether the model still writes it."""
        return self.state == RUNNING

    @property
    def written_by(self) -> str:
        """Who wrote a reply: its model, at which temperature if one was asked for, or the person who rewrote it."""
        if self.author == "edited":
            return f"{self.model}, edited by you" if self.model else "Brought in or edited by you"
        return self.model if self.temperature is None else f"{self.model}, temperature {self.temperature:g}"

    @property
    def cut(self) -> bool:
        """Whether the model could go on: the reply was stopped, failed, paused, or reached its limit of tokens."""
        return self.role == "assistant" and (self.state in (STOPPED, FAILED) or self.stop in CUT)


_FIELDS = [c for c in MESSAGES.c if c.name not in ("serial", "number", "client", "ended")]


def chat_of(connection: Connection, person: Person, id: str, deleted: bool = False) -> Chat:
    """A chat of a person; with `deleted` also one that can still be restored. Raises NotFound."""
    query = select(CHATS).where(CHATS.c.id == id, CHATS.c.person == person.id)
    row = connection.execute(query).first()
    if row is None or (row.deleted is not None and not deleted):
        raise NotFound(NO_CHAT)
    return _chat(row)


def whose(connection: Connection, id: str) -> tuple[int, ChatSettings]:
    """The person of a chat, and what that person set for its replies."""
    columns = CHATS.c.person, CHATS.c.instructions, CHATS.c.temperature, CHATS.c.max_tokens
    person, *settings = connection.execute(select(*columns).where(CHATS.c.id == id)).one()
    return person, ChatSettings(*settings)


def message_of(connection: Connection, person: Person, id: str) -> Message:
    """A message in a chat of a person. Raises NotFound."""
    query = (
        select(*_FIELDS)
        .join(CHATS, CHATS.c.id == MESSAGES.c.chat)
        .where(MESSAGES.c.id == id, CHATS.c.person == person.id, CHATS.c.deleted.is_(None))
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(NO_MESSAGE)
    return Message(**row._mapping)


def list_chats(connection: Connection, person: Person, archived: bool = False, most: int = 200) -> list[Chat]:
    """The newest chats of a person, pinned ones first; without their drafts and instructions, which are long."""
    columns = (c for c in CHATS.c if c.name not in ("draft", "instructions"))
    query: Select[Any] = (
        select(*columns, literal("").label("draft"), literal("").label("instructions"))
        .where(CHATS.c.person == person.id, CHATS.c.deleted.is_(None), CHATS.c.archived.is_(archived))
        .order_by(CHATS.c.pinned.desc(), CHATS.c.touched.desc(), CHATS.c.id)
        .limit(most)
    )
    return [_chat(row) for row in connection.execute(query)]


def branch(connection: Connection, leaf: str, most: int | None = None) -> list[Message]:
    """The messages from the beginning of a chat to one of its messages, or the last `most` of them."""
    if not leaf:
        return []
    line = select(MESSAGES.c.id, MESSAGES.c.parent, literal(0).label("height")).where(MESSAGES.c.id == leaf)
    up = line.cte("up", recursive=True)
    step = select(MESSAGES.c.id, MESSAGES.c.parent, up.c.height + 1).where(MESSAGES.c.id == up.c.parent)
    if most is not None:
        step = step.where(up.c.height + 1 < most)
    up = up.union_all(step)
    query = select(*_FIELDS).join(up, up.c.id == MESSAGES.c.id).order_by(up.c.height.desc())
    rows = connection.execute(query).all()
    families = _siblings(connection, rows)
    files = by_message(connection, rows[0].chat) if rows else {}
    calls = calls_of(connection, [row.id for row in rows if row.role == "assistant"])
    return [
        Message(
            **row._mapping,
            place=families[row.parent].index(row.id) + 1,
            siblings=tuple(families[row.parent]),
            files=files.get(row.id, ()),
            calls=tuple(calls.get(row.id, ())),
        )
        for row in rows
    ]


def later_than(connection: Connection, leaf: str, id: str, most: int) -> list[str]:
    """Ids of the first `most` messages after one on the way to a leaf; none if it isn't on that way."""
    line = select(MESSAGES.c.id, MESSAGES.c.parent, literal(0).label("height")).where(MESSAGES.c.id == leaf)
    up = line.cte("way", recursive=True)
    step = select(MESSAGES.c.id, MESSAGES.c.parent, up.c.height + 1)
    up = up.union_all(step.where(MESSAGES.c.id == up.c.parent, up.c.id != id))
    way = connection.execute(select(up.c.id).order_by(up.c.height.desc()).limit(most + 1)).scalars().all()
    return list(way[1:]) if way and way[0] == id else []


def length_of(connection: Connection, leaf: str) -> int:
    """How many messages lead to one, itself included."""
    line = select(MESSAGES.c.id, MESSAGES.c.parent).where(MESSAGES.c.id == leaf).cte("line", recursive=True)
    line = line.union_all(select(MESSAGES.c.id, MESSAGES.c.parent).where(MESSAGES.c.id == line.c.parent))
    return connection.execute(select(func.count()).select_from(line)).scalar_one()


def fitting(connection: Connection, leaf: str, most: int, characters: int) -> int:
    """How many messages before one, itself included and at most `most`, have no more than so many characters; at least
    one."""
    length = func.length(MESSAGES.c.text)
    line = select(MESSAGES.c.parent, length.label("size"), literal(1).label("height"))
    up = line.where(MESSAGES.c.id == leaf).cte("sizes", recursive=True)
    step = select(MESSAGES.c.parent, length, up.c.height + 1)
    up = up.union_all(step.where(MESSAGES.c.id == up.c.parent, up.c.height < most))
    count = 0
    for size in connection.execute(select(up.c.size).order_by(up.c.height)).scalars():
        characters -= size
        if characters < 0 and count:
            break
        count += 1
    return count


def _siblings(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Ids of the children of each message's parent, in the order of their making."""
    families: dict[str, list[str]] = {row.parent: [] for row in rows}
    if not rows:
        return families
    query = (
        select(MESSAGES.c.id, MESSAGES.c.parent)
        .where(MESSAGES.c.chat == rows[0].chat, MESSAGES.c.parent.in_(list(families)))
        .order_by(MESSAGES.c.number)
    )
    for row in connection.execute(query):
        families[row.parent].append(row.id)
    return families


def _chat(row: Row[Any]) -> Chat:
    return Chat(
        row.id,
        row.title,
        row.model,
        row.leaf,
        row.draft,
        bool(row.pinned),
        bool(row.archived),
        row.created,
        row.touched,
        ChatSettings(row.instructions, row.temperature, row.max_tokens),
    )
