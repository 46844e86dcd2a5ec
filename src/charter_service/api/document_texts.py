"""Texts of documents in requests: read beside the event loop in the caller's turn, and kept so that the next question
about a document doesn't read it again.

A text is kept for the organisation that sent it: the time of an answer tells nothing about other organisations' files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from charter.ground.documents.document import Document, Limits
from charter.ground.documents.reading import read_document
from charter.ground.generate.fair import FairThreads
from charter_service.accounts.files import File
from charter_service.accounts.keys import Caller
from charter_service.api.errors import ApiError, invalid
from charter_service.api.file_store import DAMAGED, FileStore

KEPT_CHARACTERS = 16 * 2**20  # of all kept texts
READERS = 2  # documents read at once, of one organisation one
MIB = 2**20
Key = tuple[str, str, str]  # organisation, sha256 of the bytes, the name's ending


class DocumentTexts:
    """Reads documents. `file_mib`: the most MiB of one."""

    def __init__(self, files: FileStore, file_mib: int) -> None:
        self._files, self._limits, self._most = files, Limits(file_mb=file_mib), file_mib * MIB
        self.threads = FairThreads(READERS, "documents to read", name="documents", behind=True)
        self._kept: OrderedDict[Key, Document] = OrderedDict()
        self._characters = 0
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
                self._characters -= len(self._kept.pop(key).text)

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
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        document = read_document(content(), name, self._limits)
        with self._lock:
            self._kept[key] = document
            self._characters += len(document.text)
            while self._characters > KEPT_CHARACTERS:
                self._characters -= len(self._kept.popitem(last=False)[1].text)
        return document


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""
