"""JSON requests over HTTP to a server that may be overloaded, fail, or be away for a while.

Errors are one line and never hold a key: keys come from OPENAI_API_KEY and ANTHROPIC_API_KEY, are never logged, and go
only to the named server.
"""

from __future__ import annotations

import json
import os
import random
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

import httpx2

from charter.ground.artifact.errors import CharterError

TIMEOUT_SECONDS = 600
FAILED = {408, 409, 500, 502, 504}
LARGEST = 256 * 2**20  # bytes of an answer
READ_OF_A_REFUSAL = 4000  # bytes; the rest isn't waited for
TRIES = 5  # for a server that fails or can't be reached
OVERLOADED = {429, 503, 529}
PATIENCE_SECONDS = 120.0  # total wait for an overloaded server
LONGEST_BACKOFF_SECONDS = 16.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


class Answered(CharterError):
    """An error that a server answered; `status` is that of HTTP."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Asking:
    """Requests to one server, from any thread.

    If the server can't be reached (during a restart, say), a request is repeated for `away` seconds, or a few times
    without `away`; `note` gets one line each time this begins. An overloaded server gets time; a failing one gets a few
    tries.
    """

    def __init__(self, url: str, away: float = 0.0, note: Callable[[str], None] | None = None) -> None:
        self.url, self._away, self._note = url.rstrip("/"), away, note
        # no redirect is followed: it would send the key to any host
        limits = httpx2.Limits(max_connections=None)
        self._client = httpx2.Client(timeout=TIMEOUT_SECONDS, limits=limits, follow_redirects=False)
        weakref.finalize(self, self._client.close)
        self._lock, self._missed = threading.Lock(), False
        self.given_up = threading.Event()  # set once nobody waits for answers any more

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """The server's JSON answer to a body, None for an empty one. Raises CharterError; if the server refuses,
        `Answered` with its status."""
        data = json.dumps(body).encode()
        return self._ask(path, data, {"Content-Type": "application/json", **(headers or {})})

    def tell(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """As `post`, but ignores the answer, which need not be JSON."""
        data = json.dumps(body).encode()
        self._ask(path, data, {"Content-Type": "application/json", **(headers or {})}, lambda answer: None)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON at a path; errors as `post`."""
        return self._ask(path, None, headers or {})

    def _ask(
        self,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        parse: Callable[[bytes], Any] = lambda answer: json.loads(answer) if answer.strip() else None,
    ) -> Any:
        url = f"{self.url}{path}"
        waited, failures, backoff = 0.0, 0, 0.5
        while True:
            busy, away, retry_seconds = False, False, 0.0
            problem: CharterError
            try:
                with self._client.stream(
                    "GET" if data is None else "POST", url, content=data, headers=headers
                ) as answer:
                    if answer.status_code < 300:
                        content = _read(answer, LARGEST + 1)
                        if len(content) > LARGEST:
                            raise ValueError(f"its answer has over {LARGEST // 2**20} MiB")
                        self._missed = False
                        return parse(content)
                    problem = _problem(url, path, answer, _read(answer, READ_OF_A_REFUSAL))
                busy, retry_seconds = answer.status_code in OVERLOADED, retry_after(answer.headers)
                if not busy and answer.status_code not in FAILED:
                    raise problem
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
                problem = CharterError(f"{url} can't be used ({_describe(error)}); is the server running?")
                written_wrong = isinstance(error, (ValueError, httpx2.InvalidURL, httpx2.UnsupportedProtocol))
                away = self._away > 0 and not written_wrong
                if away:
                    self._say(problem)
            most = self._away if away else PATIENCE_SECONDS
            failures += not (busy or away)
            if failures == TRIES or waited >= most:
                raise problem
            # all running requests meet the same overload: jitter spreads their next tries
            pause = max(retry_seconds, backoff * random.uniform(0.5, 1))
            pause = min(pause, most - waited)
            if _wait(self.given_up, pause):
                raise problem
            waited, backoff = waited + pause, min(LONGEST_BACKOFF_SECONDS, 2 * backoff)

    def note(self, line: str) -> None:
        """Passes one line to the callback, if there is one."""
        if self._note is not None:
            self._note(line)

    def _say(self, problem: CharterError) -> None:
        with self._lock:
            first, self._missed = not self._missed, True
        if first:
            self.note(f"{problem}; trying again for up to {self._away:g} seconds")


def key_of_environment(dialect: str) -> str:
    """The key from the environment; "" without one. Raises CharterError for a key that can't be sent."""
    key = os.environ.get(KEYS[dialect], "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise CharterError(f"{KEYS[dialect]} holds spaces or characters that no key has; set it again")
    return key


def bearer() -> dict[str, str]:
    """The header with the key for servers of OpenAI's shape; empty without a key."""
    key = key_of_environment("openai")
    return {"Authorization": f"Bearer {key}"} if key else {}


def one_line(text: str) -> str:
    """At most 400 characters on one line, without keys: a server may echo its request."""
    for name in KEYS.values():
        if key := os.environ.get(name, "").strip():
            text = text.replace(key, "[key]")
    return " ".join(text.split())[:400]


def _wait(given_up: threading.Event, seconds: float) -> bool:
    """Waits before the next try; True at once when nobody waits for the answer any more."""
    return given_up.wait(seconds)


def _read(answer: httpx2.Response, most: int) -> bytes:
    """The first bytes of the body; the rest stays unread."""
    content = bytearray()
    for part in answer.iter_bytes():
        content += part
        if len(content) >= most:
            break
    return bytes(content[:most])


def _problem(url: str, path: str, answer: httpx2.Response, content: bytes) -> Answered:
    if 300 <= answer.status_code < 400:
        place = one_line(urljoin(url, answer.headers.get("location", "")).removesuffix(path))
        line = f"{url} redirects to {place}; a key is sent to no other place, so use that URL if you trust it"
    else:
        line = f"{url} answered {answer.status_code}: {one_line(content.decode(errors='replace'))}"
    return Answered(answer.status_code, line)


def _describe(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__)


def retry_after(headers: Mapping[str, str], most: float = LONGEST_RETRY_AFTER_SECONDS) -> float:
    """The seconds that a server asks to wait, at most `most`; 0 if it gives none, or a date."""
    seconds = headers.get("retry-after", "").strip()
    return min(most, float(seconds)) if seconds.isascii() and seconds.isdigit() else 0.0
