"""A processor shared by several threads of one process, each of which computes on all cores.

Two matrix products at once take longer than one after the other: each waits for helpers that the other keeps from a
core. So one thread computes at a time, in the order of arrival (a ticket lock). After work for an account, that account
rests as long as the work took if others want something, whichever thread did it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from charter.ground.generate.shares import Rests


class Processor:
    """A lock for whoever has waited longest."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._drawn = self._done = 0  # tickets
        self.rests = Rests()

    @property
    def wanted(self) -> bool:
        """Whether a thread waits for a turn."""
        return self._drawn - self._done > 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a turn and keeps it until the end of the block. Don't nest it."""
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
