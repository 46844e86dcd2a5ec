"""Converts columns of published data files into the columns that `records` reads.

It makes rows with "messages" or "prompt" (and "completion", or "chosen" and "rejected") from instruction sets, red-team
lists, BIG-bench tasks, ShareGPT conversations and HHH evaluations. Files are JSON, CSV, text, or parquet, the hub's
format for most data sets, which needs the extra `parquet`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import DAMAGE, MOST_VALUES, check_values, line_of, regular
from charter.ground.settings.extras import need
from charter.ground.settings.recognise import OWN_COLUMNS, open_text
from charter.ground.text.jsonl import BROKEN, numbered_rows, read_text

try:
    from pyarrow import ArrowException, compute, parquet, types
except ImportError:  # the extra `parquet` isn't installed
    parquet = None

# limits of a row group: bytes that the file states, or times the file's size
SMALL_GROUP, MOST_TIMES = (2**28, 100)
LARGEST_ROW = 2**26  # bytes of a row's texts
_AT_ONCE = 2**26  # bytes of texts decoded together
_PROMPTS = ("prompts_final", "goal", "Goal", "question")
_TOPICS = ("topic", "category", "Category", "harm_area", "risk_area")
# in the meta of a comparison: how its set asks for the better reply
ASKED = "asked"
_OWN = {column for columns in OWN_COLUMNS.values() for column in columns}
_LONGEST_CELL = 2**31 - 1
_MOST_COLUMNS = 10_000
_BYTES_A_VALUE = 16  # at least, in a large JSON file
_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


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
            raise ValueError(f"a group of rows has {unpacked_size:,} bytes, unpacked; write it with smaller groups")


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


def plain_name(path: Path) -> str:
    """A file's name without folder and endings: hh_rlhf/harmless-base.jsonl.gz is harmless-base."""
    name = path.name
    for ending in (".gz", ".zst", ".jsonl", ".json", ".csv", ".txt", ".parquet"):
        name = name.removesuffix(ending)
    return name


def raw_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of each row of a .jsonl, .json, .csv, .txt or .parquet file, unconverted; the place is file:line.

    A .txt file is one prompt a line. Raises CharterError for another kind of file or a broken row.
    """
    kind = path.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    if kind == "jsonl" and not _is_array(path):
        numbered: Iterator[tuple[int, Any]] = numbered_rows(path)
    elif kind in ("json", "jsonl"):
        numbered = _json_rows(path)
    elif kind == "csv":
        numbered = _csv_rows(path)
    elif kind == "txt":
        lines = enumerate(read_text(path).split("\n"), 1)
        numbered = ((n, {"prompt": line.strip()}) for n, line in lines if line.strip())
    elif kind == "parquet":
        numbered = parquet_rows(path)
    else:
        raise CharterError(
            f"{path} has an unknown ending; expected .jsonl, .json, .csv or .txt (also .gz, .zst), or .parquet"
        )
    for number, row in numbered:
        place = f"{path}:{number}"
        if any(row.get(None) or ()):  # cells of a CSV row beyond its columns
            raise CharterError(f"{place}: more cells than columns; put cells that hold a comma in quotes")
        yield place, row


def source_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file in the columns of `records`, each with an id. Raises CharterError for a broken row."""
    for place, row in raw_rows(path):
        try:
            columns = _canonical(row)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise CharterError(f"{place}: a row whose columns do not fit together ({error!r})") from None
        columns.setdefault("id", f"{plain_name(path)}-{int(place.rpartition(':')[2]):05d}")
        yield place, columns


def axis_of(path: Path) -> str:
    """The axis that a known file's or its folder's name stands for, else "" (HH-RLHF, BIG-bench, 438 HHH).

    HH-RLHF's files are harmless-base.jsonl.gz, and on the hub harmless-base/train.jsonl.gz.
    """
    name = plain_name(path)
    if name == "438HHHEvaluations":
        return "hhh"
    group = path.parent.name == "hhh_alignment"
    return next((a for a in ("harmless", "helpful", "honest", "other") if name == a and group), "") or next(
        (a for n in (name, path.parent.name) for a in ("harmless", "helpful") if n.startswith(f"{a}-")), ""
    )


def _is_array(path: Path) -> bool:
    """Whether a .jsonl file is one array of objects, such as the published red-team attempts."""
    try:
        with open_text(path) as file:
            return bool(re.match(r"\ufeff?\s*\[\s*\{", file.read(64)))
    except (OSError, ValueError, *BROKEN):
        return False  # reading its rows will raise the error


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = read_text(path)
        data = text.encode()
        check_values(data, max(MOST_VALUES, len(data) // _BYTES_A_VALUE))
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CharterError(f"{path} is not JSON ({error})") from None
    rows = value.get("examples") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CharterError(f"{path} must hold a list of objects, or an object with such a list under examples")
    return iter(enumerate(rows, 1))


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows with the number of their last line."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        if len(reader.fieldnames or ()) > _MOST_COLUMNS:
            raise csv.Error(f"over {_MOST_COLUMNS:,} columns")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise CharterError(f"{path}:{reader.line_num}: {error}") from None


def _canonical(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row in the columns of `records`; rows that have them pass unchanged."""
    if "messages" in row:
        return dict(row)
    if "conversations" in row:
        return _conversation(row)
    if "text_correct" in row:
        pair = {"chosen": row["text_correct"], "rejected": row["text_incorrect"]}
        return pair | ({"meta": {ASKED: _preference_of(row)}} if "corrects" in row else {})
    if "target_scores" in row:
        # The answer with score 1 is right; the order of the answers means nothing.
        scores = row["target_scores"]
        return {"prompt": row["input"], "chosen": max(scores, key=scores.get), "rejected": min(scores, key=scores.get)}
    if not _OWN.isdisjoint(row):
        return dict(row)
    if "prompt" in row:
        return {**row, **_topic(row)}
    if "turns" in row:
        return {"prompt": row["turns"][0], **_topic(row)}
    if "instruction" in row:
        return _instruction(row)
    prompt = next((row[key] for key in _PROMPTS if key in row), None)
    if prompt is None:
        return dict(row)
    columns = {k: v for k, v in row.items() if k in ("id", "unseen", "source", "weight", "meta")}
    return {**columns, "prompt": prompt, **_topic(row)}


def _preference_of(row: Mapping[str, Any]) -> dict[str, str]:
    """How the set itself asks for the better reply: its prompt, and the right continuation and the wrong one."""
    return {"prompt": row["prompt"], "right": row["corrects"][0], "wrong": row["incorrects"][0]}


def _topic(row: Mapping[str, Any]) -> dict[str, Any]:
    return next(({"topic": row[key]} for key in _TOPICS if isinstance(row.get(key), str)), {})


def _conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    messages = [{"role": _SPEAKERS[m["from"]], "content": m["value"]} for m in row["conversations"]]
    if row.get("system"):
        messages.insert(0, {"role": "system", "content": row["system"]})
    if _OWN.isdisjoint(row):
        return {"messages": messages}
    return {"prompt": messages, "chosen": row["chosen"]["value"], "rejected": row["rejected"]["value"]}


def _instruction(row: Mapping[str, Any]) -> dict[str, Any]:
    """An instruction, its input or context below it, and its answer if the row has one."""
    instance = row["instances"][0] if row.get("instances") else row
    context = instance.get("input") or instance.get("context") or ""
    prompt = f"{row['instruction']}\n\n{context}".strip()
    columns = {"id": str(row["id"])} if "id" in row else {}
    answer = instance.get("output") or instance.get("response")
    return {**columns, "prompt": prompt, **({"completion": answer} if answer else {}), **_topic(row)}
