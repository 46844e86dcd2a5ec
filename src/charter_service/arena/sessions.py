"""The person behind a request, and the form that was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from charter_service.arena.service import Service
from charter_service.people.visits import NotEntered, SignedIn, check_form, check_pace, session_of, visitor_of
from charter_service.web.forms import Form, read_form
from charter_service.web.refusal import Refusal
from charter_service.web.security_headers import address_of

WRITTEN = ("text", "plan", "edited", "note")  # fields that took the person time to write


@dataclass(frozen=True)
class Visit(SignedIn):
    """One request of a signed-in person."""

    service: Service


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


Sent = Annotated[Form, Depends(sent_form)]


def service_of(request: Request) -> Service:
    """The service that the application serves."""
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(service_of)]


def visit(request: Request, service: Serving, form: Sent) -> Visit:
    """The visit of the signed-in person, if its form is of this session. Raises NotEntered, TooFast, Refusal."""
    session, person = session_of(request), visitor_of(request, service.database)
    if person is None:
        raise NotEntered
    check_pace(service.by_person, str(person.id))
    if request.method == "POST":
        check_form(session, form)
    return Visit(person, session, form, service)


Member = Annotated[Visit, Depends(visit)]


def admin_visit(member: Member) -> Visit:
    """The same for an admin. Raises Refusal for anybody else."""
    if not member.person.may("admin"):
        raise Refusal("this page is for those who run the collection", 403)
    return member


Admin = Annotated[Visit, Depends(admin_visit)]


def check_entry(request: Request, service: Service) -> None:
    """Raises TooFast for an address that tries too many keys and invitations."""
    check_pace(service.entries, address_of(request.scope))
