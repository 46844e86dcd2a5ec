"""The disk of a database file: its free space, and a reserve for writes that can't wait.

A full disk must not stop the changes that could free it. If a change that can't wait, such as revoking a key, finds the
disk full, a file beside the database is given up, a part at a time; it is made again once there is room. Nothing is
known about the disk of a database on another machine.
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

from charter_service.web.database import SQLITE, writing
from charter_service.web.refusal import Refusal

T = TypeVar("T")
MIB = 2**20
FLOOR = 256 * MIB  # free bytes below which nothing large is accepted
RESERVE = 8 * MIB
PARTS = 16  # of the reserve; one is given up at a time
SHARE = 20  # on a small disk neither is more than 1 / SHARE of it
ENDING = ".reserve"


class NoRoom(Refusal):
    """A large write is refused because the disk is nearly full."""


class Room:
    """The disk space of one database."""

    def __init__(self, engine: Engine, held: bool = True) -> None:
        """`held`: whether to hold the reserve from now on, else later."""
        self._engine = engine
        local = engine.url.get_backend_name() == SQLITE
        self._file = Path(engine.url.database) if local and engine.url.database else None
        self._lock = threading.Lock()
        if held:
            self.hold()

    @property
    def free(self) -> int | None:
        """Free bytes; None if unknown."""
        disk = self._disk()
        return None if disk is None else disk.f_bavail * disk.f_frsize

    @property
    def floor(self) -> int | None:
        """Free bytes below which nothing large is accepted; None if the free space is unknown."""
        disk = self._disk()
        return None if disk is None else _part(FLOOR, disk)

    @property
    def problem(self) -> str:
        """What is wrong with the free space, "" if nothing is."""
        free, floor = self.free, self.floor
        if free is None or floor is None or free >= floor:
            return ""
        name = self._file.name if self._file else ""
        return f"the disk of {name} has {free // MIB} MiB free, less than {max(1, floor // MIB)}"

    def check(self) -> None:
        """Raises Refusal, 529, if the disk is nearly full."""
        if self.problem:
            raise NoRoom("the disk of this service is nearly full; try again later", 529)

    def make_way(self) -> None:
        """Gives up a part of the reserve if the disk is full, for the writes at a service's end and start."""
        disk, free, reserve = self._disk(), self.free, self._reserve
        if disk is not None and free is not None and reserve is not None and free < _part(RESERVE, disk):
            self._give(_part(RESERVE, disk) // PARTS)

    def hold(self) -> None:
        """Makes the reserve if it is missing and there is room."""
        disk, free, reserve = self._disk(), self.free, self._reserve
        if disk is None or free is None or reserve is None:
            return
        size = _part(RESERVE, disk)
        with self._lock, suppress(OSError):
            if free > 2 * size and self._reserve_size < size:
                descriptor = os.open(reserve, os.O_CREAT | os.O_WRONLY, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, max(1, size))
                finally:
                    os.close(descriptor)

    def write(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in a writing transaction that can't wait for somebody to free the disk: the reserve is
        given up for it."""
        try:
            with writing(self._engine) as connection:
                value = work(connection)
        except DBAPIError as error:
            if not (is_full(error) or is_broken(error)) or not self._reserve_size:
                raise
            return self._write_anyway(work)
        self.hold()
        return value

    def _write_anyway(self, work: Callable[[Connection], T]) -> T:
        """Gives up as much of the reserve as `work` needs; others may take space from it meanwhile."""
        part = self._reserve_size // PARTS or 1
        while True:
            try:
                with writing(self._engine) as connection:  # nobody else writes before it has ended
                    self._give(part)
                    return work(connection)
            except DBAPIError as error:
                part *= 2
                if not (is_full(error) or is_broken(error)) or not self._reserve_size:
                    raise

    @property
    def _reserve_size(self) -> int:
        """Bytes of the reserve."""
        try:
            return self._reserve.stat().st_size if self._reserve else 0
        except OSError:
            return 0

    def _give(self, size: int) -> None:
        """Gives up bytes of the reserve."""
        if self._reserve is not None and (size_left := self._reserve_size):
            if size_left > size:
                os.truncate(self._reserve, size_left - size)
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
    """Whether the database had no room to write."""
    return _code(error) in (sqlite3.SQLITE_FULL, "53100")


def is_broken(error: BaseException) -> bool:
    """Whether the database's disk failed at reading or writing, as a full one does too."""
    return _code(error) in (sqlite3.SQLITE_IOERR, "58030")


def is_busy(error: BaseException) -> bool:
    """Whether another process held the database's lock for too long."""
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
