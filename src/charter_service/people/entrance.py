"""The entrance of sites where people work or talk: joining by an invitation, signing in with a key, signing out, and
the person behind each request."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from charter_service.people.places import other_places
from charter_service.people.workers import (
    SESSION_DAYS,
    Person,
    close_session,
    come_back,
    invitation_of,
    is_alive,
    join,
    open_session,
    person_of,
)
from charter_service.web.database import reading, writing
from charter_service.web.entrance import (
    LONGEST_TOKEN,
    Cookie,
    NotEntered,
    TooFast,
    check_form,
    check_pace,
    csrf_of,
    printable,
)
from charter_service.web.forms import LARGEST_FORM, Form, read_form
from charter_service.web.guard import address_of
from charter_service.web.refusal import Refusal
from charter_service.web.site import Endpoint, PageSite, see, wants_json
from charter_service.web.tokens import digest_of

SESSION = Cookie("charter_session", SESSION_DAYS * 86_400)
LEFT = "You have signed out. Sign in again with your key."


@dataclass(frozen=True)
class SignedIn:
    """A request of a signed-in person: the session's token, and the form that was sent."""

    person: Person
    session: str
    form: Form
    request: Request

    @property
    def csrf(self) -> str:
        """The proof in this session's forms."""
        return csrf_of(self.session)

    @property
    def owner(self) -> str:
        """A name of the session that isn't its token."""
        return digest_of(self.session)

    @property
    def service(self) -> Any:
        """The service that the application serves."""
        return self.request.app.state.service


Handler = Callable[[Any], Any]  # of a visit; what isn't a coroutine runs beside the event loop


