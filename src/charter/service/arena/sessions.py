"""The person behind a request: forms, session cookies, and the proof that a page needs to change anything.

Every form after signing in carries `csrf`, which only a page of the same session knows. Forms before that (joining,
entering) are refused if the browser reports that another site sent them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import RedirectResponse

from charter.service.arena.service import Service
from charter.service.people.workers import SESSION_DAYS, Person, person_of
from charter.service.web.database import reading
from charter.service.web.forms import Form, read_form
from charter.service.web.limits import Limiter
from charter.service.web.refusal import Refusal
from charter.service.web.security_headers import address_of
from charter.service.web.tokens import digest_of, proof_of, proves

COOKIE = "charter_session"
CSRF = "csrf"
WRITTEN = ("text", "plan", "edited", "note")  # fields that took the person time to write


class NotEntered(Refusal):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__("enter with your key first", 401)


class TooFast(Refusal):
    """The person must wait for `seconds`."""

    def __init__(self, wait: float) -> None:
        self.seconds = math.ceil(wait)
        super().__init__(f"too many requests; wait {self.seconds} s and try again", 429)


@dataclass(frozen=True)
class Visit:
    """One request of a signed-in person."""

    service: Service
    person: Person
    session: str
    form: Form

    @property
    def csrf(self) -> str:
        """The proof in this session's forms."""
        return proof_of(self.session, CSRF)

    @property
    def owner(self) -> str:
        """A name of the session that isn't its token."""
        return digest_of(self.session)


async def sent_form(request: Request) -> Form:
    """The form of a POST, kept for a refusal's page. Raises as `read_form`."""
    if request.method != "POST":
        return Form()
    request.state.form = await read_form(request)
    return request.state.form  # type: ignore[no-any-return]


def written_in(request: Request) -> str:
    """The text in the form of a request, to give back if the form is refused."""
    form = getattr(request.state, "form", Form())
    written = max((form.text(name) for name in WRITTEN), key=len)
    return written if written.strip() else ""


def wants_json(request: Request) -> bool:
    """Whether a request asks for JSON rather than a page."""
    accepted = request.headers.get("accept", "")
    data = request.url.path.endswith((".json", "/state", "/health"))
    return data or ("application/json" in accepted and "text/html" not in accepted)


Sent = Annotated[Form, Depends(sent_form)]


def service_of(request: Request) -> Service:
    """The service that the application serves."""
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(service_of)]


def visitor_of(request: Request, service: Service) -> Person | None:
    """The signed-in person, or None."""
    session = request.cookies.get(COOKIE, "")
    if not (0 < len(session) <= 100 and session.isascii()):
        return None
    with reading(service.database) as connection:
        return person_of(connection, session)


def visit(request: Request, service: Serving, form: Sent) -> Visit:
    """The visit of the signed-in person, if its form is of this session. Raises NotEntered, TooFast, Refusal."""
    session, person = request.cookies.get(COOKIE, ""), visitor_of(request, service)
    if person is None:
        raise NotEntered
    check_pace(service.by_person, str(person.id))
    if request.method == "POST" and not proves(session, CSRF, form.text(CSRF)):
        raise Refusal(
            "this form is out of date or comes from elsewhere; go back, reload the page and send it again",
            403,
        )
    return Visit(service, person, session, form)


Member = Annotated[Visit, Depends(visit)]


def admin_visit(member: Member) -> Visit:
    """The same for an admin. Raises Refusal for anybody else."""
    if not member.person.may("admin"):
        raise Refusal("this page is for those who run the collection", 403)
    return member


Admin = Annotated[Visit, Depends(admin_visit)]


def check_pace(limiter: Limiter, caller: str) -> None:
    """Raises TooFast if the caller must wait."""
    if (wait := limiter.wait(caller)) > 0:
        raise TooFast(wait)


def check_entry(request: Request, service: Service) -> None:
    """Raises TooFast for an address that tries too many keys and invitations."""
    check_pace(service.entries, address_of(request.scope))


def see(place: str) -> RedirectResponse:
    """A redirect to a page, the answer to a form."""
    return RedirectResponse(place, 303)


def set_session(response: Response, service: Service, session: str) -> None:
    """Sets a browser's session cookie."""
    response.set_cookie(
        COOKIE,
        session,
        max_age=SESSION_DAYS * 86_400,
        path="/",
        secure=service.config.secure,
        httponly=True,
        samesite="strict",
    )


def drop_session(response: Response, service: Service) -> None:
    """Deletes the session cookie."""
    response.delete_cookie(COOKIE, path="/", secure=service.config.secure, httponly=True, samesite="strict")
