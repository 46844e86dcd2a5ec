"""One request of a signed-in person, and how handlers are called: pages for people, JSON for programs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from charter.service.chat.branches import list_chats
from charter.service.chat.service import USER, Service, since
from charter.service.people.visits import (
    CSRF,
    NotEntered,
    check_form,
    check_pace,
    see,
    session_of,
    visitor_of,
    wants_json,
)
from charter.service.people.workers import Person
from charter.service.web.database import reading
from charter.service.web.forms import Form, read_form
from charter.service.web.pages import Pages
from charter.service.web.refusal import Refusal
from charter.service.web.tokens import digest_of, new_id, proof_of

LARGEST = 8 * 2**20  # bytes of a form: a long text, encoded
FILES = {"chat.css": "text/css", "chat.js": "text/javascript", "icon.svg": "image/svg+xml"}
PAGES = Pages(Path(__file__).parent / "pages", FILES)
PAGES.environment.filters["since"] = since
PAGES.environment.globals["new_client"] = new_id


@dataclass(frozen=True)
class Visit:
    """One request of a signed-in person."""

    service: Service
    person: Person
    session: str
    form: Form
    request: Request

    @property
    def csrf(self) -> str:
        """The proof in this session's forms."""
        return proof_of(self.session, CSRF)

    @property
    def owner(self) -> str:
        """A name of the session that isn't its token."""
        return digest_of(self.session)

    @property
    def user(self) -> str:
        """The id by which the API knows the person."""
        return f"{USER}{self.person.id}"

    @property
    def id(self) -> str:
        """The id in the request's address."""
        return str(self.request.path_params["id"])[:64]


Handler = Callable[[Visit], Any]


def member(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for signed-in people. Raises NotEntered, TooFast, Refusal."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request, LARGEST) if request.method == "POST" else Form()
        request.state.form = form
        visit = await run_in_threadpool(_visit, request, form)
        if inspect.iscoroutinefunction(handler):
            answer: Response = await handler(visit)
            return answer
        return await run_in_threadpool(handler, visit)

    return endpoint


def admin(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for those who run the chat. Raises Refusal for anybody else."""

    def checked(visit: Visit) -> Response:
        if not visit.person.may("admin"):
            raise Refusal("this page is for those who run the chat", 403)
        answer: Response = handler(visit)
        return answer

    return member(checked)


def _visit(request: Request, form: Form) -> Visit:
    service: Service = request.app.state.service
    person = visitor_of(request, service.database)
    if person is None:
        raise NotEntered
    check_pace(service.by_person, str(person.id))
    session = session_of(request)
    if request.method == "POST":
        check_form(session, form)
    return Visit(service, person, session, form, request)


def done(visit: Visit, place: str, **facts: Any) -> Response:
    """The answer to a form: another page, or, for a script, where it would be and what came of it."""
    if wants_json(visit.request):
        return JSONResponse({"place": place, **facts}, 201 if facts else 200)
    return see(place)


def show(visit: Visit, template: str, title: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page for a signed-in person, with the list of chats beside it."""
    with reading(visit.service.database) as connection:
        chats = list_chats(connection, visit.person)
    config = visit.service.config
    known: dict[str, Any] = {
        "here": visit.request.url.path,
        "chats": chats,
        "service": visit.service,
        "contact": config.contact,
    }
    return PAGES.page(template, status, name=config.name, title=title, member=visit, **known, **context)


def plain(service: Service, template: str, title: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page for somebody who isn't signed in."""
    config = service.config
    known: dict[str, Any] = {"here": "", "chats": (), "service": service, "contact": config.contact}
    return PAGES.page(template, status, name=config.name, title=title, member=None, **known, **context)
