"""Switches of tools in a chat."""

from __future__ import annotations

from sqlalchemy import delete
from starlette.responses import Response

from charter_service.chat.branches import chat_of
from charter_service.chat.site import Visit, done
from charter_service.chat.tool_calls import check_names, switch_on
from charter_service.people.tables import CHAT_TOOLS
from charter_service.people.workers import lock
from charter_service.web.database import writing


def switch(visit: Visit) -> Response:
    """Switches a tool on or off in a chat."""
    name, on = visit.form.text("name"), visit.form.text("on") == "yes"
    if on:
        check_names([name], visit.service.tools)
    with writing(visit.service.database) as connection:
        lock(connection, visit.person)
        chat = chat_of(connection, visit.person, visit.id)
        if on:
            switch_on(connection, chat.id, [name])
        else:
            gone = delete(CHAT_TOOLS).where(CHAT_TOOLS.c.chat == chat.id, CHAT_TOOLS.c.name == name)
            connection.execute(gone)
    return done(visit, f"/c/{chat.id}#tools")
