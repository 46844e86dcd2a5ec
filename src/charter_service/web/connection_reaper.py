"""Closes stuck connections: those of a client that sends its headers too slowly, or doesn't read its answer.

uvicorn closes only connections that are idle between two requests. This reaper looks about every second and closes the
rest. Single bytes don't count as progress; only a request whose answer has begun does, and an answer of which the
client read a good part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

REQUEST_SECONDS = 30.0  # for the headers of a request, from the start of the connection or the answer before
ANSWER_SECONDS = 120.0  # in which the client read neither `TAKEN` bytes of an answer nor all that was written
TAKEN = 32 * 1024  # bytes: asyncio writes more once 48 KiB are gone, and a look may miss some


class Sweep:
    """Remembers the progress of connections; `look` closes those without progress for too long."""

    def __init__(
        self, request_seconds: float = REQUEST_SECONDS, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._request, self._answer = request_seconds, answer_seconds
        self._stood: dict[Any, tuple[tuple[str, int], float]] = {}

    @property
    def standing(self) -> int:
        """Number of watched connections."""
        return len(self._stood)

    def look(self, connections: Iterable[Any], now: float) -> int:
        """Closes uvicorn's stuck connections; returns their number."""
        ended, there = 0, list(connections)
        for gone in self._stood.keys() - set(there):
            del self._stood[gone]
        for connection in there:
            mark = _mark(connection)
            before, since = self._stood.get(connection, (mark, now))
            if mark[0] == before[0] == "answer" and before[1] - mark[1] < TAKEN:
                mark = "answer", max(before[1], mark[1])  # more may have been written meanwhile
            elif mark != before:
                since = now
            self._stood[connection] = mark, since
            most = {"request": self._request, "answer": self._answer}.get(mark[0])
            if most is not None and now - since > most:
                connection.transport.abort()
                ended += 1
        return ended


def _mark(connection: Any) -> tuple[str, int]:
    """What a connection waits for, and a number that changes with its progress."""
    transport, cycle = connection.transport, getattr(connection, "cycle", None)
    if left := transport.get_write_buffer_size():
        return "answer", left
    if cycle is None or cycle.response_complete:
        return "request", id(cycle)
    return "work", 0
