"""Who is at the door of a site: the cookie of a session, the proof in its forms, and how often somebody may try.

Every form after signing in carries `csrf`, which only a page of the same session knows. Forms before that (joining,
entering) are refused if the browser reports that another site sent them.

Secrets that a page shows once, forms that are sent once and limits are in the memory of this process, for services that
are one process.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cachetools import FIFOCache, LRUCache
from starlette.requests import Request
from starlette.responses import Response

from charter_service.web.forms import Form
from charter_service.web.refusal import Refusal, Stale
from charter_service.web.tokens import new_token, proof_of, proves

CALLERS = 20_000  # remembered at a time; the one that was quiet longest is dropped first
KEPT_SECONDS = 600.0
FORM_SECONDS = 12 * 3600.0  # that a page may stay open before its form is sent
MOST_SENT = 100_000  # remembered forms
_OUT_OF_DATE = "this form is out of date or comes from elsewhere; go back, reload the page and send it again"
CSRF = "csrf"
LONGEST_TOKEN, LONGEST_NAME = 100, 40  # characters of a key or an invitation, and of a name


class Limiter:
    """Lets each caller do `burst` things at once and `rate` a second afterwards."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, burst, clock
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(CALLERS)
        self._lock = threading.Lock()

    def wait(self, caller: str, cost: float = 1.0) -> float:
        """Takes `cost` from the caller's bucket and returns 0, or takes nothing and returns the seconds until that
        is possible."""
        with self._lock:
            now = self._clock()
            level, then = self._buckets.get(caller, (self.burst, now))
            level = min(self.burst, level + (now - then) * self.rate)
            short = cost - level
            self._buckets[caller] = (level if short > 0 else level - cost, now)
            return max(0.0, short / self.rate)


class Once:
    """Secrets that a page shows once, kept in memory for some minutes: a personal key, invitation links."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, list[str]]] = {}
        self._lock = threading.Lock()

    def put(self, owner: str, secrets: list[str]) -> None:
        """Keeps secrets for the session `owner`."""
        with self._lock:
            now = time.monotonic()
            self._kept = {k: v for k, v in self._kept.items() if now - v[0] < KEPT_SECONDS}
            self._kept[owner] = (now, secrets)

    def take(self, owner: str) -> list[str]:
        """The secrets of a session; they are then deleted."""
        with self._lock:
            then, secrets = self._kept.pop(owner, (0.0, []))
            return secrets if time.monotonic() - then < KEPT_SECONDS else []


class SentOnce:
    """Proofs in the forms of a session, each valid for one sending (CSRF, and no replay).

    A proof is `milliseconds.nonce.HMAC`, by this process's own clock: a form from before its start is out of date.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._secret = new_token()
        self._sent: FIFOCache[str, None] = FIFOCache(MOST_SENT)
        self._lock = threading.Lock()

    def make(self, session: str) -> str:
        """The proof for a new page's form."""
        stamp = f"{self._now()}.{new_token()}"
        return f"{stamp}.{proof_of(session + self._secret, stamp)}"

    @contextmanager
    def sending(self, session: str, proof: str) -> Iterator[None]:
        """A context that runs a form's action once; if the action raises, the form may be sent again.

        Raises Refusal if the proof isn't this session's or is old, Stale if it was used.
        """
        stamp, _, claimed = proof.rpartition(".")
        if not stamp or not proves(session + self._secret, stamp, claimed):
            raise Refusal(_OUT_OF_DATE, 403)
        if self._now() - int(stamp.partition(".")[0]) > 1000 * FORM_SECONDS:
            raise Refusal(_OUT_OF_DATE, 403)
        with self._lock:
            if stamp in self._sent:
                raise Stale("this form was already sent; reload the page to send another")
            self._sent[stamp] = None
        try:
            yield
        except BaseException:
            with self._lock:
                self._sent.pop(stamp, None)
            raise

    def _now(self) -> int:
        return int(1000 * (self._clock() - self._began))


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
        raise Refusal(_OUT_OF_DATE, 403)


def printable(name: str) -> str:
    """A name that was refused, as its form shows it again."""
    return "".join(letter for letter in name if letter.isprintable())[:LONGEST_NAME]
