"""Forms that carry files: read as they arrive, each file straight to the disk while it is hashed and counted.

What is refused is refused before anything is read from a file. The rest of a refused form is read and thrown away,
since a browser shows no answer to a form that it could not send to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from charter.ground.documents.document import clean_name
from charter_service.chat.attached import Allowance
from charter_service.chat.file_store import Incoming, Store
from charter_service.web.forms import MOST_FIELDS, Form, check_site
from charter_service.web.refusal import Refusal

MULTIPART = "multipart/form-data"
LONGEST_FIELD_NAME = 100
UNREADABLE = "the form can't be read; reload the page and send it again"


@dataclass(frozen=True, slots=True)
class Room:
    """What a person may still send: the allowance, files of the draft, bytes that are stored."""

    allowance: Allowance
    drafted: int = 0
    stored: int = 0


@dataclass
class _Part:
    """A field or a file of the form."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    file: Incoming | None = None
    value: bytearray | None = None  # of a field


class Upload:
    """A form that arrives: its fields, and its files on the disk. `check` raises Refusal if the fields that came before
    the first file don't prove where the form comes from; `longest`: bytes of all fields."""

    def __init__(self, store: Store, room: Room, check: Callable[[Form], None], longest: int) -> None:
        self.files: list[Incoming] = []
        self.refusal: Refusal | None = None
        self._store, self._room, self._check, self._longest = store, room, check, longest
        self._fields: dict[str, list[str]] = {}
        self._part, self._header = _Part(), (bytearray(), bytearray())
        self._bytes = self._count = 0
        self._checked = self._complete = False

    @property
    def form(self) -> Form:
        """The fields so far."""
        return Form(self._fields)

    async def read(self, request: Request, largest: int) -> None:
        """Reads a form of at most `largest` bytes in all. Raises Refusal; the files are then deleted."""
        try:
            check_site(request)
            await self._read(request, largest)
            if self.refusal is not None:
                raise self.refusal
            if not self._complete:
                raise Refusal(UNREADABLE)
            for file in self.files:
                await run_in_threadpool(file.end)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Deletes the files that have no place yet."""
        for file in self.files:
            file.drop()

    async def _read(self, request: Request, largest: int) -> None:
        _, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= 200:
            raise Refusal(UNREADABLE)
        parser = MultipartParser(boundary, self._callbacks())
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > largest:
                    raise self.refusal or Refusal(
                        f"the limit is {largest:,} bytes for a form with files", 413
                    )
                if self.refusal is None:
                    try:
                        parser.write(chunk)
                    except Refusal as refusal:
                        self.refusal = refusal
                        self.drop()
        except MultipartParseError:
            raise Refusal(UNREADABLE) from None
        except ClientDisconnect:
            raise Refusal("the form broke off; send it again") from None

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_value,
            "on_part_data": self._add,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _begin_value(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        part = self._part
        part.name = options.get(b"name", b"").decode("utf-8", "replace")[:LONGEST_FIELD_NAME]
        self._count += 1
        if self._count > MOST_FIELDS:
            raise Refusal(UNREADABLE)
        if b"filename" not in options:
            part.value = bytearray()
        elif options[b"filename"]:  # else a browser says that no file was chosen
            self._begin_file(clean_name(options[b"filename"].decode("utf-8", "replace")[:10_000]))

    def _begin_file(self, name: str) -> None:
        if not self._checked:
            self._check(self.form)
            self._checked = True
        self._room.allowance.check_count(self._room.drafted + len(self.files) + 1)
        self._part.file = self._store.incoming(name)
        self.files.append(self._part.file)

    def _add(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.value is not None:
            self._bytes += end - start
            if self._bytes > self._longest:
                raise Refusal(f"the limit is {self._longest:,} bytes; shorten your text", 413)
            part.value += data[start:end]
        elif part.file is not None:
            size = part.file.size + end - start
            self._room.allowance.check_size(part.file.name, size)
            others = sum(file.size for file in self.files if file is not part.file)
            self._room.allowance.check_stored(part.file.name, self._room.stored + others + size)
            part.file.write(data[start:end])

    def _end_part(self) -> None:
        if self._part.value is not None:
            try:
                self._fields.setdefault(self._part.name, []).append(self._part.value.decode("utf-8"))
            except UnicodeDecodeError:
                raise Refusal(UNREADABLE) from None

    def _end(self) -> None:
        self._complete = True


def names_of(files: Sequence[Incoming]) -> str:
    """The names of files, for a sentence."""
    return ", ".join(file.name for file in files)
