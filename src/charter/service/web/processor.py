"""A processor that several threads of one process compute on, each on all of its cores.

Two products of matrices at once take longer together than one after the other: each waits for helpers that the other
keeps from a core. So one thread computes at a time, in the order in which they came (a ticket lock). An account for
which something was computed rests for as long as it took while others want something, whichever thread did it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from charter.ground.generate.shares import Rests


class Processor:
    """A lock that is given to whoever has waited longest."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._drawn = self._done = 0  # tickets
        self.rests = Rests()

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for a turn."""
        return self._drawn - self._done > 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a turn, and has it until the end of the block. Not to be nested."""
        with self._news:
            ticket = self._drawn
            self._drawn += 1
            self._news.wait_for(lambda: self._done == ticket)
        try:
            yield
        finally:
            with self._news:
                self._done += 1
                self._news.notify_all()
