"""The tokens that organisations read and write in a month (UTC), and the caps on them.

One process serves a database, so sums in memory are exact: they are read once from the usage by day, and each request
adds its own at its end. A request is refused if the month's sum and its prompt would exceed the cap; those under way
may still end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select

from charter_service.accounts.keys import Caller
from charter_service.accounts.limits import TooMany
from charter_service.accounts.tables import KEYS, USAGE
from charter_service.web.database import reading


class Spending:
    """Sums by organisation, from any thread. `clock`: seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._month = month_of(clock())
        tokens = func.sum(USAGE.c.input_tokens + USAGE.c.output_tokens)
        sums = (
            select(KEYS.c.organisation, tokens)
            .join(KEYS, KEYS.c.id == USAGE.c.key)
            .where(USAGE.c.day >= f"{self._month}-01", USAGE.c.day <= f"{self._month}-31")
            .group_by(KEYS.c.organisation)
        )
        with reading(engine) as connection:
            self._sums = {str(owner): int(total) for owner, total in connection.execute(sums)}

    def add(self, organisation: str, tokens: int) -> None:
        """Counts the tokens of a request that has ended."""
        with self._lock:
            self._turn_month()
            self._sums[organisation] = self._sums.get(organisation, 0) + tokens

    def used(self, organisation: str) -> int:
        """Tokens of this month."""
        with self._lock:
            self._turn_month()
            return self._sums.get(organisation, 0)

    def check(self, caller: Caller, input_tokens: int) -> None:
        """Raises TooMany if a prompt would exceed the cap of the caller's organisation."""
        if not caller.monthly_tokens:
            return
        used = self.used(caller.organisation)
        if used + input_tokens > caller.monthly_tokens:
            raise TooMany(
                f"this organisation may use {caller.monthly_tokens:,} tokens a month and has used {used:,}; this "
                f"request would read {input_tokens:,}; wait for the next month (UTC), or ask for a higher cap",
                None,
                {},
            )

    def _turn_month(self) -> None:
        if (month := month_of(self._clock())) != self._month:
            self._month, self._sums = month, {}


def month_of(at: float) -> str:
    """The month of a time, such as 2026-12 (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")
