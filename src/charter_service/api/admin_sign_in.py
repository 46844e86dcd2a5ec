"""Signing in to the admin pages and out: with a personal key, which the chat and the arena know too, or with an API key
of the scope admin; and joining by an invitation with a console role."""

from __future__ import annotations

import asyncio
import math

from sqlalchemy import Connection, delete
from starlette.requests import Request
from starlette.responses import Response

from charter_service.accounts.keys import ID_PREFIX, PREFIX
from charter_service.accounts.sessions import close_session, open_session
from charter_service.accounts.tables import SESSIONS
from charter_service.api.admin_entrance import (
    ENTER,
    KEYS_SESSION,
    TAG,
    Visit,
    admin_of,
    desk_of,
    visit_of,
)
from charter_service.api.errors import ApiError
from charter_service.api.rendering import ADMIN, page
from charter_service.api.service import Service
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import Routes
from charter_service.people import workers
from charter_service.people.entrance import SESSION, join_and_enter, places_beside, token_of
from charter_service.people.entrance import enter as enter_person
from charter_service.people.members import actor_of, sign_out
from charter_service.people.places import CONSOLE
from charter_service.web.database import writing
from charter_service.web.entrance import CSRF, LONGEST_TOKEN, printable
from charter_service.web.forms import check_site, read_form
from charter_service.web.guard import address_of
from charter_service.web.refusal import Refusal
from charter_service.web.site import see
from charter_service.web.tokens import digest_of

ROUTES = Routes(TAG)
JOIN, JOINED = f"{ADMIN}/join/{{token}}", f"{ADMIN}/joined"
NOT_KNOWN = "this key is not known here; give your personal key, or an API key with the scope admin"


def check_pace(request: Request) -> None:
    """Raises ApiError for an address that tries too many keys."""
    if (wait := desk_of(request).entries.wait(address_of(request.scope))) > 0:
        seconds = math.ceil(wait)
        raise ApiError(429, f"too many tries from here; wait {seconds} s and try again", retry_after=seconds)


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
    return [] if database is None else places_beside(database, CONSOLE, host)


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
        KEYS_SESSION.set(answer, session, _https(request))
    else:
        KEYS_SESSION.drop(answer, _https(request))  # else a key's session would go before the person's
        SESSION.set(answer, session, _https(request))
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
    try:
        return enter_person(database, key[:LONGEST_TOKEN])
    except Refusal:
        raise ApiError(401, NOT_KNOWN) from None


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
    await asyncio.to_thread(_close, visit, SESSION.of(request), everywhere)
    answer = see(f"{ENTER}?left=1")
    KEYS_SESSION.drop(answer, _https(request))
    SESSION.drop(answer, _https(request))
    return answer


def _close(visit: Visit, persons: str, everywhere: bool) -> None:
    """Closes the session of the key and that of the person, whichever there are, or all of the visitor's."""
    service, key = visit.service, KEYS_SESSION.of(visit.request)
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
    token = token_of(request)
    await asyncio.to_thread(_check_token, service_of(request), token)
    return page(request, "join", "Welcome", token=token, called="", problem="")


@ROUTES.add("POST", JOIN, "Join by an invitation")
async def join(request: Request) -> Response:
    """Adds the invited person, and shows the personal key on the next page; asks again if the name isn't accepted."""
    check_site(request)
    check_pace(request)
    service, token = service_of(request), token_of(request)
    form = await read_form(request)
    await asyncio.to_thread(_check_token, service, token)
    try:
        session, key = await asyncio.to_thread(_join, service, token, form.text("name"))
    except Refusal as refusal:
        again = {"called": printable(form.text("name")), "problem": str(refusal)}
        return page(request, "join", "Welcome", refusal.status, token=token, **again)
    desk_of(request).shown.put(digest_of(session), [key])
    answer = see(JOINED)
    KEYS_SESSION.drop(answer, _https(request))
    SESSION.set(answer, session, _https(request))
    return answer


@ROUTES.add("GET", JOINED, "A new personal key, once")
async def joined(request: Request) -> Response:
    """The personal key of somebody who has just joined, shown once."""
    session = SESSION.of(request)
    keys = desk_of(request).shown.take(digest_of(session)) if session else []
    if not keys:
        return see(ADMIN)
    return page(request, "joined", "Your key", key=keys[0])


def _check_token(service: Service, token: str) -> None:
    database = service.people.existing()
    if database is None:
        raise ApiError(403, "this invitation is unknown, used up or expired; ask for a new one")
    with writing(database) as connection:
        workers.invitation_of(connection, token)


def _join(service: Service, token: str, name: str) -> tuple[str, str]:
    """A new person's session and personal key."""
    with writing(service.people.engine()) as connection:
        return join_and_enter(connection, token, name)


def _https(request: Request) -> bool:
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
