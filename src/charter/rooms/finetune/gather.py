"""From inputs to optimizer steps: read, turn transcripts and comparisons into lessons, mix, encode, cut into steps.

Lessons are dialogues that teach the trade of critic, reviser and labeller. The functions that later word the questions
word the lessons too, so training and use have equal prompts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.constitution import ComparisonPrinciple, Constitution, load, select_by_axis
from charter.ground.constitution.lessons import Lesson, read_lessons
from charter.ground.constitution.wording import (
    REVISION,
    choice_answer,
    choice_messages,
    critique_shots,
    critique_turns,
    direct_revision_messages,
    join_opening,
    with_request,
)
from charter.ground.learn.supervised import Row, anchor, encode_row, reply_begins
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Comparison, Dialogue, assistant
from charter.ground.text.examples import kept_rounds, read_shots, read_transcripts
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.rooms.finetune.settings import Settings, miscounted

Order = Literal["chosen first", "rejected first"]
ORDERS: tuple[Order, Order] = ("chosen first", "rejected first")
T = TypeVar("T")
# the end of a sentence, perhaps quoted, or of a block of code
_ENDS = re.compile(r"[.!?\u2026`)\]}:;][\"'*_\u201d\u2019)]*\s*$")


@dataclass(frozen=True, slots=True)
class _Draw:
    """Draws a principle for a comparison, independent of other comparisons."""

    constitution: Constitution
    seed: int

    def principle(self, comparison: Comparison) -> ComparisonPrinciple:
        rng = random.Random(f"choice lesson:{self.seed}:{comparison.id}")
        return rng.choice(select_by_axis(self.constitution.comparisons, comparison.axis))


def critique_lesson(
    transcript: Mapping[str, Any], constitution: Constitution, shots: Sequence[Mapping[str, Any]] = ()
) -> list[Dialogue]:
    """One dialogue per round of a transcript: request, critique, request, revision. Later rounds start from the
    revision before; dropped rounds are left out."""
    lessons = []
    for number, reply, step in kept_rounds(transcript):
        principle = constitution.critique(step["key"])
        turns = critique_turns(transcript["messages"], reply, principle, step["critique"], step["revision"])
        lessons.append(
            Dialogue(
                f"{transcript['id']}-critique-{number}",
                (*critique_shots(shots), *turns),
                str(transcript.get("topic", "")),
                f"critique:{principle.key}",
                learn_from=len(critique_shots(shots)),
            )
        )
    return lessons


def critique_lessons(
    transcripts: Sequence[Mapping[str, Any]], constitution: Constitution, shots: Sequence[Mapping[str, Any]] = ()
) -> list[Dialogue]:
    """The lessons of all transcripts, in order. Raises CharterError for a key the constitution lacks."""
    return [lesson for t in transcripts for lesson in critique_lesson(t, constitution, shots)]


def choice_lesson(
    comparison: Comparison,
    principle: ComparisonPrinciple,
    order: Order = "chosen first",
    shots: Sequence[Mapping[str, Any]] = (),
) -> Dialogue:
    """A comparison as a question under a principle, answered with the letter of the better reply."""
    better, worse = comparison.chosen, comparison.rejected
    if comparison.p_chosen < 0.5:
        better, worse = worse, better
    first, second, letter = (better, worse, "A") if order == "chosen first" else (worse, better, "B")
    question = choice_messages(comparison.messages, first, second, principle.principle, shots)
    return Dialogue(
        f"{comparison.id}-choice-{letter}",
        (*question[:-1], assistant(choice_answer(letter))),
        comparison.topic,
        f"choice:{principle.key}",
        comparison.weight,
        learn_from=len(question) - 1,
    )


def choice_lessons(
    comparisons: Sequence[Comparison],
    constitution: Constitution,
    orders: int = 2,
    seed: int = 0,
    shots: Sequence[Mapping[str, Any]] = (),
) -> list[Dialogue]:
    """Choice lessons with a principle drawn among those tagged with the comparison's axis.

    orders: 2 asks each comparison in both orders under one principle, so that neither letter is favoured; 1 in a
    random order; 0 makes none. A comparison with p = 0.5 or weight 0 gives none.
    """
    if orders not in (0, 1, 2):
        raise CharterError(f"a comparison has lessons in 0, 1 or 2 orders, not {orders}")
    draw = _Draw(constitution, seed)
    lessons = []
    for c in (c for c in comparisons if c.weight > 0 and c.p_chosen != 0.5):
        shuffled = list(ORDERS)
        random.Random(f"order:{seed}:{c.id}").shuffle(shuffled)
        for order in ORDERS if orders == 2 else shuffled[:orders]:
            lessons.append(choice_lesson(c, draw.principle(c), order, shots))
    return lessons


def principle_lessons(pairs: Sequence[Lesson]) -> list[Dialogue]:
    """Two dialogues of each pair, in the words of the critique room: its better reply as an answer under the principle,
    and as the revision of the worse one. A better reply that was cut in its sentence teaches nothing."""
    lessons = []
    for pair in (pair for pair in pairs if _ENDS.search(pair.first)):
        request = direct_revision_messages(pair.messages, pair.second, pair.principle)
        answer = (*with_request(pair.messages, pair.principle), assistant(pair.first))
        revision = (*request[:-1], assistant(join_opening(REVISION, pair.first)))
        for way, turns in (("answer", answer), ("revision", revision)):
            lessons.append(Dialogue(f"{pair.id}-{way}", turns, "", f"principle:{way}", learn_from=len(turns) - 1))
    return lessons


def sources(settings: Settings, inputs: Inputs, seed: int) -> list[list[Dialogue]]:
    """Dialogues of each input, in the order of ROLES_OF_ROWS, without those of weight 0."""
    groups = [
        draw_rows(read_dialogues(i.folder), settings.limit, derive_seed(seed, "limit", n))
        for n, i in enumerate(inputs.many("dialogues"))
    ]
    constitution = load(inputs.one("constitution").folder)
    lessons = settings.lessons
    shots = read_transcripts(shipped("critique_shots"))[: lessons.critique_shots]
    for i in inputs.many("transcripts"):
        groups.append(critique_lessons(read_transcripts(i.folder), constitution, shots))
    choice_shots = read_shots(shipped("comparison_shots"))[: lessons.choice_shots]
    for i in inputs.many("comparisons"):
        groups.append(
            choice_lessons(
                read_comparisons(i.folder),
                constitution,
                orders=lessons.choices_per_comparison,
                seed=derive_seed(seed, "lessons"),
                shots=choice_shots,
            )
        )
    groups += [principle_lessons(read_lessons(i.folder)) for i in inputs.many("principles")]
    anchor_start = len(groups)
    for n, i in enumerate(inputs.many("anchor"), anchor_start):
        groups.append(draw_rows(read_dialogues(i.folder), settings.limit, derive_seed(seed, "limit", n)))
    groups = weigh(groups, settings.weights)
    if not any(groups[:anchor_start]):
        raise CharterError(
            "finetune has no dialogues, transcripts, comparisons or principles of a weight above 0; name some under "
            "`from`"
        )
    return groups


def epoch_rows(sources: Sequence[Sequence[T]], passes: Sequence[float], seed: int, epoch: int) -> list[T]:
    """Rows of one epoch in training order: each source `passes` times (1.5: all once, and a random half once more),
    shuffled together."""
    _check_numbers("mixture", passes, len(sources))
    rows: list[T] = []
    for number, source in enumerate(sources):
        times = passes[number] if passes else 1.0
        rng = random.Random(derive_seed(seed, "mixture", epoch, number))
        rows += list(source) * int(times)
        rows += rng.sample(list(source), round((times % 1) * len(source)))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(rows)
    return rows


def weigh(sources: Sequence[Sequence[Dialogue]], weights: Sequence[float]) -> list[list[Dialogue]]:
    """The sources, each row's weight multiplied by its source's, without rows of weight 0."""
    _check_numbers("weights", weights, len(sources))
    factors = weights or [1.0] * len(sources)
    return [
        [d if factor == 1 else replace(d, weight=d.weight * factor) for d in source if d.weight * factor > 0]
        for source, factor in zip(sources, factors, strict=True)
    ]


def _check_numbers(name: str, numbers: Sequence[float], sources: int) -> None:
    if wrong := miscounted(name, numbers, sources):
        raise CharterError(wrong)


def gather(settings: Settings, inputs: Inputs, template: Template, seed: int) -> tuple[list[list[Row]], dict[str, int]]:
    """All optimizer steps of the run, and counts of their rows, tokens and dropped dialogues."""
    groups = sources(settings, inputs, seed)
    anchor_start = len(groups) - len(inputs.many("anchor"))
    encoded: dict[str, Row | None] = {}

    mixed = [[(d, place >= anchor_start) for d in dialogues] for place, dialogues in enumerate(groups)]
    epochs = [
        [
            row
            for dialogue, anchored in epoch_rows(mixed, settings.mixture, seed, epoch)
            if (row := _encode(settings, template, dialogue, encoded, anchored)) is not None
        ]
        for epoch in range(settings.epochs)
    ]
    rows_of_run = [row for rows in epochs for row in rows]
    opening_tokens, stress = settings.anchors.begun, settings.anchors.stress
    openings = [row.ids[reply_begins(row) :][:opening_tokens] for row in rows_of_run if not row.anchored]
    anchor_rows = iter(anchor([row for row in rows_of_run if row.anchored], openings, stress, seed))
    steps: list[list[Row]] = []
    for of_epoch in epochs:
        rows = [next(anchor_rows) if row.anchored else row for row in of_epoch]
        steps += [rows[at : at + settings.batch] for at in range(0, len(rows), settings.batch)]
    if not steps:
        raise CharterError(
            f"every dialogue is over the context of {settings.context} tokens; raise `context`, at most to the "
            "model's own"
        )
    all_rows = [row for step in steps for row in step]
    counts = {
        "dialogues": len(encoded),
        "dropped_overlong": sum(row is None for row in encoded.values()),
        "steps": len(steps),
        "tokens_read": sum(len(row.ids) for row in all_rows),
        "tokens_learnt": sum(sum(row.mask) for row in all_rows if not row.anchored),
        "tokens_anchored": sum(sum(map(bool, row.mask)) for row in all_rows if row.anchored),
    }
    return steps, counts


def _encode(
    settings: Settings, template: Template, dialogue: Dialogue, encoded: dict[str, Row | None], anchored: bool
) -> Row | None:
    # the same messages may recur with another weight or learn_from
    key = f"{anchored} {dialogue.weight} {dialogue.learn_from} {dialogue.messages}"
    if key not in encoded:
        dropping = settings.overlong == "drop"
        encoded[key] = encode_row(dialogue, template, settings.context, dropping, anchored)
    return encoded[key]
