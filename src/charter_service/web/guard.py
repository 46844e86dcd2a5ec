"""The guard around a service: security headers, an answer even if the program fails, and of pages also limits by
address and the access log, which has method, path, status and milliseconds: no query, no address, no text, and no
secret of an invitation's link.

Pages load only this service's own style and script, can't be framed by other sites, and aren't cached.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Collection
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charter.ground.artifact.errors import is_panic
from charter_service.web.entrance import Limiter, TooFast
from charter_service.web.forms import LARGEST_FORM
from charter_service.web.refusal import Refusal

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
KEPT = "max-age=31536000, immutable"  # pages name each file by its digest
STATIC = "/static/"
CLOSE = {"connection": "close"}
FRAMED_TWICE = "the request has both a content-length and a transfer-encoding; send one of them"
_SECRET = re.compile(r"^/(join|s|temporary)/.*", re.DOTALL)  # addresses that end in a secret
_PLAIN = re.compile(r"[^\x21-\x7e]")
Pair = tuple[bytes, bytes]


def with_headers(headers: list[tuple[bytes, bytes]], cacheable: bool) -> list[tuple[bytes, bytes]]:
    """Headers of an answer with those that every answer has; browsers may cache only style and script."""
    present = {name.lower() for name, _ in headers}
    required = {**HEADERS, "cache-control": KEPT if cacheable else "no-store"}
    more = [(name.encode(), value.encode()) for name, value in required.items() if name.encode() not in present]
    return [*headers, *more]


def framed_twice(scope: Scope) -> bool:
    """Whether a request gives the end of its body in two ways: by its length, and by chunks. A proxy that uses the
    other way takes the rest for another client's request (RFC 9112, 6.1)."""
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names and b"transfer-encoding" in names


def address_of(scope: Scope) -> str:
    """The network address that a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def network_of(scope: Scope) -> str:
    """The network of that address, as one customer of a provider has it: of IPv6 the first 64 bits."""
    address = address_of(scope)
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip) if ip.version == 4 else str(ip_network((ip, 64), strict=False))


class Guard(ABC):
    """Wraps an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        receive = self.begin(scope, receive)

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                cacheable = status == 200 and scope["path"].startswith(STATIC)
                headers = [*message.get("headers", []), *self.more_headers(scope, message)]
                message = {**message, "headers": with_headers(headers, cacheable)}
            await send(message)

        try:
            framing = Refusal(FRAMED_TWICE, 400, CLOSE) if framed_twice(scope) else None
            if (refusal := framing or self.refusal(scope)) is not None:
                await self.refused(scope, refusal)(scope, receive, guarded)
            else:
                await self._app(scope, receive, guarded)
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self.failed(scope, error)
            if not status:
                await self.refused(scope, None)(scope, receive, guarded)
        finally:
            self.ended(scope, status, round(1000 * (time.monotonic() - began)))

    def begin(self, scope: Scope, receive: Receive) -> Receive:
        """Prepares a request; how its body is received."""
        return receive

    def more_headers(self, scope: Scope, message: Message) -> list[Pair]:
        """Headers of an answer beside those of security."""
        return []

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request isn't passed on."""
        return None

    @abstractmethod
    def refused(self, scope: Scope, refusal: Refusal | None) -> Response:
        """The answer to a request that is refused, or, for None, on which the program failed."""

    @abstractmethod
    def failed(self, scope: Scope, error: BaseException) -> None:
        """The program failed."""

    @abstractmethod
    def ended(self, scope: Scope, status: int, milliseconds: int) -> None:
        """A request is over; `status` is 0 if there was no answer."""


class PageGuard(Guard):
    """The guard around pages. `log`: the name of the service's log; `largest`: bytes of a request; `hosts`: the names
    that requests may give this machine, empty: any. A foreign site whose name is led to this machine (DNS
    rebinding) could otherwise read pages in a visitor's browser."""

    def __init__(
        self, app: ASGIApp, by_address: Limiter, log: str, largest: int = LARGEST_FORM, hosts: Collection[str] = ()
    ) -> None:
        super().__init__(app)
        self._by_address, self._largest, self._hosts = by_address, largest, hosts
        self._log = logging.getLogger(log)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Refuses what comes under a wrong name, too fast or with too large a body."""
        if self._hosts and not _names_this_machine(scope, self._hosts):
            words = "these pages aren't served under this name; the operator gives it with --address"
            return Refusal(words, 421)
        if (wait := self._by_address.wait(address_of(scope))) > 0:
            return TooFast(wait)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._largest:
            return Refusal(f"the limit is {self._largest:,} bytes; shorten your text", 413, CLOSE)
        return None

    def refused(self, scope: Scope, refusal: Refusal | None) -> Response:
        """An answer in plain text."""
        refusal = refusal or Refusal("something went wrong here; try again in a moment", 500)
        return PlainTextResponse(f"{refusal}\n", refusal.status, refusal.headers)

    def failed(self, scope: Scope, error: BaseException) -> None:
        """Logs where the program failed."""
        self._log.error("%s in %s", type(error).__name__, ", ".join(places_of(error, 3)) or "?")

    def ended(self, scope: Scope, status: int, milliseconds: int) -> None:
        """Logs the request."""
        path = shown_path(scope["path"])
        self._log.info("%s %s %s %d ms", scope["method"], path, status or "-", milliseconds)


def places_of(error: BaseException, most: int) -> list[str]:
    """Where a program failed, without the error's message, which may hold somebody's text."""
    frames = traceback.extract_tb(error.__traceback__)[-most:]
    return [f"{frame.name} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})" for frame in frames]


def _names_this_machine(scope: Scope, hosts: Collection[str]) -> bool:
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
