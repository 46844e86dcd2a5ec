"""Lessons: pairs measured by programs and pairs written by people, the better reply first, and their order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.wording import principle_of
from charter.ground.judge.principle_reader import Lesson
from charter.ground.settings.seed import derive_seed
from charter.ground.text.columns import plain_name, raw_rows
from charter.ground.text.dialogue import user
from charter.ground.text.examples import principle_row
from charter.ground.text.records import read_comparisons
from charter.rooms.labeller.settings import Settings


def read_lessons(inputs: Inputs) -> tuple[list[Lesson], list[Lesson]]:
    """(measured, written) pairs of all sources. Raises CharterError naming the place of a broken row."""
    measured = [lesson for source in inputs.many("lessons") for lesson in read_measured(source.folder)]
    return measured, [lesson for source in inputs.many("written") for lesson in read_written(source.folder)]


def read_measured(path: Path) -> Iterator[Lesson]:
    """Comparisons whose system text names the principle, as the room `principles` writes them."""
    for c in read_comparisons(path):
        principle, messages = principle_of(c.messages)
        if not principle:
            raise CharterError(
                f"{path}: {c.id} names no principle in its system text; expected a step of the room `principles`"
            )
        yield Lesson(c.id, principle, messages, c.chosen, c.rejected)


def read_written(path: Path) -> Iterator[Lesson]:
    """Rows of the task `principles`: {id, principle, kind, prompt, replies, better}."""
    for number, (place, entry) in enumerate(raw_rows(path), 1):
        try:
            row = principle_row(entry)
        except (KeyError, TypeError, ValueError):
            raise CharterError(
                f"{place}: expected principle, kind, prompt, replies (two) and better (0 or 1)"
            ) from None
        name = str(entry.get("id", f"{plain_name(path)}-{number:05d}"))
        yield Lesson(name, row.principle, [user(row.prompt)], row.replies[row.better], row.replies[1 - row.better])


def batches(measured: list[Lesson], written: list[Lesson], settings: Settings, seed: int) -> list[list[Lesson]]:
    """The pairs of each optimizer step: every pass in another order; the last step of a pass may be short."""
    steps = []
    for epoch in range(settings.epochs):
        order = [*measured, *written * settings.written_times]
        random.Random(derive_seed(seed, "order", epoch)).shuffle(order)
        steps += [order[n : n + settings.batch] for n in range(0, len(order), settings.batch)]
    return steps
