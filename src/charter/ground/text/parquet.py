"""Rows of parquet files, in which the hub keeps most data sets; the library that reads them is an extra."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError

try:
    from pyarrow import ArrowException, compute, parquet
except ImportError:  # the extra `parquet` isn't installed
    parquet = None

_TEXTS = frozenset({"string", "large_string", "binary", "large_binary"})


def parquet_rows(path: Path, at_once: int = 1 << 16) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, row) of each row; `at_once` are decoded together.

    Raises CharterError where the file is damaged, or the library is missing.
    """
    for number, row in short_rows(path, at_once):
        assert isinstance(row, dict)
        yield number, row


def short_rows(
    path: Path, at_once: int, wanted: Collection[str] | None = None, longest: int | None = None
) -> Iterator[tuple[int, dict[str, Any] | int]]:
    """(number from 1, row) of each row, or the bytes of its texts where they are over `longest`. Columns that aren't
    wanted are not decoded: they are None. Raises CharterError like `parquet_rows`."""
    if parquet is None:
        raise CharterError(f"{path} is a parquet file, which needs pyarrow: pip install pyarrow")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            bare = dict.fromkeys(file.schema_arrow.names)
            chosen = None if wanted is None else [name for name in bare if name in wanted]
            for batch in file.iter_batches(batch_size=at_once, columns=chosen):
                for row in _rows(batch, longest):
                    number += 1
                    yield number, row if isinstance(row, int) else bare | row
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; check the path") from None
    except (ArrowException, OSError, ValueError) as error:  # the last of times that Python can't tell
        reason = " ".join(str(error).split())
        raise CharterError(f"{path} cannot be read as parquet ({reason}); get the file again") from None


def _rows(batch: Any, longest: int | None) -> Iterator[dict[str, Any] | int]:
    texts = [column for column in batch.columns if str(column.type) in _TEXTS]
    lengths = [compute.binary_length(column).fill_null(0).to_pylist() for column in texts]
    sizes = [sum(cells) for cells in zip(*lengths, strict=True)]
    if longest is None or max(sizes, default=0) <= longest:
        yield from batch.to_pylist()
        return
    for place, size in enumerate(sizes):
        yield size if size > longest else batch.slice(place, 1).to_pylist()[0]
