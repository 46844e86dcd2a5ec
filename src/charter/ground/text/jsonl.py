"""JSON Lines, one object a line, plain or compressed. Every error names its file and line.

Reads files by blocks and unpacks .gz and .zst. A few bytes may unpack to gigabytes, but memory holds only about
one block.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import zstandard

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import LONGEST_JSON, parse_json, regular

BLOCK = 1 << 20
# errors for damaged files, besides OSError
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
_ZSTD_INPUT, _ZSTD_OUTPUT = 1 << 10, 1 << 15  # a KiB of zstandard holds at most 32 MiB


def blocks_of(file: BufferedReader, ending: str) -> Iterator[bytes]:
    """The content of a file by blocks of about `BLOCK` bytes. Raises OSError, and `BROKEN` for damaged files."""
    if ending == ".zst":
        return _zstd_blocks(file)
    stream = gzip.GzipFile(fileobj=file) if ending == ".gz" else file
    return iter(lambda: stream.read1(BLOCK), b"")  # yields all content before a fault


def _zstd_blocks(file: BufferedReader) -> Iterator[bytes]:
    """All frames. A truncated frame is an error, which the library's own reader ignores."""
    frame, chunks, size = None, list[bytes](), 0
    while data := file.read(_ZSTD_INPUT):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj(write_size=_ZSTD_OUTPUT)
            chunks.append(frame.decompress(data))
            size += len(chunks[-1])
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
            if size >= BLOCK:
                yield b"".join(chunks)
                chunks, size = [], 0
    if size:
        yield b"".join(chunks)
    if frame is not None:
        raise EOFError("compressed data ends before its frame does")


LARGEST = 2**30  # bytes of a file, unpacked
MOST_TIMES, SMALL = 100, 2**26  # limits of unpacked size: times the packed size, or bytes


def read_bytes(path: Path) -> bytes:
    """The content of a plain, .gz or .zst file. Raises CharterError if it is missing, damaged, or not a file."""
    buffer = io.BytesIO()
    for block in _blocks(path):
        buffer.write(block)
    return buffer.getvalue()


def _blocks(path: Path) -> Iterator[bytes]:
    """The content by blocks, with the errors of `read_bytes`."""
    try:
        with regular(path).open("rb") as file:
            most = path.stat().st_size
            most = min(LARGEST, max(SMALL, MOST_TIMES * most)) if path.suffix in (".gz", ".zst") else most
            size = 0
            for block in blocks_of(file, path.suffix):
                if (size := size + len(block)) > most:
                    raise OSError(f"it has over {most // 2**20:,} MiB, unpacked, the most for its size; split it")
                yield block
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; check the path") from None
    except (OSError, *BROKEN) as error:
        raise CharterError(f"{path} cannot be read: {error or type(error).__name__}; get the file again") from None


def read_text(path: Path) -> str:
    """The UTF-8 text of a plain, .gz or .zst file, without a byte-order mark."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CharterError(f"{path} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None


def numbered_rows(path: Path, faults: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each line that isn't blank. Raises CharterError naming file:line; with `faults`,
    broken lines are left out and their errors added there."""
    empty = True
    for number, line in _lines(path):
        if not line.strip():
            continue
        empty = False
        try:
            row = _parse_row(line)
        except CharterError as error:
            if faults is None:
                raise CharterError(f"{path}:{number}: {error}") from None
            faults.append(f"{path}:{number}: {error}")
        else:
            yield number, row
    if empty:
        raise CharterError(f"{path} is empty; expected one JSON object a line")


def _parse_row(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises CharterError."""
    try:
        row = parse_json(line.removeprefix(codecs.BOM_UTF8).decode().encode(), constants=False)
    except UnicodeDecodeError:
        raise CharterError("not UTF-8; convert the file to UTF-8") from None
    except ValueError as error:
        raise CharterError(f"not JSON ({error}); expected one JSON object a line") from None
    if not isinstance(row, dict):
        raise CharterError(f"a JSON {type(row).__name__}, expected an object {{...}} a line")
    return row


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end); memory holds one line and one block."""
    number, line = 1, bytearray()
    for block in _blocks(path):
        for place, part in enumerate(block.split(b"\n")):
            if place:
                yield number, bytes(line)
                number += 1
                line.clear()
            line += part
            if len(line) > LONGEST_JSON:
                raise CharterError(
                    f"{path}:{number}: not JSON (a line of over {LONGEST_JSON // 2**20} MiB); expected one JSON object "
                    "a line"
                )
    yield number, bytes(line)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a file. Raises CharterError naming file:line; an empty file is an error."""
    return [row for _, row in numbered_rows(path)]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes all rows or none; a .gz or .zst ending compresses. The same rows give the same bytes."""
    lines = (json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    try:
        data = "".join(lines).encode("utf-8")
    except UnicodeEncodeError:
        raise CharterError(f"cannot write {path}: a text holds half a surrogate pair; remove it") from None
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = zstandard.ZstdCompressor().compress(data)
    sibling = path.with_name(f".{path.name}.partial")
    sibling.write_bytes(data)
    os.replace(sibling, path)
