"""Signing in and out: joining by an invitation or by oneself, entering with a key, leaving."""

from __future__ import annotations

import time

from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from charter_service.chat.service import DAY, Service
from charter_service.chat.temporary_pages import close_chat
from charter_service.chat.visit import Visit, plain, show
from charter_service.people.places import CHAT, other_places
from charter_service.people.tables import PEOPLE
from charter_service.people.visits import TooFast, check_pace, drop_session, see, set_session, wants_json
from charter_service.people.workers import close_session, come_back, invitation_of, invite, join, open_session
from charter_service.web.database import alone, reading, writing
from charter_service.web.forms import Form, read_form
from charter_service.web.refusal import Refusal
from charter_service.web.security_headers import address_of, network_of
from charter_service.web.tokens import digest_of

LONGEST_TOKEN, LONGEST_NAME = 100, 40
NOTICES = {
    "left": "You have signed out. Sign in again with your key.",
    "forgotten": "All your data here is deleted.",
}
FULL = "so many people joined in the last day that nobody else can until tomorrow; ask for an invitation"
CLOSED = "this chat is for invited people; ask whoever runs it for an invitation"


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    check_pace(service.entries, address_of(request.scope))
    return service


async def enter_page(request: Request) -> Response:
    """The page that asks for a key."""
    service: Service = request.app.state.service
    notice = NOTICES.get(request.query_params.get("done", ""), "")
    places = await run_in_threadpool(_places, service, request.url.hostname or "")
    return plain(service, "enter", "Sign in", notice=notice, places=places)


def _places(service: Service, host: str) -> list[tuple[str, str]]:
    """The other services on this host that know the same people."""
    with reading(service.database) as connection:
        return other_places(connection, CHAT, host)


async def enter(request: Request) -> Response:
    """Opens a session for the owner of a key. Raises Refusal if the key is unknown."""
    service = _service(request)
    form = await read_form(request)
    session = await run_in_threadpool(_enter, service, form.text("key").strip()[:LONGEST_TOKEN])
    answer = see("/")
    set_session(answer, session, service.config.secure)
    return answer


def _enter(service: Service, key: str) -> str:
    with writing(service.database) as connection:
        return open_session(connection, come_back(connection, key).id)


async def join_page(request: Request) -> Response:
    """The page where somebody chooses a name. Raises Refusal if the invitation isn't valid, or none is needed."""
    service = _service(request)
    token = str(request.path_params.get("token", ""))[:LONGEST_TOKEN]
    await run_in_threadpool(_check_token, service, token)
    return plain(service, "join", "Welcome", token=token, called="", problem="")


async def join_here(request: Request) -> Response:
    """Adds somebody, and shows the key on the next page; asks again if the name isn't accepted."""
    service = _service(request)
    token = str(request.path_params.get("token", ""))[:LONGEST_TOKEN]
    form = request.state.form = await read_form(request)
    await run_in_threadpool(_check_token, service, token)
    try:
        session, key = await run_in_threadpool(_join, service, token, form, network_of(request.scope))
    except Refusal as refusal:
        if wants_json(request) or isinstance(refusal, TooFast):
            raise
        called = "".join(letter for letter in form.text("name") if letter.isprintable())[:LONGEST_NAME]
        return plain(
            service, "join", "Welcome", refusal.status, token=token, called=called, problem=str(refusal)
        )
    service.keys.put(digest_of(session), [key])
    answer = see("/welcome")
    set_session(answer, session, service.config.secure)
    return answer


def _check_token(service: Service, token: str) -> None:
    if token:
        with writing(service.database) as connection:
            invitation_of(connection, token)
    elif not service.config.sign_up:
        raise Refusal(CLOSED, 403)


def _join(service: Service, token: str, form: Form, network: str) -> tuple[str, str]:
    """A new person's session and key. Without an invitation so many may join in a day, and from one network."""
    with writing(service.database) as connection:
        if not token:
            alone(connection)  # else several at once would all be the last one
            lately = select(func.count()).select_from(PEOPLE).where(PEOPLE.c.created > time.time() - DAY)
            if connection.execute(lately).scalar_one() >= service.config.sign_ups:
                raise Refusal(FULL, 429)
            if (wait := service.sign_ups.wait(network)) > 0:
                raise TooFast(wait)
        person, key = join(connection, token or invite(connection, "member"), form.text("name"))
        return open_session(connection, person.id), key


def welcome(visit: Visit) -> Response:
    """The personal key, shown once."""
    keys = visit.service.keys.take(visit.owner)
    if not keys:
        return see("/")
    return show(visit, "welcome", "Your key", key=keys[0])


def leave(visit: Visit) -> Response:
    """Closes the session, and its temporary chats."""
    for chat in visit.service.temporary.of(visit.person.id):
        if chat.owner == visit.owner:
            close_chat(visit, chat)
    with writing(visit.service.database) as connection:
        close_session(connection, visit.session)
    answer = see("/enter?done=left")
    drop_session(answer, visit.service.config.secure)
    return answer
