"""Search in a person's chats: titles, and all messages by an index of words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup, escape
from sqlalchemy import Connection, func, select, text
from starlette.responses import HTMLResponse, JSONResponse, Response

from charter_service.chat.site import Visit, show
from charter_service.people.tables import CHATS, MESSAGES
from charter_service.people.words import WORD, key_of, plain_word
from charter_service.people.workers import Person
from charter_service.web.database import SQLITE, reading
from charter_service.web.site import wants_json

MOST = 50
LONGEST = 200  # characters of a search
NO_MARKUP = Markup()
AROUND = 60  # characters of a snippet before its first word, and twice as many behind it
LOOKED = 200_000  # characters of all messages together in which the snippets are sought
NEWEST = 1000  # messages that PostgreSQL reads one by one before it asks the index of words
SHORT = 3  # letters of a beginning that PostgreSQL's index of words takes at once
FEW = 5000  # messages that are read one by one for a shorter one
_GONE = """
SELECT m.serial FROM messages m JOIN chats c ON c.id = m.chat WHERE c.person = :person AND c.deleted IS NOT NULL
"""
# SQLite reads its index of words from the newest message on, and no further than it has to.
_SQLITE = """
SELECT rowid FROM words_of_messages
WHERE words_of_messages MATCH :words AND rowid NOT IN (SELECT value FROM json_each(:gone))
ORDER BY rowid DESC LIMIT :most
"""
# PostgreSQL's index yields all messages of a word at once, however many are shown: frequent words are sought in the
# newest messages. A short beginning stands for most words of the index, so it is sought in the messages with all whole
# words, if they are few. The index is asked for the rest; OFFSET 0 keeps serials from being read in their order.
_POSTGRESQL_NEWEST = """
SELECT serial FROM
(SELECT serial, words FROM words_of_messages WHERE person = :person ORDER BY serial DESC LIMIT :newest) AS newest
WHERE words @@ CAST(:words AS tsquery) AND serial <> ALL(CAST(:gone AS integer[]))
ORDER BY serial DESC LIMIT :most
"""
_POSTGRESQL_FEW = """
SELECT serial, words @@ CAST(:words AS tsquery) AND serial <> ALL(CAST(:gone AS integer[])) AS hit
FROM words_of_messages WHERE words @@ CAST(:whole AS tsquery) LIMIT :few
"""
_POSTGRESQL = """
SELECT serial FROM (SELECT serial FROM words_of_messages WHERE words @@ CAST(:words AS tsquery) OFFSET 0) AS hits
WHERE serial <> ALL(CAST(:gone AS integer[])) ORDER BY serial DESC LIMIT :most
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A message with the words of a search, or, without a message, a chat by its title."""

    chat: str
    title: str
    message: str = ""
    role: str = ""
    marked: Markup = NO_MARKUP  # a piece of the message, with the words marked


def search(connection: Connection, person: Person, query: str) -> list[Hit]:
    """Chats whose title has the query, then messages with all its words, the newest first. The last word may be the
    beginning of one."""
    query = query.replace("\x00", "")[:LONGEST]
    words = [word for word in WORD.findall(query) if plain_word(word)]
    if not words:
        return []
    pattern = "%" + re.sub(r"([%_\\])", r"\\\1", query.strip()) + "%"
    titled = (
        select(CHATS.c.id, CHATS.c.title)
        .where(CHATS.c.person == person.id, CHATS.c.deleted.is_(None), CHATS.c.title.ilike(pattern, escape="\\"))
        .order_by(CHATS.c.touched.desc())
        .limit(10)
    )
    hits = [Hit(row.id, row.title) for row in connection.execute(titled)]
    serials = _serials(connection, person.id, [plain_word(word) for word in words])
    statement = (
        select(
            MESSAGES.c.id,
            MESSAGES.c.chat,
            CHATS.c.title,
            MESSAGES.c.role,
            func.substr(MESSAGES.c.text, 1, LOOKED // max(1, len(serials))).label("text"),
            func.length(MESSAGES.c.text).label("length"),
        )
        .join(CHATS, CHATS.c.id == MESSAGES.c.chat)
        .where(MESSAGES.c.serial.in_(serials), CHATS.c.person == person.id)
        .order_by(MESSAGES.c.serial.desc())
    )
    meant = matcher(words)
    for row in connection.execute(statement):
        marked = snippet(row.text, meant, whole=len(row.text) == row.length)
        hits.append(Hit(row.chat, row.title, row.id, row.role, marked))
    return hits


def _serials(connection: Connection, person: int, words: list[str]) -> Sequence[int]:
    """The newest messages of a person with all words, at most MOST, the newest first."""
    gone = list(connection.execute(text(_GONE), {"person": person}).scalars())
    keys = [key_of(person, word) for word in words]
    values: dict[str, Any] = {"person": person, "most": MOST}
    if connection.dialect.name == SQLITE:
        values |= {"words": " AND ".join(f'"{key}"' for key in keys) + "*", "gone": json.dumps(gone)}
        return connection.execute(text(_SQLITE), values).scalars().all()
    whole_words = " & ".join(f"'{key}'" for key in keys[:-1])
    begun = f"'{keys[-1]}':*"
    values |= {"words": f"{whole_words} & {begun}" if whole_words else begun, "gone": gone, "newest": NEWEST}
    serials = connection.execute(text(_POSTGRESQL_NEWEST), values).scalars().all()
    if len(serials) == MOST:
        return serials
    if whole_words and len(words[-1]) < SHORT:
        rows = connection.execute(text(_POSTGRESQL_FEW), {**values, "whole": whole_words, "few": FEW}).all()
        if len(rows) < FEW:
            return sorted((row.serial for row in rows if row.hit), reverse=True)[:MOST]
    return connection.execute(text(_POSTGRESQL), values).scalars().all()


def matcher(words: list[str]) -> Callable[[str], bool]:
    """Whether a word of a text is one of some words; the last may be the beginning of it."""
    whole_words, begun = {plain_word(word) for word in words}, plain_word(words[-1])

    @cache  # texts repeat their words
    def matches(word: str) -> bool:
        return (word := plain_word(word)) in whole_words or word.startswith(begun)

    return matches


def snippet(text: str, meant: Callable[[str], bool], whole: bool = True) -> Markup:
    """The piece of a text around its first word that is meant, with all such words marked; the text may be only the
    beginning of a message."""
    first = next((match.start() for match in WORD.finditer(text) if meant(match[0])), 0)
    begin, end = max(0, first - AROUND), first + 2 * AROUND
    piece, at, parts = text[begin:end], 0, ["…" if begin else ""]
    for match in WORD.finditer(piece):
        if meant(match[0]):
            parts += [escape(piece[at : match.start()]), f"<mark>{escape(match[0])}</mark>"]
            at = match.end()
    return Markup("".join([*parts, escape(piece[at:]), "" if whole and end >= len(text) else "…"]))


def search_page(visit: Visit) -> Response:
    """The page of a search, or its hits as JSON."""
    query = visit.request.query_params.get("q", "")[:LONGEST]
    with reading(visit.service.database) as connection:
        hits = search(connection, visit.person, query)
    if wants_json(visit.request):
        return JSONResponse([{"chat": h.chat, "title": h.title, "message": h.message} for h in hits])
    page: HTMLResponse = show(visit, "search", "Search", query=query, hits=hits, most=MOST)
    return page
