"""Search in a person's chats: titles, and all messages by an index of words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from sqlalchemy import Connection, select, text
from starlette.responses import HTMLResponse, JSONResponse, Response

from charter.service.chat.visit import Visit, show
from charter.service.people.tables import CHATS
from charter.service.people.visits import wants_json
from charter.service.people.words import WORD, key_of, plain_word
from charter.service.people.workers import Person
from charter.service.web.database import SQLITE, reading

MOST = 50
LONGEST = 200  # characters of a search
NOTHING = Markup()
AROUND = 60  # characters of a snippet before its first word, and twice as many behind it
LOOKED = 200_000  # characters of a message in which its snippet is sought
# SQLite's own snippets take time that grows with the square of a word's places in a message. The newest stored come
# first; CROSS JOIN keeps the index of words outermost, which then ends at the last one that is shown.
_SQLITE = """
SELECT m.id, m.chat, c.title, m.role, substr(m.text, 1, :looked) AS text
FROM words_of_messages CROSS JOIN messages m ON m.serial = words_of_messages.rowid CROSS JOIN chats c ON c.id = m.chat
WHERE words_of_messages MATCH :words AND c.person = :person AND c.deleted IS NULL
ORDER BY words_of_messages.rowid DESC LIMIT :most
"""
_POSTGRESQL = """
SELECT m.id, m.chat, c.title, m.role, substr(m.text, 1, :looked) AS text
FROM words_of_messages w JOIN messages m ON m.serial = w.serial JOIN chats c ON c.id = m.chat
WHERE w.words @@ CAST(:words AS tsquery) AND c.person = :person AND c.deleted IS NULL
ORDER BY w.serial DESC LIMIT :most
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A message with the words of a search, or, without a message, a chat by its title."""

    chat: str
    title: str
    message: str = ""
    role: str = ""
    marked: Markup = NOTHING  # a piece of the message, with the words marked


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
        .where(
            CHATS.c.person == person.id, CHATS.c.deleted.is_(None), CHATS.c.title.ilike(pattern, escape="\\")
        )
        .order_by(CHATS.c.touched.desc())
        .limit(10)
    )
    hits = [Hit(row.id, row.title) for row in connection.execute(titled)]
    keys = [key_of(person.id, plain_word(word)) for word in words]
    if connection.dialect.name == SQLITE:
        statement, wanted = _SQLITE, " AND ".join(f'"{key}"' for key in keys) + "*"
    else:
        statement, wanted = _POSTGRESQL, " & ".join(f"'{key}'" for key in keys) + ":*"
    values = {"words": wanted, "person": person.id, "most": MOST, "looked": LOOKED}
    rows: Any = connection.execute(text(statement), values)
    return hits + [Hit(row.chat, row.title, row.id, row.role, snippet(row.text, words)) for row in rows]


def snippet(text: str, words: list[str]) -> Markup:
    """The piece of a text around the first of some words, with all of them marked; the last may be the beginning of
    one."""
    whole, begun = {plain_word(word) for word in words}, plain_word(words[-1])

    def meant(word: str) -> bool:
        return (word := plain_word(word)) in whole or word.startswith(begun)

    first = next((one.start() for one in WORD.finditer(text) if meant(one[0])), 0)
    begin, end = max(0, first - AROUND), first + 2 * AROUND
    piece, at, parts = text[begin:end], 0, ["…" if begin else ""]
    for one in WORD.finditer(piece):
        if meant(one[0]):
            parts += [escape(piece[at : one.start()]), f"<mark>{escape(one[0])}</mark>"]
            at = one.end()
    return Markup("".join([*parts, escape(piece[at:]), "…" if end < len(text) else ""]))


def search_page(visit: Visit) -> Response:
    """The page of a search, or its hits as JSON."""
    query = visit.request.query_params.get("q", "")[:LONGEST]
    with reading(visit.service.database) as connection:
        hits = search(connection, visit.person, query)
    if wants_json(visit.request):
        return JSONResponse([{"chat": h.chat, "title": h.title, "message": h.message} for h in hits])
    page: HTMLResponse = show(visit, "search", "Search", query=query, hits=hits, most=MOST)
    return page
