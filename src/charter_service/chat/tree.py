"""Changes of a person's chats, which are trees of messages: what is sent, tried again, edited, chosen.

Only the parent of a message is stored. Replies to one question are siblings, as are an edited question and the first
one; the branch that is shown ends at the chat's leaf. A message that isn't running never changes. A request for
another person's chat gets the answer that there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from charter_service.chat.attached import give_copies
from charter_service.chat.branches import (
    DONE,
    NO_MESSAGE,
    RUNNING,
    STOPPED,
    Chat,
    Message,
    branch,
    chat_of,
    fitting,
    length_of,
    message_of,
)
from charter_service.chat.reply_options import USUAL, ChatSettings
from charter_service.chat.storage import keep
from charter_service.chat.tool_calls import store_call
from charter_service.people.tables import CHATS, MESSAGES
from charter_service.people.workers import Person
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id

PERSON, MODEL, EDITED = "person", "model", "edited"
LONGEST_TEXT = 1_000_000  # characters of a message
LONGEST_COPY = 8_000_000  # characters of a copied branch
LONGEST_TITLE = 120
TITLE_WORDS = 60  # characters of a first message that become the title
UNDO_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored question and the reply that a model has to write."""

    chat: str
    question: str
    reply: str


def begin(
    connection: Connection, person: Person, model: str, text: str, client: str, settings: ChatSettings = USUAL
) -> Sent:
    """A new chat with its first question. The same `client` again gives the same chat."""
    text = checked(text)
    query = (
        select(MESSAGES.c.chat, MESSAGES.c.id)
        .join(CHATS, CHATS.c.id == MESSAGES.c.chat)
        .where(CHATS.c.person == person.id, MESSAGES.c.client == client, MESSAGES.c.parent == "")
    )
    if client and (row := connection.execute(query).first()):
        return Sent(row.chat, row.id, _reply_to(connection, row.id))
    chat, now = new_id(), time.time()
    connection.execute(
        insert(CHATS).values(
            id=chat,
            person=person.id,
            title=title_of(text),
            titled=False,
            model=model,
            leaf="",
            draft="",
            pinned=False,
            archived=False,
            created=now,
            touched=now,
            **settings.facts,
        )
    )
    return _ask(connection, chat, "", text, model, settings, client)


def ask(
    connection: Connection, person: Person, chat: str, parent: str, text: str, client: str, model: str = ""
) -> Sent:
    """A further question after a reply, to the chat's model or to another one, which is the chat's from then on. The
    same `client` again gives the same question.

    Raises NotFound, Refusal for an empty or too long text, Stale if the reply before it isn't complete.
    """
    text = checked(text)
    chat_row = _lock(connection, person, chat)
    if client and (question := _message_sent_by(connection, chat, client)):
        return Sent(chat, question, _reply_to(connection, question))
    before = message_of(connection, person, parent)
    if before.chat != chat or before.role != "assistant":
        raise NotFound(NO_MESSAGE)
    if before.running:
        raise Stale("the reply before this is still being written; stop it, or wait until it is complete")
    if model and model != chat_row.model:
        connection.execute(update(CHATS).where(CHATS.c.id == chat).values(model=model))
    return _ask(connection, chat, parent, text, model or chat_row.model, chat_row.settings, client)


def edit(connection: Connection, person: Person, question: str, text: str, client: str) -> Sent:
    """Another wording of a question, beside it, and its reply."""
    text = checked(text)
    first = message_of(connection, person, question)
    if first.role != "user":
        raise Refusal("that message is a reply; edit it as one")
    chat_row = _lock(connection, person, first.chat)
    if client and (sent := _message_sent_by(connection, first.chat, client)):
        return Sent(first.chat, sent, _reply_to(connection, sent))
    if not first.parent:  # a title that nobody wrote is the first question's
        untitled = (CHATS.c.id == first.chat, CHATS.c.titled.is_(False))
        connection.execute(update(CHATS).where(*untitled).values(title=title_of(text)))
    return _ask(connection, first.chat, first.parent, text, chat_row.model, chat_row.settings, client)


def retry(
    connection: Connection,
    person: Person,
    reply: str,
    goes_on: bool = False,
    retried_at: Callable[[str], float | None] = lambda _: None,
) -> Sent:
    """Another reply to the same question; with `goes_on` it begins with the text of this one. `retried_at`: the
    temperature at which a model tries again, if the person set none and it would write the same text otherwise."""
    first = message_of(connection, person, reply)
    if first.role != "assistant":
        raise Refusal("that message is a question; send it again to get another reply")
    if not first.parent:
        raise Refusal("no question leads to that reply, so there can be no other one")
    if goes_on and not (first.cut and first.author == MODEL):
        raise Refusal("that reply can't be gone on with; ask for more instead")
    chat_row = _lock(connection, person, first.chat)
    running = select(MESSAGES.c.id).where(
        MESSAGES.c.chat == first.chat, MESSAGES.c.parent == first.parent, MESSAGES.c.state == RUNNING
    )
    if again := connection.execute(running).scalar():  # a double click
        return Sent(first.chat, first.parent, again)
    again_at = chat_row.settings.temperature
    if goes_on:
        again_at = first.temperature
    elif again_at is None and first.model == chat_row.model and first.state in (DONE, STOPPED):
        again_at = retried_at(chat_row.model)
    another = _add_reply(connection, first.chat, first.parent, chat_row.model, again_at, first.text if goes_on else "")
    for call in branch(connection, reply, 1)[0].calls if goes_on else ():
        store_call(connection, another, call)
    return Sent(first.chat, first.parent, another)


