"""Pairs of replies whose better one is known under a principle: what labellers and critics learn to read principles
from. Programs measured the order (the room `principles`), or people wrote the pair (rows of the task `principles`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.wording import principle_of
from charter.ground.text.columns import plain_name, raw_rows
from charter.ground.text.dialogue import Message, user
from charter.ground.text.examples import principle_row
from charter.ground.text.records import read_comparisons


class Lesson(NamedTuple):
    """Two replies to a conversation under a principle; in lessons the first one is the better. `kind`, `pole`: the
    trait that was measured, and whether the principle is for or against it."""

    id: str
    principle: str
    messages: Sequence[Message]
    first: str
    second: str
    kind: str = ""
    pole: str = ""


def read_lessons(path: Path) -> list[Lesson]:
    """Measured pairs of a step of the room `principles`, or written pairs of a file."""
    return list(read_measured(path) if path.is_dir() else read_written(path))


def read_measured(path: Path) -> Iterator[Lesson]:
    """Comparisons whose system text names the principle. Raises CharterError for one without."""
    for c in read_comparisons(path):
        principle, messages = principle_of(c.messages)
        if not principle:
            raise CharterError(
                f"{path}: {c.id} names no principle in its system text; expected a step of the room `principles`"
            )
        yield Lesson(c.id, principle, messages, c.chosen, c.rejected, c.topic, str(c.meta.get("pole", "")))


def read_written(path: Path) -> Iterator[Lesson]:
    """Rows {id, principle, kind, prompt, replies, better}. Raises CharterError naming the place of a broken one."""
    for number, (place, entry) in enumerate(raw_rows(path), 1):
        try:
            row = principle_row(entry)
        except (KeyError, TypeError, ValueError):
            raise CharterError(
                f"{place}: expected principle, kind, prompt, replies (two) and better (0 or 1)"
            ) from None
        name = str(entry.get("id", f"{plain_name(path)}-{number:05d}"))
        yield Lesson(name, row.principle, [user(row.prompt)], row.replies[row.better], row.replies[1 - row.better])
