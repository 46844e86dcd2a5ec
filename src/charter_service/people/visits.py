"""Signed-in people in a browser: the session's cookie, the proof in its forms, and how fast somebody may go.

Every form after signing in carries `csrf`, which only a page of the same session knows. Forms before that (joining,
entering) are refused if the browser reports that another site sent them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from charter_service.people.workers import SESSION_DAYS, Person, person_of
from charter_service.web.database import reading
from charter_service.web.forms import Form
from charter_service.web.limits import Limiter
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import digest_of, proof_of, proves

COOKIE = "charter_session"
CSRF = "csrf"


@dataclass(frozen=True)
class SignedIn:
    """A request of a signed-in person: the session's token, and the form that was sent."""

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


class NotEntered(Refusal):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__("enter with your key first", 401)


class TooFast(Refusal):
    """The person must wait for `seconds`."""

    def __init__(self, wait: float) -> None:
        self.seconds = math.ceil(wait)
        super().__init__(f"too many requests; wait {self.seconds} s and try again", 429)


def session_of(request: Request) -> str:
    """The token in the cookie of a request; empty if there is none that could be one."""
    session = request.cookies.get(COOKIE, "")
    return session if len(session) <= 100 and session.isascii() else ""


def visitor_of(request: Request, database: Engine) -> Person | None:
    """The signed-in person, or None."""
    session = session_of(request)
    if not session:
        return None
    with reading(database) as connection:
        return person_of(connection, session)


def check_form(session: str, form: Form) -> None:
    """Raises Refusal if a form isn't from a page of this session."""
    if not proves(session, CSRF, form.text(CSRF)):
        raise Refusal(
            "this form is out of date or comes from elsewhere; go back, reload the page and send it again",
            403,
        )


def check_pace(limiter: Limiter, caller: str) -> None:
    """Raises TooFast if the caller must wait."""
    if (wait := limiter.wait(caller)) > 0:
        raise TooFast(wait)


def wants_json(request: Request) -> bool:
    """Whether a request asks for JSON rather than a page."""
    accepted = request.headers.get("accept", "")
    data = request.url.path.endswith((".json", "/state", "/health"))
    return data or ("application/json" in accepted and "text/html" not in accepted)


def see(place: str) -> RedirectResponse:
    """A redirect to a page, the answer to a form."""
    return RedirectResponse(place, 303)


def set_session(response: Response, session: str, secure: bool) -> None:
    """Sets a browser's session cookie; `secure`: only for https."""
    response.set_cookie(
        COOKIE,
        session,
        max_age=SESSION_DAYS * 86_400,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def drop_session(response: Response, secure: bool) -> None:
    """Deletes the session cookie."""
    response.delete_cookie(COOKIE, path="/", secure=secure, httponly=True, samesite="strict")
