"""The server's uploaded files, rows and blobs together, and the texts of documents in requests.

A text is read beside the event loop in the caller's turn, and kept so that the next question about a document doesn't
read it again. It is kept for the organisation that sent it: the time of an answer tells nothing about other
organisations' files. Every method of FileStore blocks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from cachetools import LRUCache
from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from charter.ground.documents.document import Document, Limits
from charter.ground.documents.reading import read_document
from charter.ground.generate.fair import FairThreads
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
from charter_service.accounts.keys import Caller
from charter_service.api.errors import ApiError, invalid
from charter_service.web.blobs import Blob, Blobs
from charter_service.web.database import reading, writing
from charter_service.web.room import NoRoom

UPLOADS = 4  # of an organisation at a time
UNDER_WAY = "uploads of your organisation are under way"
DAMAGED = "the stored bytes of this file are damaged; delete it and upload it again"
KEPT_CHARACTERS = 16 * 2**20  # of all kept texts
READERS = 2  # documents read at once, of one organisation one
MIB = 2**20
Key = tuple[str, str, str]  # organisation, sha256 of the bytes, the name's ending


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
            stored = keep_file(connection, file, self._quota)
        self._forget(file.id)
        return stored

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


class DocumentTexts:
    """Reads documents. `file_mib`: the most MiB of one."""

    def __init__(self, files: FileStore, file_mib: int) -> None:
        self._files, self._limits, self._most = files, Limits(file_mb=file_mib), file_mib * MIB
        self.threads = FairThreads(READERS, "documents to read", name="documents", behind=True)
        self._kept = LRUCache[Key, Document](KEPT_CHARACTERS, lambda document: len(document.text))
        self._lock = threading.Lock()

    async def of_text(self, caller: Caller, data: str, name: str, background: bool) -> Document:
        """The document in a base64 text; the ending of `name` tells the kinds of plain text apart. Raises ApiError for
        what is not base64 and Unreadable for what can't be read, with the reason."""

        def read() -> Document:
            content = self._decode(data)
            digest = hashlib.sha256(content).hexdigest()
            return self._read((caller.organisation, digest, _ending(name)), name, lambda: content)

        return await self.threads.do(caller.organisation, read, background)

    async def of_file(self, caller: Caller, id: str, background: bool) -> tuple[File, Document]:
        """An uploaded file and its document. Raises NotFound and Unreadable."""

        def read() -> tuple[File, Document]:
            file = self._files.find(caller.organisation, id)

            def content() -> bytes:
                data = self._files.read(file)
                if hashlib.sha256(data).hexdigest() != file.sha256:
                    raise ApiError(500, DAMAGED)
                return data

            key = (caller.organisation, file.sha256, _ending(file.name))
            return file, self._read(key, file.name, content)

        return await self.threads.do(caller.organisation, read, background)

    def forget(self, organisation: str, sha256: str = "") -> None:
        """Drops the texts of a deleted file, or all of an organisation."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == organisation and sha256 in ("", key[1])]:
                del self._kept[key]

    def close(self) -> None:
        """Ends after the running reading."""
        self.threads.close()

    def _decode(self, data: str) -> bytes:
        # 4 characters hold 3 bytes
        if len(data) > (self._most + 2) // 3 * 4:
            raise invalid(
                f"the document has {len(data) * 3 // 4:,} bytes, {self._most:,} are allowed; send a part of it"
            )
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(
                f"the data is not base64 ({str(error).lower()}); encode the file's bytes, without line breaks"
            ) from None

    def _read(self, key: Key, name: str, content: Callable[[], bytes]) -> Document:
        """The kept document, or the one in `content`. One organisation reads one at a time: a second request for the
        same document finds it kept."""
        with self._lock:
            if (text := self._kept.get(key)) is not None:
                return text
        document = read_document(content(), name, self._limits)
        # one that is larger than the whole cache isn't kept
        with self._lock, suppress(ValueError):
            self._kept[key] = document
        return document


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""
