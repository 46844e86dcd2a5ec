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
from charter.service.people.workers import Person
from charter.service.web.database import SQLITE, reading

MOST = 50
LONGEST = 200  # characters of a search
OPENS, CLOSES = "\x02", "\x03"  # around the words of a search in a snippet; no text holds them
_WORD = re.compile(r"\w+", re.UNICODE)

_SQLITE = """
SELECT m.id, m.chat, c.title, m.role, m.created,
       snippet(words_of_messages, 0, char(2), char(3), '…', 16) AS snippet
FROM words_of_messages JOIN messages m ON m.serial = words_of_messages.rowid JOIN chats c ON c.id = m.chat
WHERE words_of_messages MATCH :words AND c.person = :person AND c.deleted IS NULL
ORDER BY m.created DESC LIMIT :most
"""
_POSTGRESQL = """
SELECT m.id, m.chat, c.title, m.role, m.created,
       ts_headline('simple', m.text, q, 'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=16, MinWords=8')
         AS snippet
FROM messages m JOIN chats c ON c.id = m.chat, to_tsquery('simple', :words) q
WHERE to_tsvector('simple', m.text) @@ q AND m.state <> 'running' AND c.person = :person AND c.deleted IS NULL
ORDER BY m.created DESC LIMIT :most
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A message with the words of a search, or, without a message, a chat by its title."""

    chat: str
    title: str
    message: str = ""
    role: str = ""
    snippet: str = ""

    @property
    def marked(self) -> Markup:
        """The snippet as HTML, with the words marked."""
        html = str(escape(self.snippet)).replace(OPENS, "<mark>").replace(CLOSES, "</mark>")
        return Markup(html)


def search(connection: Connection, person: Person, query: str) -> list[Hit]:
    """Chats whose title has the query, then messages with all its words, the newest first. The last word may be the
    beginning of one."""
    words = _WORD.findall(query[:LONGEST])
    if not words:
        return []
    pattern = "%" + re.sub(r"([%_\\])", r"\\\1", query.strip()[:LONGEST]) + "%"
    titled = (
        select(CHATS.c.id, CHATS.c.title)
        .where(
            CHATS.c.person == person.id, CHATS.c.deleted.is_(None), CHATS.c.title.ilike(pattern, escape="\\")
        )
        .order_by(CHATS.c.touched.desc())
        .limit(10)
    )
    hits = [Hit(row.id, row.title) for row in connection.execute(titled)]
    if connection.dialect.name == SQLITE:
        statement, asked = _SQLITE, " ".join(f'"{word}"' for word in words) + "*"
    else:
        statement, asked = _POSTGRESQL, " & ".join(f"'{word}'" for word in words) + ":*"
    rows: Any = connection.execute(text(statement), {"words": asked, "person": person.id, "most": MOST})
    return hits + [Hit(row.chat, row.title, row.id, row.role, row.snippet) for row in rows]


def search_page(visit: Visit) -> Response:
    """The page of a search, or its hits as JSON."""
    query = visit.request.query_params.get("q", "")[:LONGEST]
    with reading(visit.service.database) as connection:
        hits = search(connection, visit.person, query)
    if wants_json(visit.request):
        return JSONResponse([{"chat": h.chat, "title": h.title, "message": h.message} for h in hits])
    page: HTMLResponse = show(visit, "search", "Search", query=query, hits=hits, most=MOST)
    return page
