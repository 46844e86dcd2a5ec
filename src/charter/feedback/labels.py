"""The labeller's examination on known pairs, and the weight that its labels earn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from charter.feedback.settings import Settings
from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import ComparisonPrinciple, fitting
from charter.ground.generate.assistant import Assistant
from charter.ground.judge.choice import How, Question, choose
from charter.ground.measure.intervals import wilson
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Comparison


def known_rows(
    labeller: Assistant, pairs: Sequence[Comparison], principles: Sequence[ComparisonPrinciple], how: How
) -> list[dict[str, Any]]:
    """One row a known pair: the probability put on the right reply, and on whatever was shown first."""
    questions = []
    for c in pairs:
        rng = random.Random(derive_seed(how.seed, "known", c.id))
        principle = rng.choice(fitting(principles, c.axis))
        questions.append(Question(c.id, c.messages, c.chosen, c.rejected, principle.principle))
    return [
        {
            "id": c.id,
            "axis": c.axis,
            "p_correct": choice.p_first,
            "p_first": choice.shown_first,
            "correct": choice.p_first > 0.5,
        }
        for c, choice in zip(pairs, choose(labeller, questions, how), strict=True)
    ]


def label_weight(settings: Settings, tested: Sequence[dict[str, Any]]) -> float:
    """1 for a labeller whose accuracy on known pairs is surely above chance, `chance_weight` otherwise.

    Raises CharterError below `refuse_below`. Untested labellers keep full weight.
    """
    if not tested:
        return 1.0
    hits = sum(row["correct"] for row in tested)
    accuracy = hits / len(tested)
    if accuracy < settings.refuse_below:
        raise CharterError(
            f"the labeller is right on {accuracy:.0%} of {len(tested)} known pairs, refuse_below is "
            f"{settings.refuse_below:.0%}; use a stronger labeller or teach this one"
        )
    return 1.0 if wilson(hits, len(tested))[0] > 0.5 else settings.chance_weight


def comparisons(
    labelled: Sequence[dict[str, Any]], weight: float
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Comparisons with the likelier reply as chosen; two equal replies carry no preference and are dropped."""
    rows = []
    for pair in labelled:
        if pair["first"] == pair["second"]:
            continue
        p_first = 0.5 + weight * (pair["p_first"] - 0.5)
        chosen, rejected = ("first", "second") if p_first >= 0.5 else ("second", "first")
        rows.append(
            {
                "id": f"ai-{pair['id']}",
                "topic": pair["topic"],
                "messages": pair["messages"],
                "chosen": pair[chosen],
                "rejected": pair[rejected],
                "p_chosen": max(p_first, 1 - p_first),
                "axis": "harmless",
                "source": f"ai:{pair['principle']}",
                "meta": {"voted": pair["voted"]},
            }
        )
    if not rows:
        raise CharterError(
            f"all {len(labelled)} pairs have two equal replies, so there is nothing to compare; "
            "raise the temperature or give more prompts"
        )
    counts = {"pairs": len(labelled), "comparisons": len(rows), "dropped_equal": len(labelled) - len(rows)}
    mean = sum(r["p_chosen"] for r in rows) / len(rows)
    return rows, {**{k: float(v) for k, v in counts.items()}, "mean_p_chosen": mean}
