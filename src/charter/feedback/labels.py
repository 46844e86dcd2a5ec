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
from charter.ground.judge.trust import trust
from charter.ground.measure.score import points
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import AXES, Comparison, cluster_of, sides


def axis_of(principles: Sequence[ComparisonPrinciple]) -> str:
    """The axis that the drawn principles speak of: the first of their tags that is one, else harmless."""
    return next((tag for p in principles for tag in p.tags if tag in AXES), "harmless")


def known_rows(
    labeller: Assistant, pairs: Sequence[Comparison], principles: Sequence[ComparisonPrinciple], how: How
) -> list[dict[str, Any]]:
    """One row a known pair: the probability put on the right reply, and on whatever was shown first; a tie is half
    right. The id is the cluster, which pairs of one first user turn share."""
    questions = []
    for c in pairs:
        rng = random.Random(derive_seed(how.seed, "known", c.id))
        principle = rng.choice(fitting(principles, c.axis))
        questions.append(Question(c.id, c.messages, *sides(c), principle.principle))
    return [
        {
            "id": cluster_of(c),
            "pair": c.id,
            "axis": c.axis,
            "p_correct": choice.p_first,
            "p_first": choice.shown_first,
            "correct": points(choice.p_first, 0.5),
        }
        for c, choice in zip(pairs, choose(labeller, questions, how), strict=True)
    ]


def label_weight(settings: Settings, tested: Sequence[dict[str, Any]]) -> float:
    """What the labels weigh in a loss: 1 for a labeller whose accuracy on known pairs is surely above chance,
    `chance_weight` for one that can't be told from chance, 0 for one that is surely below it.

    Raises CharterError below `refuse_below`. Untested labellers keep full weight.
    """
    if not tested:
        return 1.0
    hits = sum(row["correct"] for row in tested)
    accuracy = hits / len(tested)
    if accuracy < settings.refuse_below:
        raise CharterError(
            f"the labeller is right on {accuracy:.1%} of {len(tested)} known pairs, refuse_below is "
            f"{settings.refuse_below:.1%}; use a stronger labeller or teach this one"
        )
    return trust(tested, settings.chance_weight)


def comparisons(
    labelled: Sequence[dict[str, Any]], weight: float
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Comparisons with the likelier reply as chosen; two equal replies carry no preference and are dropped.

    `weight` scales their loss and leaves the labels alone: a label pulled to one half would teach that replies are
    equal, which is another thing than not knowing.
    """
    rows = []
    for pair in labelled:
        if pair["first"] == pair["second"]:
            continue
        p_first = pair["p_first"]
        chosen, rejected = ("first", "second") if p_first >= 0.5 else ("second", "first")
        rows.append(
            {
                "id": f"ai-{pair['id']}",
                "topic": pair["topic"],
                "messages": pair["messages"],
                "chosen": pair[chosen],
                "rejected": pair[rejected],
                "p_chosen": max(p_first, 1 - p_first),
                "axis": pair["axis"],
                "weight": weight,
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
