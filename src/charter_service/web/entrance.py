"""Who is at the door of a site: the cookie of a session, the proof in its forms, and how often somebody may try.

Every form after signing in carries `csrf`, which only a page of the same session knows. Forms before that (joining,
entering) are refused if the browser reports that another site sent them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from charter_service.web.forms import Form
from charter_service.web.limits import Limiter
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import proof_of, proves

CSRF = "csrf"
LONGEST_TOKEN, LONGEST_NAME = 100, 40  # characters of a key or an invitation, and of a name


@dataclass(frozen=True)
class Cookie:
    """The cookie of a kind of session, below `path` for `seconds`: scripts can't read it, other sites don't send it.
    `longest`: characters of its token."""

    name: str
    seconds: int
    path: str = "/"
    longest: int = 100

    def of(self, request: Request) -> str:
        """The token in a request; empty if there is none that could be one."""
        token = request.cookies.get(self.name, "")
        return token if len(token) <= self.longest and token.isascii() else ""

    def set(self, response: Response, token: str, secure: bool) -> None:
        """Sets it in a browser; `secure`: only for https."""
        response.set_cookie(
            self.name, token, self.seconds, path=self.path, secure=secure, httponly=True, samesite="strict"
        )

    def drop(self, response: Response, secure: bool) -> None:
        """Deletes it in a browser."""
        response.delete_cookie(self.name, self.path, secure=secure, httponly=True, samesite="strict")


class NotEntered(Refusal):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__("enter with your key first", 401)


class TooFast(Refusal):
    """The caller must wait for some seconds."""

    def __init__(self, wait: float) -> None:
        seconds = str(math.ceil(wait))
        words = f"too many requests; wait {seconds} s and try again"
        super().__init__(words, 429, {"retry-after": seconds})


def check_pace(limiter: Limiter, caller: str) -> None:
    """Raises TooFast if the caller must wait."""
    if (wait := limiter.wait(caller)) > 0:
        raise TooFast(wait)


def csrf_of(session: str) -> str:
    """The proof in a session's forms."""
    return proof_of(session, CSRF)


def check_form(session: str, form: Form) -> None:
    """Raises Refusal if a form isn't from a page of this session."""
    if not proves(session, CSRF, form.text(CSRF)):
        words = "this form is out of date or comes from elsewhere; go back, reload the page and send it again"
        raise Refusal(words, 403)


def printable(name: str) -> str:
    """A name that was refused, as its form shows it again."""
    return "".join(letter for letter in name if letter.isprintable())[:LONGEST_NAME]
