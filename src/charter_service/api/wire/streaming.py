"""Answers as server-sent events, and cancelling answers that nobody waits for any more.

A stream ends when its reader disconnects: the events' iterator is closed, and with it the work behind it. An answer in
one piece is watched in the same way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request

from charter_service.api.errors import ApiError

T = TypeVar("T")

PING_SECONDS = 10
FIRST_SECONDS = 2.0  # within which an error still becomes an HTTP error
STUCK_SECONDS = 120.0  # a reader that reads nothing for this long is dropped


def event(data: Any, name: str | None = None) -> ServerSentEvent:
    """One event; `data` is written as JSON unless it is text already."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return ServerSentEvent(text, event=name, sep="\n")


def stream(
    events: AsyncIterator[ServerSentEvent], headers: Mapping[str, str], ping: ServerSentEvent | None = None
) -> EventSourceResponse:
    """Events as they come; `ping`, by default a comment, is sent after some seconds without an event."""
    return EventSourceResponse(
        events,
        headers={**headers, "cache-control": "no-cache"},
        ping=PING_SECONDS,
        ping_message_factory=(lambda: ping) if ping else None,
        send_timeout=STUCK_SECONDS,
        sep="\n",
    )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, unless its client disconnects: then it is cancelled, and ApiError raised for the log."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_await_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(499, "the client went before the answer was ready")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _await_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def start_events(request: Request, parts: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The events, after the first one has come or some seconds have passed: an earlier error becomes an HTTP error
    instead of an event in a stream."""
    first = asyncio.ensure_future(anext(parts))
    try:
        await unless_gone(request, _await_first(first))
    except BaseException:
        first.cancel()  # which ends the parts as well
        raise
    return _chain(first, parts)


async def _await_first(first: asyncio.Future[Any]) -> None:
    done, _ = await asyncio.wait((first,), timeout=FIRST_SECONDS)
    if done:
        first.result()


async def _chain(first: asyncio.Future[T], parts: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    try:
        yield await first
        async for part in parts:
            yield part
    finally:
        if first.done():
            await parts.aclose()
        else:
            first.cancel()
