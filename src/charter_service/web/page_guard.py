"""The guard around all pages: security headers, limits by address, the access log, and an answer even if the program
fails.

The log has method, path, status and milliseconds: no query, no address, no text, and no secret of an invitation's link.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import time
import traceback
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charter_service.web.forms import LARGEST_FORM
from charter_service.web.limits import Limiter
from charter_service.web.security_headers import address_of, framed_twice, with_headers

STATIC = "/static/"
_SECRET = re.compile(r"^/(join|s|temporary)/.*", re.DOTALL)  # addresses that end in a secret
_PLAIN = re.compile(r"[^\x21-\x7e]")


class Guard:
    """Wraps the application. `log`: the name of the service's log; `largest`: bytes of a request; `hosts`: the names
    that requests may give this machine, empty: any. A foreign site whose name is led to this machine (DNS
    rebinding) could otherwise read pages in a visitor's browser."""

    def __init__(
        self,
        app: ASGIApp,
        by_address: Limiter,
        log: str,
        largest: int = LARGEST_FORM,
        hosts: Collection[str] = (),
    ) -> None:
        self._app, self._by_address, self._largest, self._hosts = app, by_address, largest, hosts
        self._log = logging.getLogger(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it if it comes too fast or is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answered = time.monotonic(), [0]

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered[0] = message["status"]
                cacheable = message["status"] == 200 and scope["path"].startswith(STATIC)
                message = {**message, "headers": with_headers(message.get("headers", []), cacheable)}
            await send(message)

        try:
            refused = self._refusal(scope)
            if refused is not None:
                await _say(guarded, *refused)
            else:
                await self._app(scope, receive, guarded)
        except Exception as error:
            self._log_failure(error)
            if not answered[0]:
                await _say(guarded, 500, "something went wrong here; try again in a moment", {})
        finally:
            milliseconds = 1000 * (time.monotonic() - began)
            path = shown_path(scope["path"])
            self._log.info("%s %s %s %.0f ms", scope["method"], path, answered[0] or "-", milliseconds)

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        if framed_twice(scope):
            words = "the request has both a content-length and a transfer-encoding; send one of them"
            return 400, words, {"connection": "close"}
        if self._hosts and not _known(scope, self._hosts):
            return 421, "these pages aren't served under this name; the operator gives it with --address", {}
        wait = self._by_address.wait(address_of(scope))
        if wait > 0:
            seconds = str(math.ceil(wait))
            return 429, f"too many requests; wait {seconds} s and try again", {"retry-after": seconds}
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._largest:
            return (
                413,
                f"the limit is {self._largest:,} bytes; shorten your text",
                {"connection": "close"},
            )
        return None

    def _log_failure(self, error: BaseException) -> None:
        """Logs where the program failed, without the error's message, which may hold a person's text."""
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = ", ".join(
            f"{frame.name} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})" for frame in frames
        )
        self._log.error("%s in %s", type(error).__name__, places or "?")


def _known(scope: Scope, hosts: Collection[str]) -> bool:
    """Whether a request names this machine by one of these names or by a number, which nobody can lead elsewhere."""
    named = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    try:
        name = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return False
    if name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def shown_path(path: str) -> str:
    """A path for the log: on one line, short, without an invitation's secret."""
    return _PLAIN.sub("?", _SECRET.sub(r"/\1/[token]", path))[:120]


async def _say(send: Send, status: int, words: str, headers: dict[str, str]) -> None:
    """An answer in plain text."""
    body = f"{words}\n".encode()
    plain = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **headers}
    pairs = [(name.encode(), value.encode()) for name, value in plain.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
