"""Rows of parquet files, in which the hub keeps most data sets; the library that reads them is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError

try:
    from pyarrow import ArrowException, parquet
except ImportError:  # the extra `parquet` isn't installed
    parquet = None


def parquet_rows(path: Path, at_once: int = 1 << 16) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, row) of each row; `at_once` are decoded together.

    Raises CharterError where the file is damaged, or the library is missing.
    """
    if parquet is None:
        raise CharterError(f"{path} is a parquet file, which needs pyarrow: pip install pyarrow")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=at_once):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; check the path") from None
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise CharterError(f"{path} cannot be read as parquet ({reason}); get the file again") from None
