"""The share of one account in an engine that others use too.

Slots: the last ones are for accounts with few slots, so that long replies of one account don't delay the first token
of another. Time: while others have requests, an account rests for as long as the reading of its prompts took. The
background rests while others have requests, except for an eighth of the time: it comes last, but it makes progress.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable

# one slot in RESERVED is for accounts that hold less than that part of the slots, and never for the background
RESERVED = 8
PASSED = 64  # requests in one step that can't begin now and are passed by those of others
SPARED = 8  # one part in SPARED of the time is for the background, if others have requests
LONGEST_REST = 0.25  # seconds
RECENT = 0.05  # seconds in which an account counts as present after its last request


class Rests:
    """Until when accounts rest after they used the processor, while others want it. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self._lock = clock, threading.Lock()
        self._until: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._served = self._behind = 0.0  # when accounts were last served; until when the background rests
        self._first: list[tuple[float, str]] = []  # the two present accounts with the shortest rest
        self._looked = 0.0

    def see(self, accounts: Iterable[str]) -> None:
        """These accounts have requests outside the background."""
        with self._lock:
            self._seen |= dict.fromkeys(accounts, self.clock())
            self._look()

    def rest(self, accounts: Iterable[str], seconds: float) -> None:
        """Accounts used the processor for this time until now: they rest for as long."""
        with self._lock:
            now = self._served = self.clock()
            ends = {account: self._until.get(account, 0.0) for account in accounts}
            self._seen = {account: when for account, when in self._seen.items() if when > now - RECENT}
            self._until = {account: end for account, end in self._until.items() if end > now}
            for account, end in ends.items():
                self._until[account] = min(max(end, now - seconds) + 2 * seconds, now + LONGEST_REST)
            self._look()

    def note_service(self) -> None:
        """Notes work for which no account rests."""
        self._served = self.clock()

    def charge(self, account: str, background: bool, seconds: float) -> None:
        """An account, or its background, used the processor for this time until now."""
        self.rest_background(seconds) if background else self.rest((account,), seconds)

    def may(self, account: str, background: bool = False) -> bool:
        """Whether an account may be served: it doesn't rest, or no present account has a shorter rest. For its
        background see `allows_background`."""
        if background:
            return self.allows_background()
        now, end = self.clock(), self._until.get(account, 0.0)
        if end <= now:
            return True
        with self._lock:
            if now - self._looked > RECENT / 10:
                self._look()
            return not any(until < end and other != account for until, other in self._first)

    def allows_background(self) -> bool:
        """Whether the background may use the processor: no account is present, none was served lately, or the rest of
        the background is over."""
        now = self.clock()
        return not self.wanted or now - self._served > RECENT or now >= self._behind

    def rest_background(self, seconds: float) -> None:
        """The background took part in the work of this time until now, and rests."""
        self._behind = self.clock() + min((SPARED - 1) * seconds, SPARED * LONGEST_REST)

    @property
    def wanted(self) -> bool:
        """Whether any account is present."""
        with self._lock:
            return max(self._seen.values(), default=0.0) > self.clock() - RECENT

    def _look(self) -> None:
        now = self._looked = self.clock()
        recent = ((self._until.get(account, 0.0), account) for account, at in self._seen.items() if at > now - RECENT)
        self._first = heapq.nsmallest(2, recent)


def count_reserved(slots: int) -> int:
    """How many slots are for accounts with few."""
    return -(-slots // RESERVED)


def most_slots(slots: int, fit: int, own: int, background: bool, shared: bool) -> int:
    """How many slots may be in use if an account with `own` slots takes another one; the memory holds `fit`. `shared`:
    others may come; accounts with few slots get the last ones that fit, and some beyond `slots`."""
    reserve = count_reserved(min(slots, fit))
    if background:
        return max(1, min(slots, fit) - reserve)
    if not shared:
        return min(slots, fit)
    return max(1, min(slots, fit - reserve)) if own >= reserve else min(slots + reserve, fit)
