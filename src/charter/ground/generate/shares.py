"""What one account may have of an engine that others use as well.

Slots: the last ones are for accounts that hold few, so that nobody's long replies keep others from their first token.
Time: while others want something, an account for which prompts were read rests for as long as that took.
The background rests while anybody else wants something, but for an eighth of the time: it comes last, and to an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

RESERVED = (
    8  # one slot in so many is for who holds fewer than such a part of them, and never for the background
)
PASSED = 64  # requests that may not begin now and are passed by others' in one step
SPARED = 8  # one part in so many of the time is the background's, beside others
LONGEST_REST = 0.25  # seconds
RECENT = 0.05  # seconds: so long ago somebody was seen who may want something again at once


class Rests:
    """Until when accounts rest that had the processor, while others want it. Read by any thread, changed by the one
    that has the processor."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._until: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._behind = 0.0  # until when the background rests

    def see(self, accounts: Iterable[str]) -> None:
        """These accounts want something, and not in the background."""
        self._seen |= dict.fromkeys(accounts, self.clock())

    def had(self, accounts: Iterable[str], began: float) -> None:
        """Accounts had the processor since `began`, in seconds of the clock: they rest for as long."""
        now, until, seen = self.clock(), self._until, self._seen
        self._seen = {account: when for account, when in seen.items() if when > now - RECENT}
        self._until = {account: end for account, end in until.items() if end > now}
        for account in accounts:
            end = max(until.get(account, began), began) + 2 * (now - began)
            self._until[account] = min(end, now + LONGEST_REST)

    @property
    def wanted(self) -> bool:
        """Whether anybody was seen lately."""
        recent = self.clock() - RECENT
        return any(when > recent for when in tuple(self._seen.values()))

    def may(self, account: str) -> bool:
        """Whether something may be done for an account: it doesn't rest, or nobody was seen who rests for less time."""
        now, until, end = self.clock(), self._until, self._until.get(account, 0.0)
        if end <= now:
            return True
        others = ((other, when) for other, when in tuple(self._seen.items()) if other != account)
        return not any(when > now - RECENT and until.get(other, 0.0) < end for other, when in others)

    def behind(self) -> bool:
        """Whether the background may have the processor: nobody was seen lately, or it rested for its share."""
        return not self.wanted or self.clock() >= self._behind

    def had_behind(self, began: float) -> None:
        """The background had a part in what was done since then."""
        now = self.clock()
        self._behind = now + (SPARED - 1) * (now - began)


def reserved(slots: int) -> int:
    """The slots that are for who holds fewer."""
    return -(-slots // RESERVED)


def most_slots(slots: int, fit: int, own: int, background: bool, shared: bool) -> int:
    """How many slots may be in use for an account that holds `own` to begin in another one; the memory holds `fit`.
    `shared`: others may come; who holds few has the last ones that fit, and some beyond `slots`."""
    kept = reserved(min(slots, fit))
    if background:
        return max(1, min(slots, fit) - kept)
    if not shared:
        return min(slots, fit)
    return max(1, min(slots, fit - kept)) if own >= kept else min(slots + kept, fit)
