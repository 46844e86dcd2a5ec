"""The site of an arena: what all its pages share, and the person behind a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from charter_service.arena.service import Service
from charter_service.arena.words import PAGES
from charter_service.people.entrance import SESSION, PeopleSite, SignedIn, visitor_of
from charter_service.people.places import ARENA
from charter_service.people.workers import Person
from charter_service.web.forms import Form
from charter_service.web.refusal import NotFound
from charter_service.web.site import HEADINGS

WRITTEN = ("text", "plan", "edited", "note")  # fields that took the person time to write
LATER = {"retry-after": "600"}  # of a limit of the work


@dataclass(frozen=True)
class Visit(SignedIn):
    """One request of a signed-in person."""

    @property
    def service(self) -> Service:
        """The collection that is served."""
        service: Service = self.request.app.state.service
        return service

    @property
    def id(self) -> str:
        """The id in the request's address. Raises NotFound if it can't be one."""
        if not re.fullmatch("[0-9a-f]{32}", id := str(self.request.path_params["id"])):
            raise NotFound
        return id

    @property
    def number(self) -> int:
        """The number in the request's address. Raises NotFound if it can't be a person's."""
        if not re.fullmatch("[1-9][0-9]{0,8}", id := str(self.request.path_params["id"])):
            raise NotFound
        return int(id)

    @property
    def axis(self) -> str:
        """The task in the request's address."""
        return str(self.request.path_params["axis"])


class ArenaSite(PeopleSite):
    """The pages of an arena."""

    pages, place, runs = PAGES, ARENA, "collection"
    headings: Mapping[int, str] = {**HEADINGS, 401: "Please enter", 405: "Not this way", 415: "Not a form"}
    forgotten = "All your data here is deleted. Thank you for your help."

    def visit(self, person: Person, session: str, form: Form, request: Request) -> Visit:
        """The visit that handlers get."""
        return Visit(person, session, form, request)

    def plain(self, service: Any, template: str, title: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for somebody who isn't signed in."""
        return PAGES.page(template, status, name=service.config.name, title=title, member=None, **values)

    def show(self, visit: Visit, template: str, title: str, **values: Any) -> HTMLResponse:
        """A page for a signed-in person."""
        return PAGES.page(template, name=visit.service.config.name, title=title, member=visit, **values)

    async def say(
        self, request: Request, status: int, words: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        """A refusal as a small page, or as JSON if a program asks."""
        later = LATER if status == 429 else {}
        return await super().say(request, status, words, {**later, **(headers or {})})

    def error_page(self, request: Request, status: int, title: str, words: str) -> Response:
        """The page of a refusal, which gives back what was written."""
        service, form = request.app.state.service, getattr(request.state, "form", Form())
        # the database may be the problem, so it isn't queried
        entered = SESSION.name in request.cookies if status >= 500 else visitor_of(request, service.database)
        text = max((form.text(name) for name in WRITTEN), key=len)
        about = {"entered": bool(entered), "contact": service.config.contact}
        text = text if text.strip() else ""
        return self.plain(service, "error", title, status, words=words, written=text, **about)


SITE = ArenaSite()
show = SITE.show
