"""What a person's chats take of the disk: counted as it is written, held to a limit, and found by words.

A text counts once it is complete. Chats, shared copies, drafts and instructions count together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, LargeBinary, cast, func, select, text, update

from charter_service.people.tables import CHATS, DRAFTS, SHARES
from charter_service.people.words import keys_of
from charter_service.web.database import SQLITE
from charter_service.web.refusal import Refusal

MEGABYTE = 1_000_000
_SQLITE = text("INSERT INTO words_of_messages(rowid, words) SELECT serial, :words FROM messages WHERE id = :id")
_POSTGRESQL = text(
    "INSERT INTO words_of_messages(serial, person, words) "
    "SELECT serial, :person, array_to_tsvector(CAST(:words AS text[])) FROM messages WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class Held:
    """What is stored of a person: letters of all messages, and bytes of all texts."""

    characters: int
    bytes: int


def keep(connection: Connection, chat: str, texts: Mapping[str, str]) -> None:
    """Counts the texts of complete messages of a chat, by id, and makes them found by their words."""
    if not texts:
        return
    person = connection.execute(select(CHATS.c.person).where(CHATS.c.id == chat)).scalar_one()
    connection.execute(
        update(CHATS)
        .where(CHATS.c.id == chat)
        .values(
            characters=CHATS.c.characters + sum(len(message_text) for message_text in texts.values()),
            bytes=CHATS.c.bytes + sum(len(message_text.encode()) for message_text in texts.values()),
        )
    )
    lite = connection.dialect.name == SQLITE
    rows = list[dict[str, Any]]()
    for id, message_text in texts.items():
        keys = keys_of(person, message_text)
        rows.append({"id": id, "person": person, "words": " ".join(keys) if lite else keys})
    connection.execute(_SQLITE if lite else _POSTGRESQL, rows)


def held(connection: Connection, person: int) -> Held:
    """What is stored of a person."""
    drafts = size_of(connection, CHATS.c.draft) + size_of(connection, CHATS.c.instructions)
    sums = select(func.coalesce(func.sum(CHATS.c.characters), 0), func.coalesce(func.sum(CHATS.c.bytes + drafts), 0))
    characters, size = connection.execute(sums.where(CHATS.c.person == person)).one()
    copies = select(func.coalesce(func.sum(SHARES.c.bytes), 0)).join(CHATS, CHATS.c.id == SHARES.c.chat)
    size += connection.execute(copies.where(CHATS.c.person == person)).scalar_one()
    draft = select(size_of(connection, DRAFTS.c.text)).where(DRAFTS.c.person == person)
    return Held(int(characters), int(size) + (connection.execute(draft).scalar() or 0))


def check_room(connection: Connection, person: int, most: int) -> None:
    """Raises Refusal, which undoes the transaction, if a person's texts take more than `most` bytes now."""
    size = held(connection, person).bytes
    if size > most:
        raise Refusal(
            f"your chats would take {megabytes(size)}, and a person may keep {megabytes(most)} here; delete chats or "
            "shared links first (your own page lets you download them)",
            413,
        )


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / MEGABYTE:,.1f} MB"


def size_of(connection: Connection, column: Column[str]) -> ColumnElement[int]:
    """The bytes of a text in the database."""
    if connection.dialect.name == SQLITE and sqlite3.sqlite_version_info < (3, 43):  # it has no octet_length
        return func.length(cast(column, LargeBinary))
    return func.octet_length(column)  # which reads no text
