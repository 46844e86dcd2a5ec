"""The bytes of people's files: a folder with one file for each, named by a random id, so that no name is ever a path.

Bytes arrive under `incoming` and get their place by a rename once they are whole. What a killed process left there is
deleted at the next start, as is what no row of the database names.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection
from pathlib import Path

from charter_service.web.refusal import Refusal
from charter_service.web.tokens import new_id

NO_ROOM = "the file can't be kept here now: its disk can't be written; tell whoever runs this"


class Incoming:
    """A file that arrives: `name`, bytes so far in `size`."""

    def __init__(self, place: Path, name: str) -> None:
        self.place, self.name, self.size = place, name, 0
        self._digest = hashlib.sha256()
        self._file = _made(place)

    @property
    def sha256(self) -> str:
        """The digest of what arrived."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Adds bytes. Raises Refusal if the disk can't take them."""
        self.size += len(data)
        self._digest.update(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            raise Refusal(NO_ROOM, 507) from None

    def end(self) -> None:
        """Makes the bytes durable. Raises Refusal."""
        try:
            os.fsync(self._file)
        except OSError:
            raise Refusal(NO_ROOM, 507) from None
        finally:
            self._close()

    def drop(self) -> None:
        """Deletes the bytes, unless they have got their place."""
        self._close()
        self.place.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _made(place: Path) -> int:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError:
        raise Refusal(NO_ROOM, 507) from None


def _written(entry: os.DirEntry[str]) -> float:
    """When a file was written; never for one that was deleted meanwhile."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return math.inf


class Store:
    """The folder of all files; it is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self._incoming, self._whole = folder / "incoming", folder / "whole"

    def incoming(self, name: str) -> Incoming:
        """A new file that arrives. Raises Refusal if the disk can't be written."""
        return Incoming(self._incoming / new_id(), name)

    def keep(self, file: Incoming, id: str) -> None:
        """Gives a file that has arrived its place. Raises Refusal."""
        try:
            self._whole.mkdir(mode=0o700, exist_ok=True)
            os.replace(file.place, self._whole / id)
            folder = os.open(self._whole, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            raise Refusal(NO_ROOM, 507) from None

    def place(self, id: str) -> Path:
        """Where the bytes of a file are."""
        return self._whole / id

    def delete(self, ids: Collection[str]) -> None:
        """Deletes the bytes of files."""
        for id in ids:
            self.place(id).unlink(missing_ok=True)

    def ids(self, before: float = math.inf) -> set[str]:
        """The files that are here, and were written before a time in seconds since 1970."""
        if not self._whole.is_dir():
            return set()
        with os.scandir(self._whole) as entries:
            return {entry.name for entry in entries if before == math.inf or _written(entry) < before}

    def clear(self) -> None:
        """Deletes what has not arrived as a whole."""
        if self._incoming.is_dir():
            for place in self._incoming.iterdir():
                place.unlink(missing_ok=True)
