"""What is left of the limits by minute, stored, so that a restart does not fill the buckets.

Changes are gathered in memory and written every second in one transaction, so that an admission costs no commit. A
process that is killed loses what was taken since the last write: at most a second's use, and the time of the write.
Rows of full buckets are deleted.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.buckets import INPUT, OUTPUT, REQUESTS, Account, Bucket
from charter_service.accounts.limits import REMEMBERED, Admissions
from charter_service.accounts.tables import ALLOWANCES
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
            changed = [account for some in self._admissions.changes() for account in some]
            if not changed:
                return
            try:
                self._write([row_of(account) for account in changed])
            except BaseException:
                self._admissions.note_changed(account.id for account in changed)
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
                said = " ".join(str(getattr(error, "orig", None) or error).split())
                _log.warning("limits can't be written now and are kept: %s", said)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with writing(self._engine) as connection:
            dialect = postgresql if connection.dialect.name == POSTGRESQL else sqlite
            statement = dialect.insert(ALLOWANCES)
            changed = {name: statement.excluded[name] for name in rows[0] if name != "account"}
            connection.execute(
                statement.on_conflict_do_update(index_elements=["account"], set_=changed), rows
            )
            connection.execute(delete(ALLOWANCES).where(ALLOWANCES.c.full_at <= self._admissions.now()))


def row_of(account: Account) -> dict[str, Any]:
    """An account as it is stored."""
    state = account.state()
    levels = {
        column: account.buckets[name].level if name in state else None for name, column in COLUMNS.items()
    }
    full_in = max(reading.full_in for reading in state.values())
    return {"account": account.id, "at": account.at, "full_at": account.at + full_in, **levels}
