"""Compiles forms beside the event loop: a few at a time, by organisations in turn, with limits on the queue, on the
wait, and on one form.

A schema or pattern may take seconds. Known forms don't wait; one that takes too long is refused, and runs on in its
thread until the compiler's own limits end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine_limits import Overloaded
from charter.ground.generate.fair import FairThreads
from charter.ground.generate.shares import Rests

T = TypeVar("T")

AT_ONCE = 3  # at most two of one organisation
MOST = 64  # waiting forms
SECONDS = 30.0  # for one form, and for its turn
WHAT, NAME = "schemas, patterns and grammars", "compiling"


class Compiling:
    """Threads that compile."""

    def __init__(
        self,
        at_once: int = AT_ONCE,
        most: int = MOST,
        seconds: float = SECONDS,
        rests: Rests | None = None,
    ) -> None:
        self._threads = FairThreads(at_once, WHAT, most, name=NAME, behind=True, rests=rests)
        self._seconds = seconds

    @property
    def waiting(self) -> int:
        """Number of forms that are compiled or wait."""
        return self._threads.waiting

    @property
    def oldest(self) -> float:
        """Seconds that the first in line has waited."""
        return self._threads.oldest

    async def do(
        self, known: Callable[[], T | None], compile: Callable[[], T], account: str, background: bool = False
    ) -> T:
        """The `known` form, else the result of `compile`. Raises Overloaded if too much waits, or for too long, and
        CharterError if the form itself takes too long."""
        if (compiled := await asyncio.to_thread(known)) is not None:
            return compiled
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def work() -> T:
            loop.call_soon_threadsafe(begun.set)
            return compile()

        compiling = asyncio.ensure_future(self._threads.do(account, work, background))
        turn = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait((compiling, turn), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if not (compiling.done() or turn.done()):
                raise Overloaded(f"{WHAT} of others", False, NAME)
            await asyncio.wait((compiling,), timeout=self._seconds)
            if compiling.done():
                return compiling.result()
            raise CharterError(
                f"the schema, pattern or grammar takes over {self._seconds:g} seconds to compile; simplify it: fewer "
                "and shorter repetitions, fewer names and alternatives"
            )
        finally:
            compiling.cancel()
            turn.cancel()

    def close(self) -> None:
        """Accepts no more forms."""
        self._threads.close(wait=False)
