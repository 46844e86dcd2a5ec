"""The disk below a database in a file: how much is free, and some of it held back for those who must write.

A full disk must not shut out who could free it: a file beside the database is given up, a part at a time, when a change
that can't wait (revoking a key, say) finds the disk full, and is made again once there is room. Of a database on
another machine nothing is known here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from charter.service.web.database import SQLITE, writing
from charter.service.web.refusal import Refusal

T = TypeVar("T")
MIB = 2**20
FLOOR = 256 * MIB  # free bytes below which nothing large is taken in
RESERVE = 8 * MIB
PARTS = 16  # of the reserve, of which one is given up at a time
SHARE = 20  # neither is more than this part of a small disk
ENDING = ".reserve"


class NoRoom(Refusal):
    """Something large that finds the disk nearly full."""


class Room:
    """The room of one database."""

    def __init__(self, engine: Engine, held: bool = True) -> None:
        """`held`: whether the reserve is held back from now on, else later."""
        self._engine = engine
        local = engine.url.get_backend_name() == SQLITE
        self._file = Path(engine.url.database) if local and engine.url.database else None
        self._lock = threading.Lock()
        if held:
            self.hold()

    @property
    def free(self) -> int | None:
        """Bytes that are free; None where that can't be known."""
        found = self._disk()
        return None if found is None else found.f_bavail * found.f_frsize

    @property
    def floor(self) -> int | None:
        """Free bytes below which nothing large is taken in; None where what is free can't be known."""
        found = self._disk()
        return None if found is None else _part(FLOOR, found)

    @property
    def problem(self) -> str:
        """What is wrong with the room that is left, "" for nothing."""
        free, floor = self.free, self.floor
        if free is None or floor is None or free >= floor:
            return ""
        name = self._file.name if self._file else ""
        return f"the disk of {name} has {free // MIB} MiB free, less than {max(1, floor // MIB)}"

    def check(self) -> None:
        """Raises Refusal, 529, where the disk is nearly full."""
        if self.problem:
            raise NoRoom("the disk of this service is nearly full; try again later", 529)

    def make_way(self) -> None:
        """Gives a part of the reserve up where the disk is full, for what a service writes when it ends and begins."""
        found, free, reserve = self._disk(), self.free, self._reserve
        if found is not None and free is not None and reserve is not None and free < _part(RESERVE, found):
            self._give(_part(RESERVE, found) // PARTS)

    def hold(self) -> None:
        """Holds the reserve back, where there is room for it and it isn't there."""
        found, free, reserve = self._disk(), self.free, self._reserve
        if found is None or free is None or reserve is None:
            return
        size = _part(RESERVE, found)
        with self._lock, suppress(OSError):
            if free > 2 * size and self._left < size:
                descriptor = os.open(reserve, os.O_CREAT | os.O_WRONLY, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, max(1, size))
                finally:
                    os.close(descriptor)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` makes of a writing transaction that can't wait for somebody to free the disk: the reserve is
        given up for it."""
        try:
            with writing(self._engine) as connection:
                found = work(connection)
        except DBAPIError as error:
            if not (is_full(error) or is_broken(error)) or not self._left:
                raise
            return self._write_anyway(work)
        self.hold()
        return found

    def _write_anyway(self, work: Callable[[Connection], T]) -> T:
        """Gives up as much of the reserve as `work` needs: what others take of it is lost for the next one."""
        part = self._left // PARTS or 1
        while True:
            try:
                with writing(self._engine) as connection:  # nobody else writes before it has ended
                    self._give(part)
                    return work(connection)
            except DBAPIError as error:
                part *= 2
                if not (is_full(error) or is_broken(error)) or not self._left:
                    raise

    @property
    def _left(self) -> int:
        """Bytes of the reserve."""
        try:
            return self._reserve.stat().st_size if self._reserve else 0
        except OSError:
            return 0

    def _give(self, size: int) -> None:
        """Gives bytes of the reserve up."""
        if self._reserve is not None and (left := self._left):
            if left > size:
                os.truncate(self._reserve, left - size)
            else:
                self._reserve.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path | None:
        return self._file and self._file.with_name(self._file.name + ENDING)

    def _disk(self) -> os.statvfs_result | None:
        if self._file is None:
            return None
        try:
            return os.statvfs(self._file.parent)
        except OSError:
            return None


def is_full(error: BaseException) -> bool:
    """Whether the database had no room for what it was to write."""
    return _code(error) in (sqlite3.SQLITE_FULL, "53100")


def is_broken(error: BaseException) -> bool:
    """Whether the database's disk failed at reading or writing, which a full one does as well."""
    return _code(error) in (sqlite3.SQLITE_IOERR, "58030")


def is_busy(error: BaseException) -> bool:
    """Whether another one held the database's lock for too long."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, "55P03")


def _code(error: BaseException) -> int | str | None:
    """SQLite's code of an error, or PostgreSQL's, which has five characters (its appendix A)."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None


def _part(most: int, disk: os.statvfs_result) -> int:
    return min(most, disk.f_blocks * disk.f_frsize // SHARE)
