"""Access to the admin pages: signing in and out, joining by an invitation with a console role, the proof in forms.

Two kinds of visitors come in. A person signs in with the personal key of the chat or the arena; the session and its
cookie are the same there and here, and the console role of the person, read at each request, says what is allowed. A
key with the scope admin has all rights: for a browser by a session, for a program in each request's header.

Every admin route also answers in JSON, from the same data as the page.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, delete
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.accounts.keys import ANONYMOUS, ID_PREFIX, PREFIX, Caller, opens_admin
from charter_service.accounts.sessions import HOURS, close_session, find_session, open_session
from charter_service.accounts.tables import SESSIONS
from charter_service.api.errors import ApiError, api_error
from charter_service.api.rendering import ADMIN, page, wants_json
from charter_service.api.service import Service
from charter_service.api.wire.reading import json_of, secret_of, service_of
from charter_service.api.wire.route import Routes
from charter_service.people import workers
from charter_service.people.entrance import SESSION, join_and_enter, places_beside, token_of
from charter_service.people.entrance import enter as enter_person
from charter_service.people.members import actor_of, check_still, sign_out, signature
from charter_service.people.places import CONSOLE
from charter_service.people.workers import OWNER, Person, Right, allows, person_of
from charter_service.web.audit import Actor, note_act
from charter_service.web.database import reading, writing
from charter_service.web.entrance import CSRF, LONGEST_TOKEN, Cookie, Limiter, Once, SentOnce, printable
from charter_service.web.forms import LARGEST_FORM, Form, check_site, content_type, read_form
from charter_service.web.guard import address_of
from charter_service.web.refusal import Refusal
from charter_service.web.site import see
from charter_service.web.tokens import digest_of

TAG = "Admin"
ENTER = f"{ADMIN}/enter"
LONGEST_SECRET = 200
KEYS_SESSION = Cookie("charter_admin", HOURS * 3600, ADMIN, LONGEST_SECRET)  # of an API key
TRIES, TRIES_A_SECOND = 10, 0.1  # tries of an address to sign in


@dataclass
class Desk:
    """State that the pages of one server share, in memory: sent forms, secrets to show, tries by address, and the
    result of the last check of the log."""

    sent: SentOnce = field(default_factory=SentOnce)
    shown: Once = field(default_factory=Once)
    links: Once = field(default_factory=Once)  # invitations
    entries: Limiter = field(default_factory=lambda: Limiter(TRIES_A_SECOND, TRIES))
    checked: dict[str, Any] | None = None


@dataclass(frozen=True)
class Visit:
    """One request of an admin; `session` is empty for a program with a key. `person`: None for a key. `caller`: whose
    usage the requests of a page count to; a person's count as those without a key."""

    service: Service
    desk: Desk
    caller: Caller
    session: str
    form: Form
    request: Request
    person: Person | None = None

    @property
    def role(self) -> str:
        """The console role; a key with the scope admin has an owner's rights."""
        return OWNER if self.person is None else self.person.console

    def may(self, right: Right) -> bool:
        """Whether the role of the visitor has a right; templates ask it before they show a form."""
        return allows(self.role, right)

    @property
    def by(self) -> str:
        """The decider's name in rows: the person's or the key's, and enough of its id to tell it apart."""
        if self.person is not None:
            return signature(self.person)
        return f"{self.caller.name} ({self.caller.key[:12]})"

    @property
    def actor(self) -> Actor:
        """The visitor as the audit log names them."""
        return Actor(self.by, self.caller.key, self.role) if self.person is None else actor_of(self.person)

    def note(
        self,
        connection: Connection,
        what: str,
        whose: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds an act of the visitor to the audit log, in the transaction of what it changes: `what` is such as
        key.revoke, `whose` an id, `before` and `after` its state. Never note a secret, or a text of anybody."""
        note_act(connection, self.actor, what, whose, before, after)

    def check_holder(self, connection: Connection, organisation: str) -> None:
        """Raises ApiError, 403, for a visitor who isn't an owner and wants to stop or throttle an organisation that
        holds a key with the scope admin, or to let it in again."""
        if not self.may("own") and opens_admin(connection, organisation):
            raise ApiError(
                403,
                f"this organisation holds a key with the scope admin; the role {self.role} may not change its state "
                "or limits, ask an owner",
            )

    def write_people(self, work: Callable[[Connection], T], right: Right = "own") -> T:
        """The result of `work` in a writing transaction of the people's database. Raises Refusal if the visitor's role
        has changed since the request began."""
        with writing(self.service.people.engine()) as connection:
            if self.person is not None:
                check_still(connection, self.person, right)
            return work(connection)

    @property
    def owner(self) -> str:
        """A name of the session that isn't its token."""
        return digest_of(self.session)

    def proof(self) -> str:
        """The proof for one form of a page."""
        return self.desk.sent.make(self.session)

    def query(self, name: str, otherwise: str = "") -> str:
        """A query parameter, short and printable. Raises ApiError for anything else."""
        value = self.request.query_params.get(name, otherwise).strip()
        if len(value) > 200 or not value.isprintable():
            raise ApiError(400, f"{name}: expected at most 200 printable characters", param=name)
        return value

    def part(self, name: str) -> str:
        """A path parameter."""
        return str(self.request.path_params[name])[:200]


class NotEntered(ApiError):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__(401, "no API key: send one with the scope admin as x-api-key, or enter at /admin/enter")


class NoRole(ApiError):
    """A person without a console role."""

    def __init__(self) -> None:
        super().__init__(403, "you have no role on these pages; an owner can give you one")


@dataclass(frozen=True)
class Shown:
    """A page and its data, which programs get as JSON."""

    template: str
    title: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """A form's action succeeded: the next page for browsers, and the data for programs."""

    place: str
    data: Mapping[str, Any]


Answer = Shown | Done | Response
Work = Callable[[Visit], Answer]
W = TypeVar("W", bound=Work)
T = TypeVar("T")


class AdminRoutes(Routes):
    """Routes for admins only."""

    def page(self, method: str, path: str, summary: str, right: Right | None = None) -> Callable[[W], W]:
        """Adds a route that runs the decorated work beside the event loop. `right`: what the visitor's role must
        allow; by default `read` to see a page, and `operate` to send a form."""
        needed: Right = right or ("read" if method == "GET" else "operate")

        def add(work: W) -> W:
            async def handler(request: Request) -> Response:
                visit = await visit_of(request)
                check_right(visit, needed)
                return await asyncio.to_thread(_answer, work, visit)

            self.add(method, path, summary)(handler)
            return work

        return add

    def live(
        self, method: str, path: str, summary: str, right: Right
    ) -> Callable[[Callable[[Visit], Awaitable[Answer]]], Callable[[Visit], Awaitable[Answer]]]:
        """Adds a route whose work waits for models, on the event loop. Its form is used up when the work begins."""

        def add(work: Callable[[Visit], Awaitable[Answer]]) -> Callable[[Visit], Awaitable[Answer]]:
            async def handler(request: Request) -> Response:
                visit = await visit_of(request)
                check_right(visit, right)
                with _sending(visit):
                    answer = await work(visit)
                return _response(visit, answer)

            self.add(method, path, summary)(handler)
            return work

        return add


def check_right(visit: Visit, right: Right) -> None:
    """Raises ApiError, 403, if the visitor's role lacks a right."""
    if not visit.may(right):
        raise ApiError(403, f"this needs the right to {right}, and the role {visit.role} lacks it; ask an owner")


def _answer(work: Work, visit: Visit) -> Response:
    with _sending(visit):
        answer = work(visit)
    return _response(visit, answer)


@contextmanager
def _sending(visit: Visit) -> Iterator[None]:
    """A context that uses up the proof of a browser's form."""
    if visit.request.method == "POST" and visit.session:
        with visit.desk.sent.sending(visit.session, visit.form.text(CSRF)):
            yield
    else:
        yield


def _response(visit: Visit, answer: Answer) -> Response:
    if isinstance(answer, Response):
        return answer
    if wants_json(visit.request):
        return JSONResponse(dict(answer.data))
    if isinstance(answer, Done):
        return see(answer.place)
    return page(visit.request, answer.template, answer.title, visit=visit, **answer.data)


async def visit_of(request: Request) -> Visit:
    """The visit of a request. Raises NotEntered, NoRole, ApiError: 401 for an invalid key, 403 for one without the
    scope admin."""
    service, desk = service_of(request), desk_of(request)
    if secret := secret_of(request):
        program = await asyncio.to_thread(admin_of, service, secret)
        fields = await _fields(request) if request.method == "POST" else Form()
        return Visit(service, desk, program, "", fields, request)
    session = KEYS_SESSION.of(request)
    caller, person = await asyncio.to_thread(_session_caller, service, session), None
    if caller is None:
        session = SESSION.of(request)
        person = await asyncio.to_thread(person_in, service, session)
        if person is None:
            raise NotEntered
        caller = replace(ANONYMOUS, name=person.name)
    # before the body is read: a stranger's is never
    if person is not None and not person.console:
        raise NoRole
    form = await read_form(request) if request.method == "POST" else Form()
    return Visit(service, desk, caller, session, form, request, person)


def person_in(service: Service, session: str) -> Person | None:
    """The person of a session that the chat, the arena or these pages opened; None if there is none."""
    database = service.people.existing() if session else None
    if database is None:
        return None
    with reading(database) as connection:
        return person_of(connection, session)


def admin_of(service: Service, secret: str) -> Caller:
    """The caller of a key. Raises ApiError: 401 for an invalid key, 403 without the scope admin."""
    try:
        caller = service.keyring.find_caller(secret[:LONGEST_SECRET])
    except Exception as error:
        raise api_error(error) from None
    if not caller.may("admin"):
        raise ApiError(403, "this key lacks the scope admin; create one with charter keys create --scopes admin")
    return caller


def _session_caller(service: Service, session: str) -> Caller | None:
    if not session:
        return None
    with reading(service.database) as connection:
        return find_session(connection, session)


async def _fields(request: Request) -> Form:
    """The body of a request: a JSON object of texts, numbers and lists, or a form."""
    if content_type(request) != "application/json":
        return await read_form(request)
    body = await json_of(request, LARGEST_FORM)
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return Form({name: _texts(name, value) for name, value in body.items() if value is not None})


def _texts(name: str, value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise ApiError(400, f"{name[:100]}: expected text, a number or a list of them", param=name[:100])
    return [item if isinstance(item, str) else json.dumps(item) for item in items]


def desk_of(request: Request) -> Desk:
    """The state that the pages share."""
    desk: Desk = request.app.state.desk
    return desk


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
