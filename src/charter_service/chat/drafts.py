"""Drafts, kept on the server while they are typed: of each chat's next message, and of the next new chat."""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, insert, select, update
from starlette.responses import Response

from charter_service.chat.branches import chat_of
from charter_service.chat.letters import kept
from charter_service.chat.site import Visit, done
from charter_service.chat.storage import check_room
from charter_service.chat.tree import LONGEST_TEXT
from charter_service.people.tables import CHATS, DRAFTS, MESSAGES
from charter_service.people.workers import Person, lock
from charter_service.web.database import writing
from charter_service.web.refusal import Refusal


def new_draft(connection: Connection, person: Person) -> str:
    """The text that a person began for a new chat."""
    return str(connection.execute(select(DRAFTS.c.text).where(DRAFTS.c.person == person.id)).scalar() or "")


def save_new(connection: Connection, person: Person, text: str) -> None:
    """Keeps the text of a new chat; an empty one deletes it."""
    lock(connection, person)
    connection.execute(delete(DRAFTS).where(DRAFTS.c.person == person.id))
    if text:
        connection.execute(insert(DRAFTS).values(person=person.id, text=text, touched=time.time()))


def keep_new(visit: Visit) -> Response:
    """Keeps what is typed on the page of a new chat."""
    keep_typed(visit, "")
    return done(visit, "/")


def keep_draft(visit: Visit) -> Response:
    """Keeps what is typed as the next message of a chat."""
    keep_typed(visit, visit.id)
    return done(visit, f"/c/{visit.id}")


def keep_typed(visit: Visit, chat: str) -> None:
    """Keeps the text of a form as the draft of a chat, with its model, or, with an empty id, of the next new chat.

    Raises NotFound for a chat of somebody else, Refusal if the text is too long or the person's storage is full.
    """
    text = _checked(visit.form.text("text"))
    with writing(visit.service.database) as connection:
        if chat:
            chat_of(connection, visit.person, chat)
        if _sent(connection, visit):
            return
        if chat:
            model = visit.service.model(visit.form.text("model")) if "model" in visit.form.fields else None
            values = {"draft": text} | ({"model": model.id} if model else {})
            connection.execute(update(CHATS).where(CHATS.c.id == chat).values(values))
        else:
            save_new(connection, visit.person, text)
        check_room(connection, visit.person.id, visit.service.config.storage)


def _checked(text: str) -> str:
    text = kept(text.replace("\r\n", "\n"))
    if len(text) > LONGEST_TEXT:
        raise Refusal(f"a draft has at most {LONGEST_TEXT:,} characters", 413)
    return text if text.strip() else ""


def _sent(connection: Connection, visit: Visit) -> bool:
    """Whether the message of this draft is already sent: a slow request must not bring its draft back."""
    client = visit.form.text("client")[:64]
    wanted = (
        select(MESSAGES.c.id)
        .join(CHATS, CHATS.c.id == MESSAGES.c.chat)
        .where(CHATS.c.person == visit.person.id, MESSAGES.c.client == client)
    )
    return bool(client) and connection.execute(wanted.limit(1)).first() is not None
