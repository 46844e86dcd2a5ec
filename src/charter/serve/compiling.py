"""Forms made ready beside the event loop: a few at a time, with a bound on what waits, on the wait, and on one form.

A schema or pattern may take seconds. Forms that are known already wait for nobody; one that takes too long is refused,
and goes on alone in its thread until the compiler's own bounds end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.bounds import Overloaded

T = TypeVar("T")

AT_ONCE = 2
MOST = 64  # forms that are compiled or wait for it
SECONDS = 30.0  # for one form, and for its turn


class Compiling:
    """Threads that compile."""

    def __init__(self, at_once: int = AT_ONCE, most: int = MOST, seconds: float = SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._threads = ThreadPoolExecutor(at_once, "charter-forms")
        self.waiting = 0  # and under way

    async def do(self, known: Callable[[], T | None], compile: Callable[[], T]) -> T:
        """What is `known`, else what `compile` makes. Raises Overloaded where too much waits, or for too long, and
        CharterError for what takes too long itself."""
        if (found := await asyncio.to_thread(known)) is not None:
            return found
        if self.waiting >= self._most:
            raise Overloaded(f"the schemas, patterns and grammars of {self.waiting} requests", own=False)
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def work() -> T:
            loop.call_soon_threadsafe(begun.set)
            return compile()

        made = self._threads.submit(work)
        self.waiting += 1

        def ended(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed, and with it everything
                loop.call_soon_threadsafe(self._ended)

        made.add_done_callback(ended)
        return await self._waited(made, begun)

    async def _waited(self, made: Future[T], begun: asyncio.Event) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                await begun.wait()
        except TimeoutError:
            if made.cancel():
                raise Overloaded("schemas, patterns and grammars of others", own=False) from None
        finally:
            if not begun.is_set():
                made.cancel()
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(asyncio.wrap_future(made))
        except TimeoutError:
            raise CharterError(
                f"the schema, pattern or grammar takes over {self._seconds:g} seconds to compile; simplify it: fewer "
                "and shorter repetitions, fewer names and alternatives"
            ) from None

    def _ended(self) -> None:
        self.waiting -= 1

    def close(self) -> None:
        """Takes up nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
