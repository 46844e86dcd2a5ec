"""What one account may have of an engine that others use as well.

Slots: the last ones are for accounts that hold few, so that nobody's long replies keep others from their first token.
Time: while others want something, an account for which prompts were read rests for as long as that took.
The background rests while anybody else wants something, but for an eighth of the time: it comes last, and to an end.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable

# one slot in so many is for who holds fewer than such a part of them, and never for the background
RESERVED = 8
PASSED = 64  # requests that may not begin now and are passed by others' in one step
SPARED = 8  # one part in so many of the time is the background's, beside others
LONGEST_REST = 0.25  # seconds
RECENT = 0.05  # seconds: so long ago somebody was seen who may want something again at once


class Rests:
    """Until when accounts rest that had the processor, while others want it. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self._lock = clock, threading.Lock()
        self._until: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._served = self._behind = 0.0  # when accounts last had something; until when the background rests
        self._first: list[tuple[float, str]] = []  # of those seen lately the two that rest for the least time
        self._looked = 0.0

    def see(self, accounts: Iterable[str]) -> None:
        """These accounts want something, and not in the background."""
        with self._lock:
            self._seen |= dict.fromkeys(accounts, self.clock())
            self._look()

    def had(self, accounts: Iterable[str], seconds: float) -> None:
        """Accounts had the processor for so long until now: they rest for as long."""
        with self._lock:
            now = self._served = self.clock()
            ended = {account: self._until.get(account, 0.0) for account in accounts}
            self._seen = {account: when for account, when in self._seen.items() if when > now - RECENT}
            self._until = {account: end for account, end in self._until.items() if end > now}
            for account, end in ended.items():
                self._until[account] = min(max(end, now - seconds) + 2 * seconds, now + LONGEST_REST)
            self._look()

    def served(self) -> None:
        """Something was done that no account rests for."""
        self._served = self.clock()

    def charge(self, account: str, background: bool, seconds: float) -> None:
        """An account, or its background, had the processor for so long until now."""
        self.had_behind(seconds) if background else self.had((account,), seconds)

    def may(self, account: str, background: bool = False) -> bool:
        """Whether something may be done for an account: it doesn't rest, or nobody was seen who rests for less time;
        for its background see `behind`."""
        if background:
            return self.behind()
        now, end = self.clock(), self._until.get(account, 0.0)
        if end <= now:
            return True
        with self._lock:
            if now - self._looked > RECENT / 10:
                self._look()
            return not any(until < end and other != account for until, other in self._first)

    def behind(self) -> bool:
        """Whether the background may have the processor: nobody was seen lately, nothing is done for anybody, or it
        rested for its share."""
        now = self.clock()
        return not self.wanted or now - self._served > RECENT or now >= self._behind

    def had_behind(self, seconds: float) -> None:
        """The background had a part in what was done for so long until now."""
        self._behind = self.clock() + min((SPARED - 1) * seconds, SPARED * LONGEST_REST)

    @property
    def wanted(self) -> bool:
        """Whether anybody was seen lately."""
        with self._lock:
            return max(self._seen.values(), default=0.0) > self.clock() - RECENT

    def _look(self) -> None:
        now = self._looked = self.clock()
        recent = ((self._until.get(one, 0.0), one) for one, when in self._seen.items() if when > now - RECENT)
        self._first = heapq.nsmallest(2, recent)


def count_reserved(slots: int) -> int:
    """The slots that are for who holds fewer."""
    return -(-slots // RESERVED)


def most_slots(slots: int, fit: int, own: int, background: bool, shared: bool) -> int:
    """How many slots may be in use for an account that holds `own` to begin in another one; the memory holds `fit`.
    `shared`: others may come; who holds few has the last ones that fit, and some beyond `slots`."""
    kept = count_reserved(min(slots, fit))
    if background:
        return max(1, min(slots, fit) - kept)
    if not shared:
        return min(slots, fit)
    return max(1, min(slots, fit - kept)) if own >= kept else min(slots + kept, fit)
