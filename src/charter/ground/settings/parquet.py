"""Rows of parquet files, the hub's format for most data sets. Reading them needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import DAMAGE, line_of, regular
from charter.ground.settings.extras import need

try:
    from pyarrow import ArrowException, compute, parquet, types
except ImportError:  # the extra `parquet` isn't installed
    parquet = None

SMALL_GROUP, MOST_TIMES = (
    2**28,
    100,
)  # limits of a row group: bytes that the file states, or times the file's size
LARGEST_ROW = 2**26  # bytes of a row's texts
_AT_ONCE = 2**26  # bytes of texts decoded together


def parquet_rows(path: Path, at_once: int = 1 << 12) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, row) of each row; at most `at_once` are decoded together.

    Raises CharterError if the file is damaged, a row has over `LARGEST_ROW` bytes, or the library is missing.
    """
    for number, row in short_rows(path, at_once, longest=LARGEST_ROW):
        if isinstance(row, int):
            raise CharterError(f"{path}: row {number} has {row:,} bytes; at most {LARGEST_ROW:,} are read")
        yield number, row


def short_rows(
    path: Path, at_once: int, columns: Collection[str] | None = None, longest: int = LARGEST_ROW
) -> Iterator[tuple[int, dict[str, Any] | int]]:
    """(number from 1, row) of each row, or the size of its texts in bytes if that is over `longest`. Columns outside
    `columns` are not decoded: they are None. Raises CharterError like `parquet_rows`."""
    if parquet is None:
        raise CharterError(need(str(path), "parquet"))
    number = 0
    try:
        with parquet.ParquetFile(regular(path)) as plain:
            bare = dict.fromkeys(plain.schema_arrow.names)
            leaves = map(plain.schema.column, range(len(plain.schema)))
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
            _check_groups(plain.metadata, path.stat().st_size)
        names = None if columns is None else [name for name in bare if name in columns]
        # a text in many rows stays one object: a file may repeat one text a million times
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=at_once, columns=names):
                for row in _rows(batch, longest):
                    number += 1
                    yield number, row if isinstance(row, int) else bare | row
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; check the path") from None
    except (ArrowException, *DAMAGE) as error:  # also ValueError for times that Python can't represent
        reason = line_of(error)
        raise CharterError(f"{path} cannot be read as parquet ({reason}); get the file again") from None


def _check_groups(metadata: Any, size: int) -> None:
    """Raises ValueError if a row group would unpack to far more than the file's size. It doesn't read the columns'
    metadata: for a damaged column the library ends the process."""
    for group in range(metadata.num_row_groups):
        unpacked_size = metadata.row_group(group).total_byte_size
        if not 0 <= unpacked_size <= max(SMALL_GROUP, MOST_TIMES * size):
            raise ValueError(
                f"a group of rows has {unpacked_size:,} bytes, unpacked; write it with smaller groups"
            )


def _rows(batch: Any, longest: int) -> Iterator[dict[str, Any] | int]:
    if _size(batch.columns) <= min(_AT_ONCE, longest):
        yield from batch.to_pylist()
        return
    for place in range(batch.num_rows):
        row = batch.slice(place, 1)
        size = _size(row.columns)
        yield size if size > longest else row.to_pylist()[0]


def _size(columns: Iterable[Any]) -> int:
    """Bytes of the texts in columns of any depth, each as often as it occurs."""
    total, stack = 0, list(columns)
    while stack:
        column = stack.pop()
        if types.is_dictionary(column.type):
            lengths = compute.binary_length(column.dictionary)
            total += compute.sum(compute.take(lengths, column.indices)).as_py() or 0
        elif types.is_struct(column.type):
            stack += column.flatten()
        elif types.is_map(column.type):
            stack += [column.keys, column.items]
        elif types.is_list(column.type) or types.is_large_list(column.type):
            stack.append(column.flatten())
    return total
