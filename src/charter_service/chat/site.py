"""The site of a chat: what all its pages share, the person behind a request, and messages as HTML."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from charter_service.chat.attached import by_message, in_words
from charter_service.chat.branches import REFUSED, Message, list_chats
from charter_service.chat.citing import linked
from charter_service.chat.client import USER
from charter_service.chat.markdown import render
from charter_service.chat.service import DAY, Service, since
from charter_service.chat.storage import megabytes
from charter_service.chat.temporary import TemporaryChat
from charter_service.people.entrance import SESSION, PeopleSite, SignedIn, join_and_enter
from charter_service.people.places import CHAT, CONSOLE, NAMES, other_places
from charter_service.people.tables import PEOPLE
from charter_service.people.workers import Person, allows, invite
from charter_service.web.database import alone, reading, writing
from charter_service.web.entrance import check_pace
from charter_service.web.forms import Form
from charter_service.web.guard import network_of
from charter_service.web.pages import Pages
from charter_service.web.refusal import Refusal
from charter_service.web.site import HEADINGS, see, wants_json
from charter_service.web.tokens import new_id

FULL = "so many people joined in the last day that nobody else can until tomorrow; ask for an invitation"
CLOSED = "this chat is for invited people; ask whoever runs it for an invitation"
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

    loop: asyncio.AbstractEventLoop

    @property
    def service(self) -> Service:
        """The chat that is served."""
        service: Service = self.request.app.state.service
        return service

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


class ChatSite(PeopleSite):
    """The pages of a chat. Without an invitation so many may join in a day, and from one network."""

    pages, place, runs, longest = PAGES, CHAT, "chat", LARGEST
    headings: Mapping[int, str] = {**HEADINGS, 401: "Please sign in"}

    def visit(self, person: Person, session: str, form: Form, request: Request) -> Visit:
        """The visit that handlers get."""
        # no database keeps NUL
        fields = {name: [value.replace("\x00", "") for value in values] for name, values in form.fields.items()}
        return Visit(person, session, Form(fields), request, asyncio.get_running_loop())

    def turns(self, service: Service, person: int) -> asyncio.Semaphore:
        """What a person's requests wait for."""
        return service.turns(person)

    def plain(self, service: Service, template: str, title: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for somebody who isn't signed in."""
        config = service.config
        values |= {"here": "", "chats": (), "service": service, "contact": config.contact}
        return PAGES.page(template, status, name=config.name, title=title, member=None, **values)

    def show(self, visit: Visit, template: str, title: str, **values: Any) -> HTMLResponse:
        """A page for a signed-in person, with the list of chats beside it."""
        with reading(visit.service.database) as connection:
            chats = list_chats(connection, visit.person)
            judges = allows(visit.person.console, "review")
            host = visit.request.url.hostname or ""
            others = dict(other_places(connection, CHAT, host)) if judges else {}
        config = visit.service.config
        values |= {
            "here": visit.request.url.path,
            "chats": chats,
            "console": others.get(NAMES[CONSOLE], ""),
            "service": visit.service,
            "contact": config.contact,
        }
        return PAGES.page(template, name=config.name, title=title, member=visit, **values)

    def wants_data(self, request: Request) -> bool:
        """Whether a program asks: for JSON, or for the events of a reply."""
        return wants_json(request) or "text/event-stream" in request.headers.get("accept", "")

    def error_page(self, request: Request, status: int, title: str, words: str) -> Response:
        """The page of a refusal, which gives back what was written."""
        form: Form = getattr(request.state, "form", Form())
        about = {"written": form.text("text") or form.text("words"), "entered": SESSION.name in request.cookies}
        return self.plain(request.app.state.service, "error", title, status, words=words, **about)

    def invited(self, service: Service, token: str) -> str:
        """The role of an invitation; nobody's without one. Raises Refusal if it isn't valid, or one is needed."""
        if token:
            return super().invited(service, token)
        if not service.config.sign_up:
            raise Refusal(CLOSED, 403)
        return ""

    def let_in(self, service: Service, token: str, name: str, request: Request) -> tuple[str, str]:
        """A new person's session and key. Raises Refusal."""
        with writing(service.database) as connection:
            if not token:
                alone(connection)  # else several at once would all be the last one
                lately = select(func.count()).select_from(PEOPLE).where(PEOPLE.c.created > time.time() - DAY)
                if connection.execute(lately).scalar_one() >= service.config.sign_ups:
                    raise Refusal(FULL, 429)
                check_pace(service.sign_ups, network_of(request.scope))
            return join_and_enter(connection, token or invite(connection, "member"), name)

    def leaving(self, visit: Visit) -> None:
        """Temporary chats end with the session."""
        for chat in visit.service.temporary.of(visit.person.id):
            if chat.owner == visit.owner:
                close_chat(visit, chat)

    def facts(self, service: Service) -> Mapping[str, str]:
        """What `/health` says beside its status."""
        return {"api": service.away or "ok"}


SITE = ChatSite()
admin, member, plain, show = SITE.admin, SITE.member, SITE.plain, SITE.show


def close_chat(visit: Visit, chat: TemporaryChat) -> None:
    """Forgets a temporary chat, and stops its reply."""
    visit.service.temporary.close(chat)
    visit.service.replies.stop(chat.messages[-1].id)


def number_of(text: str) -> int:
    """A whole number in an address; 0 if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def number_in(visit: Visit, name: str) -> int:
    """A whole number in the query of a request; 0 if there is none."""
    return number_of(visit.request.query_params.get(name, ""))


def done(visit: Visit, place: str, **facts: Any) -> Response:
    """The answer to a form: another page, or, for a script, where it would be and what came of it."""
    if wants_json(visit.request):
        return JSONResponse({"place": place, **facts}, 201 if facts else 200)
    return see(place)


def articles(visit: Visit, messages: Sequence[Message], unfolded: str = "") -> list[str]:
    """Messages of a chat as HTML, in a thread of a request: appealed stops say what became of the appeal, which the
    model's server knows. `unfolded`: as in `article`."""
    appeals: dict[str, str] = {}
    if any(message.appealed for message in messages):
        request = visit.service.api.appeals(visit.user)
        appeals = asyncio.run_coroutine_threadsafe(request, visit.loop).result()
    return [article(visit, message, "/m/", unfolded, appeals.get(message.request, "open")) for message in messages]


def article(visit: Visit, message: Message, place: str = "/m/", unfolded: str = "", appeal: str = "open") -> str:
    """A message as HTML; `place`: how the addresses of what is done with it begin; `unfolded`: the form that stands
    open in it, `edit`, `rate`, `appeal` or none; `appeal`: what became of an appealed stop."""
    text = message.text
    if message.running:
        text = visit.service.replies.text_of(message.id) or text
    stop = stop_words(visit.service, message) if message.state == REFUSED else ""
    bare = message.role != "assistant" or (stop and text.strip() == message.reason.strip())
    blocks = () if bare else _blocks(visit, message, text)
    values = {
        "m": message,
        "text": text,
        "blocks": blocks,
        "place": place,
        "calls": message.calls,
        "stop": stop,
        "appeal": appeal,
    }
    return str(PAGES.fill("message", member=visit, service=visit.service, unfolded=unfolded, **values))


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
    return linked(blocks, message.citations, {file.sha256: file for some in files.values() for file in some})
