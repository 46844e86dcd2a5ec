"""Limits that outlive a restart: the rest of the limits by minute, stored, and the caps on tokens of a month (UTC).

Changes of buckets are gathered in memory and written every second in one transaction, so that an admission costs no
commit. A process that is killed loses what was taken since the last write: at most a second's use, and the time of the
write. Rows of full buckets are deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.keys import Caller
from charter_service.accounts.limits import INPUT, OUTPUT, REMEMBERED, REQUESTS, Account, Admissions, Bucket, TooMany
from charter_service.accounts.tables import ALLOWANCES, KEYS, USAGE
from charter_service.web.database import POSTGRESQL, reading, writing

SECONDS = 1.0
COLUMNS = {REQUESTS: "requests", INPUT: "input_tokens", OUTPUT: "output_tokens"}
_log = logging.getLogger(__name__)


class Allowances:
    """Restores the buckets of `admissions`, and writes them in its own thread until it is closed."""

    def __init__(self, engine: Engine, admissions: Admissions) -> None:
        """Raises the database's errors."""
        self._engine, self._admissions = engine, admissions
        self._restore()
        self._writes, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="allowances", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Writes what changed. Raises the database's errors; then nothing is lost."""
        with self._writes:
            accounts = [account for batch in self._admissions.changes() for account in batch]
            if not accounts:
                return
            try:
                self._write([row_of(account) for account in accounts])
            except BaseException:
                self._admissions.note_changed(account.id for account in accounts)
                raise

    def close(self) -> None:
        """Writes the rest and ends. Raises the database's errors."""
        self._closed.set()
        self._thread.join()
        self.flush()

    def _restore(self) -> None:
        now = self._admissions.now()
        newest = select(ALLOWANCES).where(ALLOWANCES.c.full_at > now).order_by(ALLOWANCES.c.at.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(newest.limit(REMEMBERED)).all()
        self._admissions.restore(
            Account(
                row.account,
                "organisation",
                {
                    name: Bucket(level, 1)
                    for name, column in COLUMNS.items()
                    if (level := getattr(row, column)) is not None
                },
                row.at,
            )
            for row in reversed(rows)
        )

    def _write_on(self) -> None:
        while not self._closed.wait(SECONDS):
            try:
                self.flush()
            except (SQLAlchemyError, CharterError) as error:
                problem = " ".join(str(getattr(error, "orig", None) or error).split())
                _log.warning("limits can't be written now and are kept: %s", problem)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with writing(self._engine) as connection:
            dialect = postgresql if connection.dialect.name == POSTGRESQL else sqlite
            statement = dialect.insert(ALLOWANCES)
            new_values = {name: statement.excluded[name] for name in rows[0] if name != "account"}
            connection.execute(statement.on_conflict_do_update(index_elements=["account"], set_=new_values), rows)
            connection.execute(delete(ALLOWANCES).where(ALLOWANCES.c.full_at <= self._admissions.now()))


def row_of(account: Account) -> dict[str, Any]:
    """An account as it is stored."""
    state = account.state()
    levels = {column: account.buckets[name].level if name in state else None for name, column in COLUMNS.items()}
    full_in = max(reading.full_in for reading in state.values())
    return {"account": account.id, "at": account.at, "full_at": account.at + full_in, **levels}


class Spending:
    """The tokens that organisations read and wrote this month, from any thread. `clock`: seconds since 1970.

    One process serves a database, so sums in memory are exact: they are read once from the usage by day, and each
    request adds its own at its end. A request is refused if the month's sum and its prompt would exceed the cap; those
    under way may still end.
    """

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
