"""Uploaded files of a server: rows and blobs together, and how many uploads were refused. Every method blocks."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import BinaryIO

from sqlalchemy import Engine as Database

from charter.service.accounts.blobs import Blobs
from charter.service.accounts.files import (
    File,
    OverQuota,
    Stored,
    begin_file,
    check_quota,
    clear,
    delete_file,
    drop_file,
    find_file,
    keep_file,
    stored,
)
from charter.service.api.errors import ApiError
from charter.service.web.database import reading, writing
from charter.service.web.room import NoRoom

DAMAGED = "the stored bytes of this file are damaged; delete it and upload it again"


class FileStore:
    """The files of a database. `quota`: bytes of an organisation; `refused`: uploads since the start that were refused,
    by organisation and reason."""

    def __init__(self, database: Database, blobs: Blobs, quota: int) -> None:
        self._database, self._blobs, self._quota = database, blobs, quota
        self.refused: Counter[tuple[str, str]] = Counter()

    def begin(self, organisation: str) -> tuple[str, BinaryIO]:
        """The id of a new file, and its blob to write. Raises OverQuota if there is no room for any file."""
        with writing(self._database) as connection:
            check_quota(connection, organisation, self._quota, 0)
            id = begin_file(connection, organisation)
        try:
            return id, self._blobs.create(id)
        except BaseException:
            self.drop(id)
            raise

    def keep(self, file: File, blob: BinaryIO) -> File:
        """Makes a received file visible, after its blob and then its row are on disk. Raises OverQuota."""
        self._blobs.settle(blob)
        with writing(self._database) as connection:
            return keep_file(connection, file, self._quota)

    def drop(self, id: str) -> None:
        """Gives up a file that was not kept."""
        with writing(self._database) as connection:
            drop_file(connection, id)
        self._clear()

    def note(self, organisation: str, error: BaseException) -> None:
        """Counts a refused upload."""
        kinds: dict[type[BaseException], str] = {OverQuota: "quota", NoRoom: "disk"}
        reason = str(kinds.get(type(error)) or getattr(error, "reason", "other"))
        self.refused[organisation, reason] += 1

    def find(self, organisation: str, id: str) -> File:
        """A file of an organisation. Raises NotFound."""
        with reading(self._database) as connection:
            return find_file(connection, organisation, id)

    def read(self, file: File) -> bytes:
        """The bytes of a file. Raises NotFound if it was deleted meanwhile."""
        try:
            data = self._blobs.read(file.id)
        except FileNotFoundError:
            self.find(file.organisation, file.id)
            raise ApiError(500, DAMAGED) from None
        if len(data) != file.bytes:
            raise ApiError(500, DAMAGED)
        return data

    def delete(self, organisation: str, id: str) -> File:
        """Deletes a file with its bytes. Raises NotFound."""
        with writing(self._database) as connection:
            file = delete_file(connection, organisation, id)
        self._clear()
        return file

    def stored(self) -> list[Stored]:
        """What each organisation stores."""
        with reading(self._database) as connection:
            return stored(connection)

    def _clear(self) -> None:
        """Removes what is gone; what fails now the sweep does again."""
        with suppress(OSError):
            clear(self._database, self._blobs, started=0.0)
