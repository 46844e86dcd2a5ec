"""Limits for incoming bodies: a least speed, a total size that fits into memory, and of that a share for each
organisation. A request without a key may send as much as a form takes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from starlette.types import Message, Receive

from charter_service.api.errors import ApiError
from charter_service.web.forms import LARGEST_FORM

QUIET_SECONDS = 30.0  # without a byte of a body
SPAN_SECONDS = 30.0  # over which the speed of a body is measured
SLOWEST = 1024.0  # bytes a second
MOST_BYTES = 2**31  # of all bodies together
SHARE = 1 / 8  # of these, for one organisation: the largest batch
STRANGER = LARGEST_FORM  # bytes of a body without a key
RETRY_SECONDS = 5.0


class Bodies:
    """Counts the bytes of all requests' bodies in memory."""

    def __init__(
        self, most: int = MOST_BYTES, quiet: float = QUIET_SECONDS, span: float = SPAN_SECONDS
    ) -> None:
        self.most, self.share, self.quiet, self.span = most, int(SHARE * most), quiet, span
        self.by_account = Counter[str]()

    @property
    def held(self) -> int:
        """Bytes of all bodies."""
        return self.by_account.total()

    def of(self, receive: Receive) -> Body:
        """The body of one request."""
        return Body(self, receive)

    def move(self, account: str, size: int) -> None:
        """Counts bytes for an account, or gives them back."""
        self.by_account[account] += size
        if not self.by_account[account]:
            del self.by_account[account]


class Body:
    """One request's body. `receive` replaces the server's own; close it when the request is over."""

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies, self._receive, self._account = bodies, receive, ""
        self._bytes, self._whole = 0, False
        self._since, self._in_span = time.monotonic(), 0

    def claim(self, account: str) -> None:
        """Assigns it to an account."""
        self._bodies.move(self._account, -self._bytes)
        self._account = account
        self._bodies.move(account, self._bytes)

    async def receive(self) -> Message:
        """The next message. Raises ApiError: 408 if it comes too slowly, 413 if it is too large without a key, 429 if
        the account's share is in use, 529 if all memory for bodies is."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._bodies.quiet):
                message = await self._receive()
        except TimeoutError:
            raise _refuse_late() from None
        if message["type"] == "http.request":
            self._take(len(message.get("body", b"")), bool(message.get("more_body")))
        return message

    def close(self) -> None:
        """Frees its memory."""
        self._bodies.move(self._account, -self._bytes)
        self._bytes = 0

    def _take(self, size: int, more: bool) -> None:
        bodies, self._whole = self._bodies, not more
        self._bytes += size
        bodies.move(self._account, size)
        self._check_pace(size, more)
        if not self._account and self._bytes > STRANGER:
            raise _refusal(413, f"the body is over {STRANGER // 2**10} KiB, the most without a key")
        if bodies.by_account[self._account] > bodies.share:
            whose = "of yours" if self._account else "without a key"
            words = (
                f"bodies {whose} of {bodies.share // 2**20} MiB are already being read, which is your share"
            )
            raise _refusal(429, f"{words}; try again a little later", RETRY_SECONDS)
        if bodies.held > bodies.most:
            words = f"bodies of {bodies.most // 2**20} MiB are already being read"
            raise _refusal(529, f"{words}; try again a little later", RETRY_SECONDS)

    def _check_pace(self, size: int, more: bool) -> None:
        self._in_span += size
        took = time.monotonic() - self._since
        if took > self._bodies.span:
            if more and self._in_span < SLOWEST * took:
                raise _refuse_late()
            self._since, self._in_span = time.monotonic(), 0


def _refusal(status: int, words: str, retry_after: float | None = None) -> ApiError:
    headers = {"connection": "close"}
    return ApiError(status, words, retry_after=retry_after, headers=headers, reason="bodies")


def _refuse_late() -> ApiError:
    return _refusal(408, "the body came too slowly; send it again")
