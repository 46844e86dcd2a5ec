"""Lessons: transcripts and comparisons as dialogues that teach the trade of critic, reviser and labeller.

The functions that later word the questions word the lessons too, so training and use have equal prompts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import ComparisonPrinciple, Constitution, select_by_axis
from charter.ground.constitution.wording import choice_answer, choice_messages, critique_shots, critique_turns
from charter.ground.text.dialogue import Comparison, Dialogue, assistant
from charter.ground.text.examples import kept_rounds

Order = Literal["chosen first", "rejected first"]
ORDERS: tuple[Order, Order] = ("chosen first", "rejected first")


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
    transcripts: Sequence[Mapping[str, Any]],
    constitution: Constitution,
    shots: Sequence[Mapping[str, Any]] = (),
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
