"""Lessons: pairs measured by programs and pairs written by people, the better reply first, and their order."""

from __future__ import annotations

import random

from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.lessons import Lesson, read_measured, read_written
from charter.ground.settings.seed import derive_seed
from charter.rooms.labeller.settings import Settings


def read_lessons(inputs: Inputs) -> tuple[list[Lesson], list[Lesson]]:
    """(measured, written) pairs of all sources. Raises CharterError naming the place of a broken row."""
    measured = [lesson for source in inputs.many("lessons") for lesson in read_measured(source.folder)]
    return measured, [lesson for source in inputs.many("written") for lesson in read_written(source.folder)]


def batches(measured: list[Lesson], written: list[Lesson], settings: Settings, seed: int) -> list[list[Lesson]]:
    """The pairs of each optimizer step: every pass in another order; the last step of a pass may be short."""
    steps = []
    for epoch in range(settings.epochs):
        order = [*measured, *written * settings.written_times]
        random.Random(derive_seed(seed, "order", epoch)).shuffle(order)
        steps += [order[n : n + settings.batch] for n in range(0, len(order), settings.batch)]
    return steps