class PeopleSite(PageSite):
    """A site where people sign in. Its services have `config.secure`, a `database` of people, `keys` to show once, and
    limits `by_person` and of `entries`. `place`: its own among those that sign-in pages lead to; `runs`: what is run
    here; `longest`: bytes of a member's form."""

    place: str
    runs: str
    forgotten = "All your data here is deleted."
    longest = LARGEST_FORM

    @abstractmethod
    def visit(self, person: Person, session: str, form: Form, request: Request) -> SignedIn:
        """The visit that handlers get."""

    @abstractmethod
    def plain(self, service: Any, template: str, title: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for somebody who isn't signed in."""

    @abstractmethod
    def show(self, visit: Any, template: str, title: str, **values: Any) -> HTMLResponse:
        """A page for a signed-in person."""

    def turns(self, service: Any, person: int) -> AbstractAsyncContextManager[Any]:
        """What a person's requests wait for."""
        return nullcontext()

    def invited(self, service: Any, token: str) -> str:
        """The role of an invitation. Raises Refusal if it isn't valid."""
        with writing(service.database) as connection:
            return str(invitation_of(connection, token).role)

    def let_in(self, service: Any, token: str, name: str, request: Request) -> tuple[str, str]:
        """A new person's session and key. Raises Refusal."""
        with writing(service.database) as connection:
            return join_and_enter(connection, token, name)

    def leaving(self, visit: Any) -> None:
        """What ends with a session."""

    def facts(self, service: Any) -> Mapping[str, str]:
        """What `/health` says beside its status."""
        return {}

    async def health(self, request: Request) -> Response:
        """Whether the service can work."""
        service = request.app.state.service
        alive = await run_in_threadpool(is_alive, service.database)
        status = "ok" if alive else "no database"
        return JSONResponse({"status": status, **self.facts(service)}, 200 if alive else 503)

    def member(self, handler: Handler) -> Endpoint:
        """An endpoint for signed-in people. Raises NotEntered, TooFast, Refusal."""

        async def endpoint(request: Request) -> Response:
            service, form = request.app.state.service, Form()
            person = await run_in_threadpool(visitor_of, request, service.database)
            if request.method == "POST":
                form = request.state.form = await self._form_of(request, person)
            if person is None:
                raise NotEntered
            visit = self.visit_of(request, person, form)
            if inspect.iscoroutinefunction(handler):
                answer: Response = await handler(visit)
                return answer
            async with self.turns(service, person.id):
                return await run_in_threadpool(handler, visit)

        return endpoint

    def admin(self, handler: Handler) -> Endpoint:
        """An endpoint for those who run the service. Raises Refusal for anybody else."""

        def checked(visit: Any) -> Response:
            if not visit.person.may("admin"):
                raise Refusal(f"this page is for those who run the {self.runs}", 403)
            answer: Response = handler(visit)
            return answer

        return self.member(checked)

    async def _form_of(self, request: Request, person: Person | None) -> Form:
        """The form of a request: a stranger's is small, and those of a person are read a few at a time, since reading
        takes many times a form's size. Raises Refusal."""
        if person is None:
            return await read_form(request)
        async with self.turns(request.app.state.service, person.id):
            return await read_form(request, self.longest)

    def visit_of(self, request: Request, person: Person, form: Form) -> Any:
        """A request of a person, if it doesn't come too fast and its form is from one of their pages."""
        check_pace(request.app.state.service.by_person, str(person.id))
        session = SESSION.of(request)
        if request.method == "POST":
            check_form(session, form)
        return self.visit(person, session, form, request)

    async def enter_page(self, request: Request) -> Response:
        """The page that asks for a key."""
        service, done = request.app.state.service, request.query_params.get("done", "")
        notice = {"left": LEFT, "forgotten": self.forgotten}.get(done, "")
        host = request.url.hostname or ""
        places = await run_in_threadpool(places_beside, service.database, self.place, host)
        return self.plain(service, "enter", "Sign in", notice=notice, places=places)

    async def enter(self, request: Request) -> Response:
        """Opens a session for the owner of a key. Raises TooFast, Refusal if the key is unknown."""
        service = _paced(request)
        key = (await read_form(request)).text("key").strip()[:LONGEST_TOKEN]
        return self._entered(service, await run_in_threadpool(enter, service.database, key), "/")

    async def join_page(self, request: Request) -> Response:
        """The page where somebody chooses a name. Raises TooFast, Refusal if the invitation isn't valid."""
        service, token = _paced(request), token_of(request)
        role = await run_in_threadpool(self.invited, service, token)
        return self.plain(service, "join", "Welcome", token=token, role=role, called="", problem="")

    async def join(self, request: Request) -> Response:
        """Adds somebody, and shows the key on the next page; asks again if the name isn't accepted."""
        service, token = _paced(request), token_of(request)
        form = request.state.form = await read_form(request)
        role = await run_in_threadpool(self.invited, service, token)
        name = form.text("name")
        try:
            session, key = await run_in_threadpool(self.let_in, service, token, name, request)
        except Refusal as refusal:
            if wants_json(request) or isinstance(refusal, TooFast):
                raise
            again = {"token": token, "role": role, "called": printable(name), "problem": str(refusal)}
            return self.plain(service, "join", "Welcome", refusal.status, **again)
        service.keys.put(digest_of(session), [key])
        return self._entered(service, session, "/welcome")

    @staticmethod
    def _entered(service: Any, session: str, place: str) -> Response:
        answer = see(place)
        SESSION.set(answer, session, service.config.secure)
        return answer

    def welcome(self, visit: SignedIn) -> Response:
        """The personal key, shown once."""
        keys = visit.service.keys.take(visit.owner)
        return self.show(visit, "welcome", "Your key", key=keys[0]) if keys else see("/")

    def leave(self, visit: SignedIn) -> Response:
        """Closes the session."""
        self.leaving(visit)
        with writing(visit.service.database) as connection:
            close_session(connection, visit.session)
        return gone(visit, "left")


def _paced(request: Request) -> Any:
    """The service of a request. Raises TooFast for an address that tries too many keys and invitations."""
    service = request.app.state.service
    check_pace(service.entries, address_of(request.scope))
    return service


def token_of(request: Request) -> str:
    """The invitation in a request's address, empty without one."""
    return str(request.path_params.get("token", ""))[:LONGEST_TOKEN]


def visitor_of(request: Request, database: Engine) -> Person | None:
    """The signed-in person, or None."""
    session = SESSION.of(request)
    if not session:
        return None
    with reading(database) as connection:
        return person_of(connection, session)


def enter(database: Engine, key: str) -> str:
    """A new session of a key's owner. Raises Refusal if the key is unknown."""
    with writing(database) as connection:
        return open_session(connection, come_back(connection, key).id)


def join_and_enter(connection: Connection, token: str, name: str) -> tuple[str, str]:
    """A new person's session and key. Raises Refusal."""
    person, key = join(connection, token, name)
    return open_session(connection, person.id), key


def places_beside(database: Engine, place: str, host: str) -> list[tuple[str, str]]:
    """The other services on this host that know the same people."""
    with reading(database) as connection:
        return other_places(connection, place, host)


def gone(visit: SignedIn, done: str) -> Response:
    """The sign-in page, after a session or a person is gone."""
    answer = see(f"/enter?done={done}")
    SESSION.drop(answer, visit.service.config.secure)
    return answer
