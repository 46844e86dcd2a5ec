"""JSON Lines, one object a line, plain or compressed; every problem is reported with its file and line."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard

from charter.ground.artifact.errors import CharterError

LARGEST = 2**30  # bytes of a file, unpacked
FED = 1024  # bytes that are unpacked at once: of zstd at most some 30 MB then


def read_bytes(path: Path) -> bytes:
    """The content of a plain, .gz or .zst file. Raises CharterError when it is missing or damaged."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            return _decompress_gzip(raw)
        if path.suffix == ".zst":
            return _decompress_zstd(raw)
        return raw
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise CharterError(
            f"{path} cannot be read: {error or type(error).__name__}; get the file again"
        ) from None


def _decompress_gzip(raw: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        found = file.read(LARGEST + 1)
    _check_size(len(found))
    return found


def _decompress_zstd(raw: bytes) -> bytes:
    """All frames of the data; unlike the library's reader, a frame cut short is an error."""
    found, size, at = [], 0, 0
    while at < len(raw):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:  # a few bytes may unpack to gigabytes
            if at >= len(raw):
                raise EOFError("compressed data ends before its frame does")
            fed = raw[at : at + FED]
            found.append(frame.decompress(fed))
            _check_size(size := size + len(found[-1]))
            at += len(fed) - len(frame.unused_data)
    return b"".join(found)


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise OSError(f"unpacked it has over {LARGEST // 2**20:,} MiB, the most of one file; cut it up")


def read_text(path: Path) -> str:
    """The UTF-8 text of a plain, .gz or .zst file (a byte-order mark is dropped)."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CharterError(f"{path} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each line that isn't blank. Raises CharterError naming file:line."""
    empty = True
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        empty = False
        try:
            row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
        except UnicodeDecodeError:
            raise CharterError(f"{path}:{number}: not UTF-8; convert the file to UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise CharterError(
                f"{path}:{number}: not JSON ({error}); expected one JSON object a line"
            ) from None
        if not isinstance(row, dict):
            raise CharterError(
                f"{path}:{number}: a JSON {type(row).__name__}, expected an object {{...}} a line"
            )
        yield number, row
    if empty:
        raise CharterError(f"{path} is empty; expected one JSON object a line")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a file. Raises CharterError naming file:line; an empty file is an error."""
    return [row for _, row in numbered_rows(path)]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows whole or not at all; a .gz or .zst ending compresses. The same rows give the same bytes."""
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
