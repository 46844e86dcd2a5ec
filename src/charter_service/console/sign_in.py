"""Signing in to the admin pages and out: with a personal key, which the chat and the arena know too, or with an API key
of the scope admin; and joining by an invitation with a console role."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection, delete
from starlette.requests import Request
from starlette.responses import Response

from charter_service.accounts.keys import ID_PREFIX, PREFIX
from charter_service.accounts.sessions import HOURS, close_session, open_session
from charter_service.accounts.tables import SESSIONS
from charter_service.api.admin_entrance import (
    COOKIE,
    CSRF,
    ENTER,
    TAG,
    Visit,
    admin_of,
    desk_of,
    see,
    visit_of,
)
from charter_service.api.errors import ApiError
from charter_service.api.index import check_pace
from charter_service.api.rendering import ADMIN, page
from charter_service.api.service import Service
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import Routes
from charter_service.people import workers
from charter_service.people.members import actor_of, sign_out
from charter_service.people.places import CONSOLE, other_places
from charter_service.people.visits import drop_session, session_of, set_session
from charter_service.web.database import reading, writing
from charter_service.web.forms import check_site, read_form
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import digest_of

ROUTES = Routes(TAG)
JOIN, JOINED = f"{ADMIN}/join/{{token}}", f"{ADMIN}/joined"
LONGEST_TOKEN, LONGEST_NAME = 100, 40
NOT_KNOWN = "this key is not known here; give your personal key, or an API key with the scope admin"


@ROUTES.add("GET", ENTER, "Sign in")
async def enter_page(request: Request) -> Response:
    """The page that asks for a key."""
    return await _enter_page(request, left="left" in request.query_params)


async def _enter_page(request: Request, status: int = 200, left: bool = False, problem: str = "") -> Response:
    places = await asyncio.to_thread(_places, service_of(request), request)
    return page(request, "enter", "Sign in", status, left=left, problem=problem, places=places)


def _places(service: Service, request: Request) -> list[tuple[str, str]]:
    """The names and addresses of the chat and the arena on this host, if they share the people's database."""
    try:
        database, host = service.people.existing(), request.url.hostname or ""
    except (ApiError, ValueError):
        return []
    if database is None:
        return []
    with reading(database) as connection:
        return other_places(connection, CONSOLE, host)


@ROUTES.add("POST", ENTER, "Sign in")
async def enter(request: Request) -> Response:
    """Opens a session for the owner of a key. Raises ApiError for an address that tries too often."""
    check_site(request)
    form, service = await read_form(request), service_of(request)
    key = form.text("key").strip()
    try:
        session = await asyncio.to_thread(_open, service, key)
    except Refusal as refusal:
        check_pace(request)  # only wrong keys count: a right one never waits behind somebody's guesses
        return await _enter_page(request, refusal.status, problem=str(refusal))
    answer = see(ADMIN)
    if key.startswith(PREFIX):
        answer.set_cookie(COOKIE, session, max_age=HOURS * 3600, **_cookie(request))
    else:
        answer.delete_cookie(COOKIE, **_cookie(request))  # else a key's session would go before the person's
        set_session(answer, session, _https(request))
    return answer


def _open(service: Service, key: str) -> str:
    """A new session of a personal key, or of an API key. Raises Refusal."""
    if not key:
        raise ApiError(401, "give your personal key, or an API key with the scope admin")
    if key.startswith((PREFIX, ID_PREFIX)):
        caller = admin_of(service, key)
        return service.room.write(lambda connection: open_session(connection, caller))
    database = service.people.existing()
    if database is None:
        raise ApiError(401, NOT_KNOWN)
    with writing(database) as connection:
        try:
            person = workers.come_back(connection, key[:LONGEST_TOKEN])
        except Refusal:
            raise ApiError(401, NOT_KNOWN) from None
        return workers.open_session(connection, person.id)


@ROUTES.add("POST", f"{ADMIN}/leave", "Sign out")
async def leave(request: Request) -> Response:
    """Closes the session here, in the chat and in the arena."""
    return await _leave(request, everywhere=False)


