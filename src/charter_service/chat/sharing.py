"""Shared chats: a frozen copy of one branch, for whoever has the link, until it expires or is taken back."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from charter_service.chat.branches import chat_of
from charter_service.chat.markdown import render_many
from charter_service.chat.service import Service
from charter_service.chat.site import Visit, done, plain, show
from charter_service.chat.storage import check_room
from charter_service.chat.tool_calls import as_data, from_data
from charter_service.chat.tree import whole_branch
from charter_service.people.tables import CHATS, SHARES
from charter_service.people.workers import Person
from charter_service.web.database import reading, writing
from charter_service.web.entrance import check_pace
from charter_service.web.forms import read_form
from charter_service.web.guard import address_of, network_of
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.site import see
from charter_service.web.tokens import digest_of, new_token

DAY = 86_400.0
NOBODY = 0  # no person has this id
MOST_DAYS = 365
MOST_WORDS = 4000
NOTICES = {"reported": "Thank you. People who run this will look at it."}
MOST_SHARES = 100  # of a person, at a time


@dataclass(frozen=True, slots=True)
class Share:
    """A shared copy, as its owner sees it."""

    digest: str
    chat: str
    title: str
    created: float
    expires: float


def list_shares(connection: Connection, person: Person) -> list[Share]:
    """The links of a person that still work."""
    query = (
        select(SHARES.c.digest, SHARES.c.chat, SHARES.c.title, SHARES.c.created, SHARES.c.expires)
        .join(CHATS, CHATS.c.id == SHARES.c.chat)
        .where(CHATS.c.person == person.id, SHARES.c.expires > time.time(), CHATS.c.deleted.is_(None))
        .order_by(SHARES.c.created.desc())
    )
    return [Share(*row) for row in connection.execute(query)]


def share(visit: Visit) -> Response:
    """Freezes the shown branch of a chat, and shows its link once."""
    days = visit.form.number("days") or 7
    if not 1 <= days <= MOST_DAYS:
        raise Refusal(f"a link works for 1 to {MOST_DAYS} days; choose a number of them")
    token, now = new_token(), time.time()
    with writing(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id)
        if len(list_shares(connection, visit.person)) >= MOST_SHARES:
            raise Refusal(f"you share {MOST_SHARES} chats already; take one of the links back first")
        line = [message for message in whole_branch(connection, chat.leaf) if not message.running]
        field_names = ("role", "author", "text", "model", "state", "request")
        frozen = [
            {name: getattr(message, name) for name in field_names}
            | {"files": [file.name for file in message.files], "calls": [as_data(call) for call in message.calls]}
            for message in line
        ]
        if not frozen:
            raise Refusal("there is nothing to share in this chat yet")
        copied = json.dumps(frozen)
        connection.execute(
            insert(SHARES).values(
                digest=digest_of(token),
                chat=chat.id,
                title=chat.title,
                frozen=copied,
                bytes=len(copied),
                created=now,
                expires=now + days * DAY,
            )
        )
        check_room(connection, visit.person.id, visit.service.config.storage)
    link = f"{visit.address}/s/{token}"
    visit.service.links.put(visit.owner, [link])
    return done(visit, f"/c/{chat.id}/shared", link=link)


def shared_page(visit: Visit) -> HTMLResponse:
    """The link of a new share, shown once, and what it shows."""
    with reading(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id)
        shares = [share for share in list_shares(connection, visit.person) if share.chat == chat.id]
    links = visit.service.links.take(visit.owner)
    return show(visit, "shared", "Shared", chat=chat, shares=shares, link=links[0] if links else "")


def take_back(visit: Visit) -> Response:
    """Ends a shared link at once."""
    own_chats = select(CHATS.c.id).where(CHATS.c.person == visit.person.id)
    with writing(visit.service.database) as connection:
        deletion = delete(SHARES).where(SHARES.c.digest == visit.id, SHARES.c.chat.in_(own_chats))
        if not connection.execute(deletion).rowcount:
            raise NotFound("there is no such link, or it isn't yours")
    return done(visit, "/me#shares")


async def open_share(request: Request) -> Response:
    """A shared copy, for whoever has its link."""
    service: Service = request.app.state.service
    check_pace(service.by_person, address_of(request.scope))
    async with service.turns(NOBODY):  # strangers wait for one another, not the people of the chat for them
        notice = NOTICES.get(request.query_params.get("done", ""), "")
        return await run_in_threadpool(_open_share, service, str(request.path_params["token"])[:100], notice)


def _frozen(service: Service, token: str) -> tuple[Any, list[dict[str, Any]]]:
    """A shared copy. Raises NotFound."""
    query = (
        select(SHARES.c.title, SHARES.c.frozen, SHARES.c.created)
        .join(CHATS, CHATS.c.id == SHARES.c.chat)
        .where(SHARES.c.digest == digest_of(token), SHARES.c.expires > time.time(), CHATS.c.deleted.is_(None))
    )
    with reading(service.database) as connection:
        row = connection.execute(query).first()
    if row is None:
        raise NotFound("this link doesn't work: it has expired, or was taken back")
    return row, json.loads(row.frozen)


def _open_share(service: Service, token: str, notice: str) -> Response:
    row, frozen = _frozen(service, token)
    blocks = render_many([message["text"] if message["role"] == "assistant" else "" for message in frozen])
    messages = [
        SimpleNamespace(**{"files": (), **message, "calls": from_data(message.get("calls"))}, blocks=message_blocks)
        for message, message_blocks in zip(frozen, blocks, strict=True)
    ]
    values: dict[str, Any] = {
        "token": token,
        "notice": notice,
        "reportable": any(message.get("request") for message in frozen),
    }
    return plain(service, "share", row.title, messages=messages, created=row.created, **values)


async def report_share(request: Request) -> Response:
    """A report of a shared copy, by whoever has its link: it goes to the people who look at reports. Raises TooFast,
    Refusal if there is no reply of a model in it."""
    service: Service = request.app.state.service
    form, token = await read_form(request), str(request.path_params["token"])[:100]
    async with service.turns(NOBODY):
        frozen = (await run_in_threadpool(_frozen, service, token))[1]
        replies = [message for message in frozen if message.get("request")]
        if not replies:
            raise Refusal("no reply in this copy was written by a model of this server, so nobody can look at it")
        check_pace(service.reports_of_one, network_of(request.scope))
        check_pace(service.reports, "all")
        content = [{"role": message["role"], "content": message["text"]} for message in frozen]
        words = f"Reported from a shared link: {form.text('words').strip()}"[:MOST_WORDS]
        body = {"request_id": replies[-1]["request"], "thumb": "down", "words": words}
        await service.api.ask("POST", "/v1/feedback", {**body, "content": {"messages": content}})
    return see(f"/s/{token}?done=reported")
