"""What one account may have of an engine that others use as well.

Slots: the last ones are for accounts that hold few, so that nobody's long replies keep others from their first token.
Time: whoever is written to has the engine for as long as another account's last reading took, before that one reads on.
The background rests while anybody else asks, but for a step now and then: it comes last, and to an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

RESERVED = (
    8  # one slot in so many is for who holds fewer than such a part of them, and never for the background
)
PASSED = 64  # requests that may not begin now and are passed by others' in one step
SPARED = 8  # steps, in one of which the background goes on beside others


class Shares:
    """Counts steps, and the seconds that accounts read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._steps = clock, 0
        self._rests: dict[str, float] = {}  # until when an account reads nothing where others are written to

    def now(self) -> float:
        """Seconds."""
        return self._clock()

    def goes_on(self, others: bool) -> bool:
        """Whether the background has a part in the step that begins: where no `others` ask, or once in a while."""
        self._steps += 1
        return not others or self._steps % SPARED == 0

    def may_read(self, account: str, written: Collection[str]) -> bool:
        """Whether an account may have a prompt read, while these accounts are written to."""
        return self._rests.get(account, 0.0) <= self._clock() or set(written) <= {account}

    def read(self, accounts: Collection[str], began: float) -> None:
        """Notes that accounts had prompts read since `began`."""
        now = self._clock()
        self._rests = {one: until for one, until in self._rests.items() if until > now}
        self._rests |= dict.fromkeys(accounts, 2 * now - began)


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
