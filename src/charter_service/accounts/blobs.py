"""The bytes of uploaded files, in a folder beside the database: one blob a file, named by the file's id.

Equal files of two uploads are two blobs. So nobody learns from an upload's time or size that another organisation has
the same file, and deleting a file removes its bytes without counting who else has them.

A blob begins after its row and ends before it (see `files`), so every blob has a row that leads to it: whatever a
killed process leaves is removed by its row, and the folder is never searched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine

from charter_service.web.database import SQLITE

ENDING, NAME = ".files", "serve.files"


class Blobs:
    """A folder of blobs; it is made when the first one is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, id: str) -> BinaryIO:
        """A new blob to write; only its owner may read it. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(
            os.open(self.folder / id, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "wb"
        )

    def settle(self, blob: BinaryIO) -> None:
        """Closes a written blob once it is on disk, and its name in the folder too. Raises OSError."""
        blob.flush()
        os.fsync(blob.fileno())
        blob.close()
        self._sync()

    def read(self, id: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError once they are removed."""
        return (self.folder / id).read_bytes()

    def remove(self, ids: Iterable[str]) -> None:
        """Removes blobs for good; a missing one is removed already."""
        for id in ids:
            (self.folder / id).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._sync()

    def _sync(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def blobs_of(engine: Engine, beside: Path = Path()) -> Blobs:
    """The blobs of a database: in a folder beside SQLite's file; for PostgreSQL in the folder `beside`."""
    if engine.url.get_backend_name() == SQLITE and engine.url.database:
        file = Path(engine.url.database)
        return Blobs(file.with_name(file.name + ENDING))
    return Blobs(beside / NAME)
