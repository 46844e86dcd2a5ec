"""From files to raw records, a block at a time: memory never holds a file, line or row over the limit.

A record is the bytes of one document, or of one row with a document, or a fault: the problem of a file or a part of
it. Every file gives at least one record, so nothing is lost between the files of a source and its documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.texts import DateField, Form, TextFile, TextSource, form_of
from charter.ground.text.columns import short_rows
from charter.ground.text.jsonl import BROKEN, blocks_of

SNIFF = 1 << 13  # bytes at the start of a file that show whether it is text
_ROWS = 64  # rows of a parquet file, decoded at once
# Control characters that no text has; form feeds, escapes and the like occur in old texts.
_BINARY = bytes(byte for byte in range(32) if byte not in b"\a\b\t\n\v\f\r\x1a\x1b")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte-order marks that UTF-8 files don't have
_MOST_BINARY = 0.001  # largest share of such bytes: an old page may have one


@dataclass(frozen=True)
class Record:
    """Raw bytes of a document or row, or a fault. `line` is 0 for the whole file; `lost`: bytes that a fault omits."""

    file: str
    line: int
    data: bytes
    form: Form
    fault: str = ""
    detail: str = ""
    lost: int = 0

    @property
    def size(self) -> int:
        """Bytes of the input behind the record."""
        return len(self.data) + self.lost


@dataclass
class Meter:
    """Bytes of files on disk read so far."""

    bytes: int = 0


def records(source: TextSource, file: TextFile, largest: int, meter: Meter) -> Iterator[Record]:
    """All records of a file; `largest` is the limit of one, in bytes. A fault ends the file, but a line over the limit
    is only skipped."""
    before = meter.bytes
    form = form_of(file.name)
    some, size = False, 0
    try:
        for record in _read(source, file, form, largest, meter):
            some = True
            size += record.size
            yield record
        if not some:
            yield Record(file.name, 0, b"", form, "empty", "the file holds no text")
    except _Fault as fault:
        yield Record(file.name, 0, b"", form, fault.kind, fault.detail, _unread_size(file, size))
    except CharterError as error:  # from the reader of tables
        detail = str(error).replace(str(file.path), file.name)
        yield Record(file.name, 0, b"", form, "damaged", detail, _unread_size(file, size))
    meter.bytes = before + _on_disk(file)


def _unread_size(file: TextFile, size: int) -> int:
    """Bytes of a file beyond `size`, the bytes of its records; for a packed file, from its size on disk."""
    return max(0, _on_disk(file) - size)


def _on_disk(file: TextFile) -> int:
    try:
        return file.path.stat().st_size
    except OSError:
        return 0


class _Fault(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


def _read(source: TextSource, file: TextFile, form: Form, largest: int, meter: Meter) -> Iterator[Record]:
    if form == "parquet":
        yield from _tables(source, file, largest)
        return
    blocks = _check_blocks(file.path, meter)
    if form == "rows" or (form == "text" and source.split == "line"):
        for number, line in _lines(blocks, largest):
            if isinstance(line, int):
                yield Record(file.name, number, b"", form, "too_large", _over(largest), line)
            elif line.strip():
                yield Record(file.name, number, line, form)
    elif form == "text" and source.split == "paragraph":
        yield from _paragraphs(file.name, _lines(blocks, largest), largest)
    else:
        content = bytearray()
        for block in blocks:
            content += block
            if len(content) > largest:
                raise _Fault("too_large", _over(largest))
        if content:
            yield Record(file.name, 0, bytes(content), form)


def _over(largest: int) -> str:
    return f"over {largest:,} bytes; split it, or raise reading.largest_mib"


def _paragraphs(name: str, lines: Iterator[tuple[int, bytes | int]], largest: int) -> Iterator[Record]:
    """Runs of lines between blank ones, each with the number of its first line."""
    paragraph: list[bytes] = []
    size = first = 0
    for number, line in _append_blank(lines):
        if isinstance(line, int) or line.strip():
            first = first or number
            size += (line if isinstance(line, int) else len(line)) + 1
            if size <= largest and not isinstance(line, int):
                paragraph.append(line)
            else:
                paragraph.clear()
        elif first:
            if size > largest:
                yield Record(name, first, b"", "text", "too_large", _over(largest), size)
            else:
                yield Record(name, first, b"\n".join(paragraph), "text")
            paragraph, size, first = [], 0, 0


def _append_blank(lines: Iterator[tuple[int, bytes | int]]) -> Iterator[tuple[int, bytes | int]]:
    """The lines, then a blank one."""
    yield from lines
    yield 0, b""


def _lines(blocks: Iterator[bytes], largest: int) -> Iterator[tuple[int, bytes | int]]:
    """(number from 1, line without its end, or the size of one over the limit); memory: one line and one block."""
    number, line, size = 1, bytearray(), 0
    for block in blocks:
        for place, part in enumerate(block.split(b"\n")):
            if place:  # a line feed precedes it
                yield number, size if size > largest else bytes(line)
                number, size = number + 1, 0
                line.clear()
            size += len(part)
            if size > largest:
                line.clear()
            else:
                line += part
    if size:
        yield number, size if size > largest else bytes(line)


def _check_blocks(path: Path, meter: Meter) -> Iterator[bytes]:
    """The unpacked blocks of a file. Raises _Fault if it is not text, can't be read or ends early."""
    first = True
    try:
        for block in _blocks(path, meter):
            if first:
                head = block[:SNIFF]
                if head.startswith(_UTF_16):
                    raise _Fault("broken_utf8", "it is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
                if sum(head.count(byte) for byte in _BINARY) > _MOST_BINARY * len(head):
                    raise _Fault("binary", "it is not text: it has bytes that only binary files have")
                block = block.removeprefix(b"\xef\xbb\xbf")
                first = False
            if block:
                yield block
    except BROKEN as error:
        raise _Fault("damaged", f"it can't be unpacked to its end ({error}); get the file again") from None
    except OSError as error:
        raise _Fault("unreadable", f"it can't be read ({error.strerror or error})") from None


def _blocks(path: Path, meter: Meter) -> Iterator[bytes]:
    before = meter.bytes
    with path.open("rb") as packed:
        for block in blocks_of(packed, path.suffix.lower()):
            meter.bytes = before + packed.tell()
            yield block


def _tables(source: TextSource, file: TextFile, largest: int) -> Iterator[Record]:
    """Rows of a parquet file as JSON, like rows of a .jsonl file."""
    columns = [source.text, *([source.date.field] if isinstance(source.date, DateField) else [])]
    for number, row in short_rows(file.path, _ROWS, columns, largest):
        if isinstance(row, int):
            yield Record(file.name, number, b"", "parquet", "too_large", _over(largest), row)
            continue
        cells = {name: _plain(row[name]) for name in columns if name in row}
        if len(cells) < len(columns):  # a message about a missing column names the others
            cells |= dict.fromkeys(row.keys() - cells.keys())
        data = json.dumps(cells, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(data) > largest:
            yield Record(file.name, number, b"", "parquet", "too_large", _over(largest), len(data))
        else:
            yield Record(file.name, number, data, "parquet")


def _plain(value: object) -> object:
    """A cell as a JSON value: dates become text, other types, such as bytes, null."""
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str | int | float) or value is None else None
