"""Reads data sets: the file of a split in a folder, its rows with file and line, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.text.columns import plain_name, raw_rows
from charter.rooms.evaluate.task import LETTERS, Context

T = TypeVar("T")
Row = Mapping[str, Any]
# (file and line, row, name)
Entry = tuple[str, Row, str]

# devtest is FLORES's scored split.
TEST = ("test", "devtest", "validation", "val")
DEV = ("dev", "validation", "val", "train")


def read_split(source: Path, splits: tuple[str, ...], parse: Callable[[Row, str], list[T]]) -> list[T]:
    """The items that `parse(row, name)` returns for every row of the first of `splits` that a source has.

    Raises CharterError that names file and line, or the missing split.
    """
    items: list[T] = []
    for place, row, name in _rows(source, splits):
        try:
            items += parse(row, name)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise CharterError(
                f"{place}: not a row of this evaluation ({_why(error)}; its columns are {', '.join(map(str, row))}); "
                "docs/reference/data.md says which columns each reads"
            ) from None
    return items


def draw_questions(parse: Callable[[Row, str], list[T]]) -> Callable[[Context], list[T]]:
    """The `questions` of a task: a function that draws from the test split."""
    return lambda context: context.draw(read_split(context.source, TEST, parse))


def _why(error: Exception) -> str:
    """What is wrong with a row, in words."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if isinstance(error, ValueError):
        return str(error)
    return f"a column holds something else than is read from it: {error}"


def has(source: Path, splits: tuple[str, ...]) -> bool:
    """Whether a source has one of these splits."""
    return _choose_split(_mark_splits(source), splits) is not None


def _rows(source: Path, splits: tuple[str, ...]) -> list[Entry]:
    """The rows of the first of `splits` that a source has. Rows that name no split are a test split."""
    marked = _mark_splits(source)
    rows = _choose_split(marked, splits)
    if rows is None and "test" in splits and not any(marks & {*TEST, *DEV} for marks, _ in marked):
        rows = [entry for _, entry in marked]
    if not rows:
        files = sorted({Path(place.rpartition(":")[0]).name for _, (place, _, _) in marked})
        raise CharterError(
            f"{source} has no split {' or '.join(splits)} (files: {', '.join(files) or 'none'}); name it in a file's "
            "name, as in test.jsonl, or in a column `split`"
        )
    return rows


def _choose_split(marked: list[tuple[set[str], Entry]], splits: tuple[str, ...]) -> list[Entry] | None:
    """The rows of the first of `splits` that a source has. The scored split gives no examples (`splits` without
    "test")."""
    split_names = set().union(*(marks for marks, _ in marked))
    scored = next((split for split in TEST if split in split_names), None)
    for split in splits:
        if split in split_names and ("test" in splits or split != scored):
            return [entry for marks, entry in marked if split in marks]
    return None


def _mark_splits(source: Path) -> list[tuple[set[str], Entry]]:
    """Every row with the words that may name its split: its column `split`, else its file's name."""
    files = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.name.endswith(ROW_ENDINGS))
    return [(_marks(path, entry[1]), entry) for path in files for entry in _number_rows(path)]


def _marks(path: Path, row: Row) -> set[str]:
    """The words that may name a row's split: ARC-Challenge-Test_even.jsonl.gz has "test"."""
    return {str(row["split"])} if "split" in row else set(re.split(r"\W|_", plain_name(path).lower()))


def _number_rows(path: Path) -> Iterator[Entry]:
    for number, (place, row) in enumerate(raw_rows(path), 1):
        yield place, row, f"{plain_name(path)}-{number:05d}"


def place_of(answer: object, options: tuple[str, ...]) -> int:
    """The index of the right option, given as a letter, a number from 0, or the option's text. Raises ValueError."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        place = answer
    else:
        text = str(answer).strip()
        place = LETTERS.find(text) if len(text) == 1 and text in LETTERS else options.index(text)
    if not 0 <= place < len(options):
        raise ValueError(f"the answer {answer!r} is none of {len(options)} options")
    return place