def amend(connection: Connection, person: Person, reply: str, text: str) -> str:
    """A reply as the person would have it, beside it and marked as edited. Returns its id."""
    text = checked(text)
    first = message_of(connection, person, reply)
    if first.role != "assistant" or first.running:
        raise Refusal("only a complete reply can be edited")
    _lock(connection, person, first.chat)
    facts = {"role": "assistant", "author": EDITED, "state": DONE, "text": text, "model": first.model}
    id = _add(connection, first.chat, first.parent, facts)
    _show(connection, first.chat, id)
    return id


def choose(connection: Connection, person: Person, message: str) -> str:
    """Shows the branch of a message, down to its newest end. Returns the chat's id."""
    row = message_of(connection, person, message)
    _lock(connection, person, row.chat)
    # the chat goes along, so that no planner reads the whole chat again at each step
    columns = select(MESSAGES.c.id, MESSAGES.c.chat, MESSAGES.c.number)
    down = columns.where(MESSAGES.c.id == message).cte("down", recursive=True)
    down = down.union_all(columns.where(MESSAGES.c.chat == down.c.chat, MESSAGES.c.parent == down.c.id))
    newest = connection.execute(select(down.c.id).order_by(down.c.number.desc()).limit(1)).scalar_one()
    _show(connection, row.chat, newest, touch=False)
    return row.chat


def fork(connection: Connection, person: Person, message: str) -> str:
    """A new chat that holds the branch up to a message. Returns its id."""
    last = message_of(connection, person, message)
    if last.running:
        raise Stale("the reply is still being written; wait until it is complete")
    first = chat_of(connection, person, last.chat)
    line = whole_branch(connection, message)
    return copy(connection, person, f"{first.title} (copy)", first.model, line, first.settings)


def whole_branch(connection: Connection, message: str) -> list[Message]:
    """The branch up to a message, to be copied. Raises Refusal if it is too long for that."""
    most = length_of(connection, message)
    if fitting(connection, message, most, LONGEST_COPY) < most:
        raise Refusal(f"this branch has more than {LONGEST_COPY:,} characters, too many for a copy", 413)
    return branch(connection, message)


def copy(
    connection: Connection,
    person: Person,
    title: str,
    model: str,
    line: Iterable[Message],
    settings: ChatSettings = USUAL,
) -> str:
    """A new chat of given messages, one after the other. Returns its id."""
    chat, now, parent = new_id(), time.time(), ""
    row = {"id": chat, "person": person.id, "title": title[:LONGEST_TITLE], "titled": True, "model": model}
    flags = {"leaf": "", "draft": "", "pinned": False, "archived": False, "created": now, "touched": now}
    connection.execute(insert(CHATS).values(**row, **flags, **settings.facts))
    line, rows = list(line), list[dict[str, Any]]()
    names = [
        "role",
        "author",
        "state",
        "text",
        "model",
        "stop",
        "reason",
        "category",
        "temperature",
        "citations",
        "quotes_unfound",
    ]
    for number, message in enumerate(line, 1):
        facts = {name: getattr(message, name) for name in names}
        rows.append(_row(chat, parent, number, facts, message.created) | {"client": None})
        parent = rows[-1]["id"]
    if rows:
        connection.execute(insert(MESSAGES), rows)
    keep(connection, chat, {row["id"]: row["text"] for row in rows})
    for message, row in zip(line, rows, strict=True):
        give_copies(connection, message.files, chat, str(row["id"]))
        for call in message.calls:
            store_call(connection, str(row["id"]), call)
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(leaf=parent))
    return chat


def change(connection: Connection, person: Person, chat: str, **values: Any) -> None:
    """Changes a chat's title, model, settings, or whether it is pinned or archived."""
    _lock(connection, person, chat)
    if "title" in values:
        title = " ".join(str(values["title"]).replace("\x00", "").split())[:LONGEST_TITLE]
        if not title:
            raise Refusal("a title has at least one letter; write one")
        values |= {"title": title, "titled": True}
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(**values))


def set_up(connection: Connection, person: Person, chat: str, settings: ChatSettings, filled_from: str) -> None:
    """Changes a chat's settings. `filled_from`: the mark of those that the form showed, empty if it showed none. Raises
    Stale if they were changed meanwhile, so that no page of another tab undoes it unseen."""
    present = _lock(connection, person, chat).settings
    if filled_from and filled_from != present.mark and present != settings:
        raise Stale(
            "the settings of this chat were changed on another page meanwhile; reload this one, and change them again"
        )
    change(connection, person, chat, **settings.facts)


