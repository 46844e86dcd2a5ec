"""Bodies of requests as they come in: at a pace that ends, and no more of all of them together than memory holds."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive

from charter.serve.errors import ApiError

QUIET_SECONDS = 30.0  # without a byte of a body
LEAD_SECONDS = 60.0  # after which a body must have come at a pace
SLOWEST = 1024.0  # bytes a second
MOST_BYTES = 2**30  # of all bodies together
RETRY_SECONDS = 5.0


class Bodies:
    """Counts what is held of all requests' bodies."""

    def __init__(
        self, most: int = MOST_BYTES, quiet: float = QUIET_SECONDS, lead: float = LEAD_SECONDS
    ) -> None:
        self.most, self.quiet, self.lead = most, quiet, lead
        self.held = 0

    def of(self, receive: Receive) -> Body:
        """The body of one request."""
        return Body(self, receive)


class Body:
    """One request's body. `receive` stands for the server's own; to be closed when the request is over."""

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies, self._receive = bodies, receive
        self._bytes, self._whole, self._began = 0, False, time.monotonic()

    async def receive(self) -> Message:
        """What comes next. Raises ApiError: 408 where it comes too slowly, 529 where too much is held already."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._bodies.quiet):
                message = await self._receive()
        except TimeoutError:
            raise _late() from None
        if message["type"] == "http.request":
            self._take(len(message.get("body", b"")), bool(message.get("more_body")))
        return message

    def close(self) -> None:
        """Nothing of it is held any more."""
        self._bodies.held -= self._bytes
        self._bytes = 0

    def _take(self, size: int, more: bool) -> None:
        self._whole = not more
        self._bytes += size
        self._bodies.held += size
        took = time.monotonic() - self._began
        if more and took > self._bodies.lead and self._bytes < SLOWEST * took:
            raise _late()
        if self._bodies.held > self._bodies.most:
            raise ApiError(
                529,
                f"bodies of {self._bodies.most // 2**20} MiB are being read already; try again a little later",
                retry_after=RETRY_SECONDS,
                headers={"connection": "close"},
            )


def _late() -> ApiError:
    return ApiError(408, "the body came too slowly; send it again", headers={"connection": "close"})
