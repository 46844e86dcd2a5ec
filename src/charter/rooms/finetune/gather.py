"""From inputs to optimizer steps: read, turn transcripts and comparisons into lessons, mix, encode, cut into steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.constitution import load
from charter.ground.learn.supervised import Row, anchor, encode_row, reply_begins
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.examples import read_shots, read_transcripts
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.rooms.finetune.settings import Settings
from charter.rooms.finetune.sft_data import choice_lessons, critique_lessons

T = TypeVar("T")


def sources(settings: Settings, inputs: Inputs, seed: int) -> list[list[Dialogue]]:
    """Dialogues of each input, in the order dialogues, transcripts, comparisons, anchor, without those that weigh
    nothing."""
    found = [
        draw_rows(read_dialogues(i.folder), settings.limit, derive_seed(seed, "limit", n))
        for n, i in enumerate(inputs.many("dialogues"))
    ]
    constitution = load(inputs.one("constitution").folder)
    lessons = settings.lessons
    shots = read_transcripts(shipped("critique_shots"))[: lessons.critique_shots]
    for i in inputs.many("transcripts"):
        found.append(critique_lessons(read_transcripts(i.folder), constitution, shots))
    choice_shots = read_shots(shipped("comparison_shots"))[: lessons.choice_shots]
    for i in inputs.many("comparisons"):
        found.append(
            choice_lessons(
                read_comparisons(i.folder),
                constitution,
                orders=lessons.choices_per_comparison,
                seed=derive_seed(seed, "lessons"),
                shots=choice_shots,
            )
        )
    learnt = len(found)
    for n, i in enumerate(inputs.many("anchor"), learnt):
        found.append(draw_rows(read_dialogues(i.folder), settings.limit, derive_seed(seed, "limit", n)))
    found = weighed(found, settings.weights)
    if not any(found[:learnt]):
        raise CharterError(
            "finetune was given no dialogues, transcripts or comparisons of a weight above 0; name some under `from`"
        )
    return found


def epoch_rows(sources: Sequence[Sequence[T]], passes: Sequence[float], seed: int, epoch: int) -> list[T]:
    """Rows of one epoch in the order of training: each source `passes` times (1.5: all once and half of them,
    drawn at random, once more), shuffled together."""
    _check_numbers("mixture", passes, len(sources))
    rows: list[T] = []
    for number, source in enumerate(sources):
        times = passes[number] if passes else 1.0
        rng = random.Random(derive_seed(seed, "mixture", epoch, number))
        rows += list(source) * int(times)
        rows += rng.sample(list(source), round((times % 1) * len(source)))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(rows)
    return rows


def weighed(sources: Sequence[Sequence[Dialogue]], weights: Sequence[float]) -> list[list[Dialogue]]:
    """The sources with each row's weight times that of its source, without rows that weigh nothing."""
    _check_numbers("weights", weights, len(sources))
    factors = weights or [1.0] * len(sources)
    return [
        [d if factor == 1 else replace(d, weight=d.weight * factor) for d in source if d.weight * factor > 0]
        for source, factor in zip(sources, factors, strict=True)
    ]


def _check_numbers(name: str, numbers: Sequence[float], sources: int) -> None:
    if numbers and len(numbers) != sources:
        raise CharterError(
            f"{name} has {len(numbers)} numbers for {sources} sources (inputs in the order dialogues, "
            "transcripts, comparisons, anchor); give one number each or none"
        )


def gather(
    settings: Settings, inputs: Inputs, template: Template, seed: int
) -> tuple[list[list[Row]], dict[str, int]]:
    """All optimizer steps of the run, and counts of what went in and what was dropped as too long."""
    found = sources(settings, inputs, seed)
    learnt = len(found) - len(inputs.many("anchor"))
    encoded: dict[str, Row | None] = {}

    mixed = [[(d, place >= learnt) for d in dialogues] for place, dialogues in enumerate(found)]
    epochs = [
        [
            row
            for dialogue, anchored in epoch_rows(mixed, settings.mixture, seed, epoch)
            if (row := _encode(settings, template, dialogue, encoded, anchored)) is not None
        ]
        for epoch in range(settings.epochs)
    ]
    every = [row for rows in epochs for row in rows]
    begun, stress = settings.anchors.begun, settings.anchors.stress
    openings = [row.ids[reply_begins(row) :][:begun] for row in every if not row.anchored]
    held = iter(anchor([row for row in every if row.anchored], openings, stress, seed))
    steps: list[list[Row]] = []
    for of_epoch in epochs:
        rows = [next(held) if row.anchored else row for row in of_epoch]
        steps += [rows[at : at + settings.batch] for at in range(0, len(rows), settings.batch)]
    if not steps:
        raise CharterError(
            f"every dialogue is over the context of {settings.context} tokens; raise `context`, as far as the "
            "model's own goes"
        )
    kept = [row for step in steps for row in step]
    counts = {
        "dialogues": len(encoded),
        "dropped_overlong": sum(row is None for row in encoded.values()),
        "steps": len(steps),
        "tokens_read": sum(len(row.ids) for row in kept),
        "tokens_learnt": sum(sum(row.mask) for row in kept if not row.anchored),
        "tokens_anchored": sum(sum(map(bool, row.mask)) for row in kept if row.anchored),
    }
    return steps, counts


def _encode(
    settings: Settings,
    template: Template,
    dialogue: Dialogue,
    known: dict[str, Row | None],
    anchored: bool,
) -> Row | None:
    # the same words may come again with another weight or another share to learn
    key = f"{anchored} {dialogue.weight} {dialogue.learn_from} {dialogue.messages}"
    if key not in known:
        dropping = settings.overlong == "drop"
        known[key] = encode_row(dialogue, template, settings.context, dropping, anchored)
    return known[key]
