"""JSON Lines, one object a line, plain or compressed; every problem is reported with its file and line."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import LONGEST_JSON, parse_json, regular
from charter.ground.text.unpacking import BROKEN, blocks_of

LARGEST = 2**30  # bytes of a file, unpacked
MOST_TIMES, SMALL = 100, 2**26  # it may be as many times as large as it was, or as many bytes


def read_bytes(path: Path) -> bytes:
    """The content of a plain, .gz or .zst file. Raises CharterError when it is missing or damaged, or no file."""
    found = io.BytesIO()
    for block in _blocks(path):
        found.write(block)
    return found.getvalue()


def _blocks(path: Path) -> Iterator[bytes]:
    """The content by blocks; errors are those of `read_bytes`."""
    try:
        with regular(path).open("rb") as file:
            most = path.stat().st_size
            most = min(LARGEST, max(SMALL, MOST_TIMES * most)) if path.suffix in (".gz", ".zst") else most
            size = 0
            for block in blocks_of(file, path.suffix):
                if (size := size + len(block)) > most:
                    raise OSError(
                        f"unpacked it has over {most // 2**20:,} MiB, the most of one like it; cut it up"
                    )
                yield block
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; check the path") from None
    except (OSError, *BROKEN) as error:
        raise CharterError(
            f"{path} cannot be read: {error or type(error).__name__}; get the file again"
        ) from None


def read_text(path: Path) -> str:
    """The UTF-8 text of a plain, .gz or .zst file (a byte-order mark is dropped)."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CharterError(f"{path} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each line that isn't blank. Raises CharterError naming file:line."""
    empty = True
    for number, line in _lines(path):
        if not line.strip():
            continue
        empty = False
        try:
            row = parse_json(line.removeprefix(codecs.BOM_UTF8).decode().encode(), constants=False)
        except UnicodeDecodeError:
            raise CharterError(f"{path}:{number}: not UTF-8; convert the file to UTF-8") from None
        except ValueError as error:
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


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end); no more than a line and a block are held."""
    number, held = 1, bytearray()
    for block in _blocks(path):
        for place, part in enumerate(block.split(b"\n")):
            if place:
                yield number, bytes(held)
                number += 1
                held.clear()
            held += part
            if len(held) > LONGEST_JSON:
                raise CharterError(
                    f"{path}:{number}: not JSON (a line of over {LONGEST_JSON // 2**20} MiB); expected one JSON object "
                    "a line"
                )
    yield number, bytes(held)


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
