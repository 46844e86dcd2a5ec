"""One request of a signed-in person, and how handlers are called: pages for people, JSON for programs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from charter_service.chat.attached import by_message, in_words
from charter_service.chat.branches import REFUSED, Message, list_chats
from charter_service.chat.citing import linked
from charter_service.chat.client import USER
from charter_service.chat.markdown import render
from charter_service.chat.service import Service, since
from charter_service.chat.storage import megabytes
from charter_service.people.places import CHAT, CONSOLE, NAMES, other_places
from charter_service.people.roles import allows
from charter_service.people.visits import (
    NotEntered,
    SignedIn,
    check_form,
    check_pace,
    see,
    session_of,
    visitor_of,
    wants_json,
)
from charter_service.people.workers import Person
from charter_service.web.database import reading
from charter_service.web.forms import LARGEST_FORM, Form, read_form
from charter_service.web.pages import Pages
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import new_id

LARGEST = 8 * 2**20  # bytes of a form: a long text, encoded
FILES = {
    "chat.css": "text/css",
    "files.css": "text/css",
    "chat.js": "text/javascript",
    "files.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
PAGES = Pages(Path(__file__).parent / "pages", FILES)
PAGES.environment.filters |= {"since": since, "megabytes": megabytes, "bytes": in_words}
PAGES.environment.globals["new_client"] = new_id


@dataclass(frozen=True)
class Visit(SignedIn):
    """One request of a signed-in person; `loop`: where the service's connections live."""

    service: Service
    request: Request
    loop: asyncio.AbstractEventLoop

    @property
    def user(self) -> str:
        """The id by which the API knows the person."""
        return f"{USER}{self.person.id}"

    @property
    def address(self) -> str:
        """Where people reach the pages, as links begin."""
        return self.service.config.address or str(self.request.base_url).rstrip("/")

    @property
    def id(self) -> str:
        """The id in the request's address."""
        return str(self.request.path_params["id"])[:64].replace("\x00", "")


Handler = Callable[[Visit], Any]


def member(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for signed-in people. Raises NotEntered, TooFast, Refusal."""

    async def endpoint(request: Request) -> Response:
        service: Service = request.app.state.service
        person, form = await run_in_threadpool(visitor_of, request, service.database), Form()
        if request.method == "POST":
            form = request.state.form = await _form_of(request, person)
        if person is None:
            raise NotEntered
        visit = visit_of(request, person, form)
        if inspect.iscoroutinefunction(handler):
            answer: Response = await handler(visit)
            return answer
        async with service.turns(person.id):
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


async def _form_of(request: Request, person: Person | None) -> Form:
    """The form of a request: a stranger's is small, and those of a person are read a few at a time, since reading
    takes many times a form's size. Raises Refusal."""
    if person is None:
        return await read_form(request, LARGEST_FORM)
    service: Service = request.app.state.service
    async with service.turns(person.id):
        return await read_form(request, LARGEST)


def visit_of(request: Request, person: Person, form: Form) -> Visit:
    """A request of a person, if it doesn't come too fast and its form is from one of their pages."""
    service: Service = request.app.state.service
    check_pace(service.by_person, str(person.id))
    session = session_of(request)
    if request.method == "POST":
        check_form(session, form)
    # no database keeps NUL
    fields = {name: [value.replace("\x00", "") for value in values] for name, values in form.fields.items()}
    return Visit(person, session, Form(fields), service, request, asyncio.get_running_loop())


def whole(text: str) -> int:
    """A whole number in an address; 0 if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def number_in(visit: Visit, name: str) -> int:
    """A whole number in the query of a request; 0 if there is none."""
    return whole(visit.request.query_params.get(name, ""))


def done(visit: Visit, place: str, **facts: Any) -> Response:
    """The answer to a form: another page, or, for a script, where it would be and what came of it."""
    if wants_json(visit.request):
        return JSONResponse({"place": place, **facts}, 201 if facts else 200)
    return see(place)


def show(visit: Visit, template: str, title: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page for a signed-in person, with the list of chats beside it."""
    with reading(visit.service.database) as connection:
        chats = list_chats(connection, visit.person)
        judges = allows(visit.person.console, "review")
        host = visit.request.url.hostname or ""
        others = dict(other_places(connection, CHAT, host)) if judges else {}
    config = visit.service.config
    known: dict[str, Any] = {
        "here": visit.request.url.path,
        "chats": chats,
        "console": others.get(NAMES[CONSOLE], ""),
        "service": visit.service,
        "contact": config.contact,
    }
    return PAGES.page(template, status, name=config.name, title=title, member=visit, **known, **context)


def plain(service: Service, template: str, title: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page for somebody who isn't signed in."""
    config = service.config
    known: dict[str, Any] = {"here": "", "chats": (), "service": service, "contact": config.contact}
    return PAGES.page(template, status, name=config.name, title=title, member=None, **known, **context)


def articles(visit: Visit, messages: Sequence[Message], unfolded: str = "") -> list[str]:
    """Messages of a chat as HTML, in a thread of a request: appealed stops say what became of the appeal, which the
    model's server knows. `unfolded`: as in `article`."""
    appeals: dict[str, str] = {}
    if any(one.appealed for one in messages):
        known = visit.service.api.appeals(visit.user)
        appeals = asyncio.run_coroutine_threadsafe(known, visit.loop).result()
    return [article(visit, one, "/m/", unfolded, appeals.get(one.request, "open")) for one in messages]


def article(
    visit: Visit, message: Message, place: str = "/m/", unfolded: str = "", appeal: str = "open"
) -> str:
    """A message as HTML; `place`: how the addresses of what is done with it begin; `unfolded`: the form that stands
    open in it, `edit`, `rate`, `appeal` or none; `appeal`: what became of an appealed stop."""
    text = message.text
    if message.running:
        text = visit.service.replies.text_of(message.id) or text
    stop = stop_words(visit.service, message) if message.state == REFUSED else ""
    bare = message.role != "assistant" or (stop and text.strip() == message.reason.strip())
    blocks = () if bare else _blocks(visit, message, text)
    shown = {
        "m": message,
        "text": text,
        "blocks": blocks,
        "place": place,
        "calls": message.calls,
        "stop": stop,
        "appeal": appeal,
    }
    return str(PAGES.fill("message", member=visit, service=visit.service, unfolded=unfolded, **shown))


def stop_words(service: Service, message: Message) -> str:
    """Why the policy stopped a reply, without its words on how to object, in whose place the page has a button."""
    policy = service.rules.policy if service.rules else None
    object_by = str(policy.get("appeal") or "") if policy else ""
    reason = message.reason.strip()
    words = reason.removesuffix(object_by).strip() if object_by else reason
    under = f" under its category {message.category}" if message.category else ""
    return words or f"The policy of acceptable use stopped this{under}."


def _blocks(visit: Visit, message: Message, text: str) -> list[str]:
    """A reply as HTML; its quotations from files are links to where they stand."""
    blocks = render(text)
    if message.running or message.citations == "[]":
        return blocks
    with reading(visit.service.database) as connection:
        files = by_message(connection, message.chat)
    return linked(blocks, message.citations, {one.sha256: one for some in files.values() for one in some})
