"""Bytes of uploaded files: a folder with one file for each, named by a random id, so that no name is ever a path.

What leads to a blob, such as a row of a database, is its owner's affair.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from charter_service.web.refusal import Refusal


class Blob:
    """A file that arrives: `name`, as its sender calls it, and bytes so far in `size`."""

    def __init__(self, place: Path, name: str = "", full: str = "") -> None:
        """`full`: the words of the Refusal, 507, if the disk can't take it; without them OSError is raised."""
        self.place, self.name, self.size, self._full = place, name, 0, full
        self._digest = hashlib.sha256()
        with refusing(full):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # only its owner may read it, and no link leads it elsewhere
            descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")

    @property
    def sha256(self) -> str:
        """The digest of what arrived."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Adds bytes. Raises OSError, or its Refusal."""
        self.size += len(data)
        self._digest.update(data)
        with refusing(self._full):
            self._file.write(data)

    def end(self) -> None:
        """Makes the bytes durable. Raises OSError, or its Refusal."""
        try:
            with refusing(self._full):
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self.close()

    def close(self) -> None:
        """Ends the writing, after a write under way in another thread."""
        with suppress(OSError):
            self._file.close()

    def drop(self) -> None:
        """Deletes the bytes, unless they have got another place."""
        self.close()
        self.place.unlink(missing_ok=True)


class Blobs:
    """A folder of blobs; it is made when the first one is. `full`: as in Blob."""

    def __init__(self, folder: Path, full: str = "") -> None:
        self.folder, self._full = folder, full

    def create(self, id: str, name: str = "") -> Blob:
        """A new blob to write. Raises OSError, or its Refusal."""
        return Blob(self.place(id), name, self._full)

    def settle(self, blob: Blob) -> None:
        """Ends a written blob once it is on disk, and its name in the folder too. Raises as `create`."""
        blob.end()
        with refusing(self._full):
            self._sync()

    def adopt(self, blob: Blob, id: str) -> None:
        """Moves a blob here that ended in another folder of the same disk. Raises as `create`."""
        with refusing(self._full):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            os.replace(blob.place, self.place(id))
            self._sync()

    def place(self, id: str) -> Path:
        """Where the bytes of a blob are."""
        return self.folder / id

    def remove(self, ids: Iterable[str]) -> None:
        """Removes blobs for good; a missing one is removed already."""
        for id in ids:
            self.place(id).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._sync()

    def ids(self, before: float = math.inf) -> set[str]:
        """The blobs that are here, and were written before a time in seconds since 1970."""
        if not self.folder.is_dir():
            return set()
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries if before == math.inf or _written_at(entry) < before}

    def _sync(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def refusing(words: str) -> Iterator[None]:
    """A context in which errors of the disk are a Refusal, 507, if there are `words` for it."""
    try:
        yield
    except OSError:
        if not words:
            raise
        raise Refusal(words, 507) from None


def _written_at(entry: os.DirEntry[str]) -> float:
    """When a file was written; never for one that was deleted meanwhile."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return math.inf
