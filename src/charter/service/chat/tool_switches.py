"""Switches of tools in a chat."""

from __future__ import annotations

from sqlalchemy import delete, insert
from starlette.responses import Response

from charter.service.chat.branches import chat_of
from charter.service.chat.visit import Visit, done
from charter.service.people.tables import CHAT_TOOLS
from charter.service.people.workers import lock
from charter.service.web.database import writing
from charter.service.web.refusal import Refusal


def switch(visit: Visit) -> Response:
    """Switches a tool on or off in a chat."""
    name, on = visit.form.text("name"), visit.form.text("on") == "yes"
    if on and name not in {one.name for one in visit.service.tools}:
        raise Refusal("there is no such tool here now; reload the page to see which there are")
    with writing(visit.service.database) as connection:
        lock(connection, visit.person)
        chat = chat_of(connection, visit.person, visit.id)
        connection.execute(delete(CHAT_TOOLS).where(CHAT_TOOLS.c.chat == chat.id, CHAT_TOOLS.c.name == name))
        if on:
            connection.execute(insert(CHAT_TOOLS).values(chat=chat.id, name=name))
    return done(visit, f"/c/{chat.id}#tools")