@ROUTES.add("POST", f"{ADMIN}/leave/everywhere", "Sign out everywhere")
async def leave_everywhere(request: Request) -> Response:
    """Closes all sessions of the person or the key, in every browser."""
    return await _leave(request, everywhere=True)


async def _leave(request: Request, everywhere: bool) -> Response:
    visit = await visit_of(request)
    await asyncio.to_thread(_close, visit, session_of(request), everywhere)
    answer = see(f"{ENTER}?left=1")
    answer.delete_cookie(COOKIE, **_cookie(request))
    drop_session(answer, _https(request))
    return answer


def _close(visit: Visit, persons: str, everywhere: bool) -> None:
    """Closes the session of the key and that of the person, whichever there are, or all of the visitor's."""
    service, key = visit.service, visit.request.cookies.get(COOKIE, "")
    with visit.desk.sent.sending(visit.session, visit.form.text(CSRF)):
        if visit.person is None:
            service.room.write(lambda connection: _close_keys(connection, visit, key, everywhere))
        if persons and (database := service.people.existing()) is not None:
            with writing(database) as connection:
                if everywhere and visit.person is not None:
                    sign_out(connection, actor_of(visit.person), visit.person.id)
                workers.close_session(connection, persons)


def _close_keys(connection: Connection, visit: Visit, session: str, everywhere: bool) -> None:
    if not everywhere:
        return close_session(connection, session)
    ended = connection.execute(delete(SESSIONS).where(SESSIONS.c.key == visit.caller.key)).rowcount
    visit.note(connection, "key.sign_out", visit.caller.key, {"sessions": ended}, {"sessions": 0})


@ROUTES.add("GET", JOIN, "Join by an invitation")
async def join_page(request: Request) -> Response:
    """The page where an invited person chooses a name. Raises Refusal if the invitation isn't valid."""
    check_pace(request)
    token = _token_of(request)
    await asyncio.to_thread(_check_token, service_of(request), token)
    return page(request, "join", "Welcome", token=token, called="", problem="")


@ROUTES.add("POST", JOIN, "Join by an invitation")
async def join(request: Request) -> Response:
    """Adds the invited person, and shows the personal key on the next page; asks again if the name isn't accepted."""
    check_site(request)
    check_pace(request)
    service, token = service_of(request), _token_of(request)
    form = await read_form(request)
    await asyncio.to_thread(_check_token, service, token)
    try:
        session, key = await asyncio.to_thread(_join, service, token, form.text("name"))
    except Refusal as refusal:
        called = "".join(letter for letter in form.text("name") if letter.isprintable())[:LONGEST_NAME]
        return page(
            request, "join", "Welcome", refusal.status, token=token, called=called, problem=str(refusal)
        )
    desk_of(request).shown.put(digest_of(session), [key])
    answer = see(JOINED)
    answer.delete_cookie(COOKIE, **_cookie(request))
    set_session(answer, session, _https(request))
    return answer


@ROUTES.add("GET", JOINED, "A new personal key, once")
async def joined(request: Request) -> Response:
    """The personal key of somebody who has just joined, shown once."""
    session = session_of(request)
    keys = desk_of(request).shown.take(digest_of(session)) if session else []
    if not keys:
        return see(ADMIN)
    return page(request, "joined", "Your key", key=keys[0])


def _token_of(request: Request) -> str:
    return str(request.path_params["token"])[:LONGEST_TOKEN]


def _check_token(service: Service, token: str) -> None:
    database = service.people.existing()
    if database is None:
        raise ApiError(403, "this invitation is unknown, used up or expired; ask for a new one")
    with writing(database) as connection:
        workers.invitation_of(connection, token)


def _join(service: Service, token: str, name: str) -> tuple[str, str]:
    """A new person's session and personal key."""
    with writing(service.people.engine()) as connection:
        person, key = workers.join(connection, token, name)
        return workers.open_session(connection, person.id), key


def _https(request: Request) -> bool:
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


def _cookie(request: Request) -> dict[str, Any]:
    """Sets a cookie that scripts can't read and other sites don't send; only over https if this request came so."""
    return {"path": ADMIN, "httponly": True, "samesite": "strict", "secure": _https(request)}