def remove(connection: Connection, person: Person, chat: str) -> None:
    """Deletes a chat; for UNDO_SECONDS it can be restored, then its bytes go."""
    chat_of(connection, person, chat)
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(deleted=time.time()))


def restore(connection: Connection, person: Person, chat: str) -> None:
    """Brings a deleted chat back. Raises NotFound if it is gone."""
    chat_of(connection, person, chat, deleted=True)
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(deleted=None))


def purge(connection: Connection, now: float) -> list[str]:
    """Deletes the rows of chats whose time to be restored is over. Returns their ids."""
    query = select(CHATS.c.id).where(CHATS.c.deleted < now - UNDO_SECONDS)
    ids = list(connection.execute(query).scalars())
    if ids:
        connection.execute(delete(CHATS).where(CHATS.c.id.in_(ids)))
    return ids


def running_of(connection: Connection, person: int) -> list[str]:
    """The replies that are being written for a person."""
    query = (
        select(MESSAGES.c.id)
        .join(CHATS, CHATS.c.id == MESSAGES.c.chat)
        .where(MESSAGES.c.state == RUNNING, CHATS.c.person == person)
    )
    return list(connection.execute(query).scalars())


def title_of(text: str) -> str:
    """The first words of a text, as a title."""
    line = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "New chat")
    if len(line) <= TITLE_WORDS:
        return line
    words = line[: TITLE_WORDS + 1].rpartition(" ")[0] or line[:TITLE_WORDS]
    return f"{words} …"


def as_sent(text: str) -> str:
    """A text as it is stored and sent: with the line ends of Unix, and without NUL, which no database keeps."""
    return text.replace("\r\n", "\n").replace("\x00", "")


def checked(text: str) -> str:
    """A message's text. Raises Refusal if it is empty or too long."""
    text = as_sent(text)
    if not text.strip():
        raise Refusal("the message is empty; write something")
    if len(text) > LONGEST_TEXT:
        raise Refusal(f"the message has {len(text):,} characters; the limit is {LONGEST_TEXT:,}", 413)
    return text


def _lock(connection: Connection, person: Person, chat: str) -> Chat:
    """Makes other changes of the same chat wait. Raises NotFound."""
    connection.execute(select(CHATS.c.id).where(CHATS.c.id == chat).with_for_update())
    return chat_of(connection, person, chat)


def _message_sent_by(connection: Connection, chat: str, client: str) -> str | None:
    """The message that was sent under a client's id, or None."""
    query = select(MESSAGES.c.id).where(MESSAGES.c.chat == chat, MESSAGES.c.client == client)
    id: str | None = connection.execute(query).scalar()
    return id


def _reply_to(connection: Connection, question: str) -> str:
    """The first reply to a question."""
    query = select(MESSAGES.c.id).where(MESSAGES.c.parent == question).order_by(MESSAGES.c.number).limit(1)
    return str(connection.execute(query).scalar_one())


def _ask(
    connection: Connection, chat: str, parent: str, text: str, model: str, settings: ChatSettings, client: str
) -> Sent:
    """Stores a question and its reply, which is still empty."""
    facts = {"role": "user", "author": PERSON, "state": DONE, "text": text, "model": ""}
    question = _add(connection, chat, parent, facts, client=client or None)
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(draft=""))
    return Sent(chat, question, _add_reply(connection, chat, question, model, settings.temperature, ""))


def _add_reply(
    connection: Connection, chat: str, question: str, model: str, temperature: float | None, text: str
) -> str:
    """Stores a reply that a model has to write, and shows it."""
    facts: dict[str, Any] = {"role": "assistant", "author": MODEL, "state": RUNNING, "text": text}
    facts |= {"model": model, "temperature": temperature}
    reply = _add(connection, chat, question, facts)
    _show(connection, chat, reply)
    return reply


def _add(connection: Connection, chat: str, parent: str, facts: dict[str, Any], **more: Any) -> str:
    """Stores a message; returns its id."""
    last = select(func.max(MESSAGES.c.number)).where(MESSAGES.c.chat == chat)
    number = (connection.execute(last).scalar() or 0) + 1
    row = _row(chat, parent, number, facts, time.time()) | more
    connection.execute(insert(MESSAGES).values(**row))
    if row["state"] != RUNNING:
        keep(connection, chat, {row["id"]: row["text"]})
    return str(row["id"])


def _row(chat: str, parent: str, number: int, facts: dict[str, Any], created: float) -> dict[str, Any]:
    """The row of a message."""
    usual = {"request": "", "stop": "", "reason": "", "thumb": "", "created": created}
    usual |= {"citations": "[]", "quotes_unfound": 0, "temperature": None, "category": "", "appealed": False}
    counts = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens"), 0)
    row = {**usual, **counts, **facts, "id": new_id(), "chat": chat, "parent": parent, "number": number}
    row["ended"] = None if row["state"] == RUNNING else time.time()
    return row


def _show(connection: Connection, chat: str, leaf: str, touch: bool = True) -> None:
    """Lets a chat's shown branch end at a message."""
    values = {"leaf": leaf} | ({"touched": time.time()} if touch else {})
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(**values))
