"""Uploaded files of a server: rows and blobs together, and how many uploads were refused. Every method blocks."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from charter_service.accounts.files import (
    LEAST_BYTES,
    File,
    OverQuota,
    Stored,
    begin_file,
    check_quota,
    delete_file,
    drop_file,
    find_file,
    keep_file,
    stored,
)
from charter_service.accounts.files import clear as remove_gone
from charter_service.api.errors import ApiError
from charter_service.web.blobs import Blob, Blobs
from charter_service.web.database import reading, writing
from charter_service.web.room import NoRoom

UPLOADS = 4  # of an organisation at a time
UNDER_WAY = "uploads of your organisation are under way"
DAMAGED = "the stored bytes of this file are damaged; delete it and upload it again"


class FileStore:
    """The files of a database. `quota`: bytes of an organisation; `largest`: bytes of a file; `refused`: uploads since
    the start that were refused, by organisation and reason."""

    def __init__(self, database: Database, blobs: Blobs, quota: int, largest: int) -> None:
        self._database, self._blobs, self._quota, self._largest = database, blobs, quota, largest
        self._lock = threading.Lock()
        self._under_way = Counter[str]()  # uploads by organisation
        self._owners = dict[str, str]()  # organisations by file that arrives
        self.refused: Counter[tuple[str, str]] = Counter()

    def begin(self, organisation: str) -> tuple[str, Blob]:
        """The id of a new file, and its blob to write: `keep` or `drop` it. Raises OverQuota if there is no room for
        any file; ApiError, 429, if the organisation's uploads under way are the most at a time, or may fill its
        quota."""
        with self._lock:
            others = self._under_way[organisation]
            if others >= UPLOADS:
                raise ApiError(429, f"{others} {UNDER_WAY}; wait for one to end", reason="under_way")
            self._under_way[organisation] += 1
        try:
            with writing(self._database) as connection:
                check_quota(connection, organisation, self._quota, 0)
                if others:
                    self._check_others(connection, organisation, others)
                id = begin_file(connection, organisation)
        except BaseException:
            self._ended(organisation)
            raise
        with self._lock:
            self._owners[id] = organisation
        try:
            return id, self._blobs.create(id)
        except BaseException:
            self.drop(id)
            raise

    def _check_others(self, connection: Connection, organisation: str, others: int) -> None:
        """Raises ApiError if the uploads under way, each as the largest file, may leave no room for another."""
        try:
            check_quota(connection, organisation, self._quota, others * self._largest + LEAST_BYTES)
        except OverQuota:
            raise ApiError(
                429,
                f"{others} {UNDER_WAY}, which may fill its quota; wait for one to end, or delete files",
                reason="under_way",
            ) from None

    def _ended(self, organisation: str) -> None:
        with self._lock:
            self._under_way -= Counter([organisation])  # leaves out what is 0

    def keep(self, file: File, blob: Blob) -> File:
        """Makes a received file visible, after its blob and then its row are on disk. Raises OverQuota."""
        self._blobs.settle(blob)
        with writing(self._database) as connection:
            kept = keep_file(connection, file, self._quota)
        self._forget(file.id)
        return kept

    def _forget(self, id: str) -> None:
        """Ends an upload, once."""
        with self._lock:
            organisation = self._owners.pop(id, None)
        if organisation is not None:
            self._ended(organisation)

    def drop(self, id: str) -> None:
        """Gives up a file that was not kept."""
        self._forget(id)
        with writing(self._database) as connection:
            drop_file(connection, id)
        self.clear()

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
            data = self._blobs.place(file.id).read_bytes()
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
        self.clear()
        return file

    def stored(self) -> list[Stored]:
        """What each organisation stores."""
        with reading(self._database) as connection:
            return stored(connection)

    def clear(self) -> None:
        """Removes what is gone; what fails now the sweep does again."""
        with suppress(OSError):
            remove_gone(self._database, self._blobs, started=0.0)
