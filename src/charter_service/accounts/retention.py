"""Retention of data that grows by itself, and the sweep that removes old rows, a piece at a time, beside the service.

The log of decisions loses its oldest rows in order. An anchor keeps the chain of the last removed row, which is a
digest of all rows up to it: the remaining rows follow from it, and `verify_chain` begins there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, Engine, delete, func, or_, select, update

from charter.ground.settings.frozen import Frozen
from charter_service.accounts.batches import DAY, ENDED
from charter_service.accounts.decisions import prune
from charter_service.accounts.files import clear, hide_old
from charter_service.accounts.made_once import SECONDS as ONCE_SECONDS
from charter_service.accounts.requests import prune as prune_requests
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES, MADE_ONCE, TOOL_USE, USAGE, USAGE_SUMS
from charter_service.web.blobs import Blobs
from charter_service.web.database import shrink, writing

PIECE = 1_000  # rows removed in one transaction
SHRINK_SECONDS, SWEEP_SECONDS = 60.0, 3_600.0
_B, _I = BATCHES.c, BATCH_ITEMS.c
LOG = logging.getLogger(__name__)


class Keep(Frozen):
    """Days for which a service keeps data that grows by itself."""

    decisions_days: int = Field(183, ge=1, description="the log of what the policy decided")
    usage_days: int = Field(400, ge=1, description="requests and tokens by day, key and model")
    results_days: int = Field(29, ge=1, le=29, description="requests and results of batches that have ended")
    batches_days: int = Field(90, ge=1, description="that there was a batch, with its counts")
    files_days: int = Field(0, ge=0, description="uploaded files; 0: until they expire or are deleted")
    requests_days: int = Field(30, ge=1, description="a row a request, without its text")
    requests_most: int = Field(10_000_000, ge=1_000, description="rows of requests, the newest")


def sweep(engine: Engine, keep: Keep, now: float, pause: Callable[[float], object] = time.sleep) -> dict[str, int]:
    """Removes rows older than their retention; returns the number of pieces of each kind. After each piece it `pause`s
    as long as that one took, so that others can write in between. Raises the database's errors; removed rows stay
    removed."""

    def decisions(connection: Connection) -> bool:
        return prune(connection, now - keep.decisions_days * DAY, now, PIECE)

    files_before = now - keep.files_days * DAY if keep.files_days else None
    works: dict[str, Callable[[Connection], bool]] = {
        "made once": lambda connection: _made_once(connection, now),
        "results": lambda connection: _results(connection, now - keep.results_days * DAY, now),
        "batches": lambda connection: _batches(connection, now - keep.batches_days * DAY),
        "files": lambda connection: hide_old(connection, now, files_before),
        "usage": lambda connection: _usage(connection, now - keep.usage_days * DAY),
        "requests": lambda connection: prune_requests(
            connection, now - keep.requests_days * DAY, keep.requests_most, PIECE
        ),
        "decisions": decisions,
    }
    return {name: sum(1 for _ in _pieces(engine, work, pause)) for name, work in works.items()}


def _pieces(engine: Engine, work: Callable[[Connection], bool], pause: Callable[[float], object]) -> Iterator[None]:
    while True:
        began = time.monotonic()
        with writing(engine) as connection:
            if not work(connection):
                return
        yield
        pause(time.monotonic() - began)


def _made_once(connection: Connection, now: float) -> bool:
    statement = delete(MADE_ONCE).where(MADE_ONCE.c.created <= now - ONCE_SECONDS)
    return bool(connection.execute(statement).rowcount)


def _results(connection: Connection, before: float, now: float) -> bool:
    """Empties some requests of the oldest expired batch; from the first one on nobody can read its results."""
    expired = (_B.state == ENDED, _B.created <= before, or_(_B.removed.is_(None), _B.bytes > 0))
    batch = connection.execute(select(_B.id, _B.removed).where(*expired).order_by(_B.created, _B.id)).first()
    if batch is None:
        return False
    full = (_I.batch == batch.id, or_(_I.params != "", _I.result.is_not(None)))
    numbers = connection.execute(select(_I.number).where(*full).order_by(_I.number).limit(PIECE)).scalars()
    piece = numbers.all()
    of_piece = (_I.batch == batch.id, _I.number.in_(piece))
    connection.execute(update(BATCH_ITEMS).where(*of_piece).values(params="", result=None))
    values: dict[str, Any] = {} if len(piece) == PIECE else {"bytes": 0}
    if batch.removed is None:
        values["removed"] = now
    if values:
        connection.execute(update(BATCHES).where(_B.id == batch.id).values(**values))
    return True


def _batches(connection: Connection, before: float) -> bool:
    query = select(_B.id).where(_B.state == ENDED, _B.created <= before)
    id = connection.execute(query.order_by(_B.created, _B.id).limit(1)).scalar()
    if id is None:
        return False
    numbers = connection.execute(select(_I.number).where(_I.batch == id).limit(PIECE)).scalars().all()
    connection.execute(delete(BATCH_ITEMS).where(_I.batch == id, _I.number.in_(numbers)))
    if len(numbers) < PIECE:
        connection.execute(delete(BATCHES).where(_B.id == id))
    return True


def _usage(connection: Connection, before: float) -> bool:
    """Removes the oldest day."""
    oldest = datetime.fromtimestamp(before, UTC).date().isoformat()
    for tables in ((USAGE, USAGE_SUMS), (TOOL_USE,)):
        day = connection.execute(select(func.min(tables[0].c.day))).scalar()
        if day is not None and day < oldest:
            for table in tables:
                connection.execute(delete(table).where(table.c.day == day))
            return True
    return False


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep: when it ended, in seconds since 1970, and the pieces that it removed by kind."""

    at: float
    pieces: Mapping[str, int]


class Sweeping:
    """Sweeps once an hour, removes the blobs of hidden files, and gives free pages of the database back to the disk,
    until it is closed. `last`: the last sweep of this process."""

    def __init__(self, engine: Engine, keep: Keep, blobs: Blobs | None = None) -> None:
        self._engine, self._keep, self._blobs, self._started = engine, keep, blobs, time.time()
        self.last: Swept | None = None
        self._closed, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="charter-sweep", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Begins a sweep, after the running one; returns at once."""
        self._wake.set()

    def close(self) -> None:
        """Ends after the running piece."""
        self._closed.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        next_sweep = time.monotonic()
        self._clear()  # what a killed process left
        while True:
            if self._wake.wait(SHRINK_SECONDS):
                next_sweep = time.monotonic()
                self._wake.clear()
            if self._closed.is_set():
                return
            try:
                if time.monotonic() >= next_sweep:
                    pieces = sweep(self._engine, self._keep, time.time(), self._pause)
                    self.last = Swept(time.time(), pieces)
                    next_sweep = time.monotonic() + SWEEP_SECONDS
                self._clear()
                shrink(self._engine, self._pause)
            except _Closed:
                return
            except Exception as error:  # the database is away: try next time
                problem = " ".join(str(getattr(error, "orig", error)).split())
                LOG.warning("old rows can't be removed now: %s: %s", type(error).__name__, problem)

    def _clear(self) -> None:
        try:
            if self._blobs is not None:
                clear(self._engine, self._blobs, max(self._started, time.time() - DAY))
        except Exception as error:  # the database or the disk is away: try next time
            problem = " ".join(str(getattr(error, "orig", error)).split())
            LOG.warning("bytes of deleted files can't be removed now: %s: %s", type(error).__name__, problem)

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise _Closed


class _Closed(Exception):
    """The service ends."""
