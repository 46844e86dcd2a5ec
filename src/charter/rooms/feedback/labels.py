"""The labels of AI feedback: the labeller's examination on known pairs, the weight it earns, and the comparisons."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import ComparisonPrinciple, draw, select_by_axis
from charter.ground.judge.choice import How, Labeller, Question, choose
from charter.ground.measure.intervals import interval
from charter.ground.measure.score import points, tabulate
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import AXES, Comparison, cluster_of, sides
from charter.rooms.feedback.settings import Settings


def trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    """1 if the 95 % interval of the labeller's accuracy is above one half, 0 if it is below, else `chance_weight`; 1
    without rows.

    Each set of pairs is judged separately, and the lowest weight counts: a labeller that is right on pairs written for
    the test may be at chance on people's pairs. tested: one row per pair with `correct` (0, a half or 1), `id` (the
    cluster, shared by the pairs of one prompt), and `set` (rows without one form one set).
    """
    return min((_trust(rows, chance_weight) for rows in by_set(tested).values()), default=1.0)


def by_set(tested: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of known pairs, grouped by set."""
    rows_by_set: dict[str, list[Mapping[str, Any]]] = {}
    for row in tested:
        rows_by_set.setdefault(str(row.get("set", "")), []).append(row)
    return rows_by_set


def _trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    low, high = interval(tabulate((str(row["id"]), float(row["correct"]), 1.0) for row in tested))
    if low is None or high is None:
        return chance_weight
    return 1.0 if low > 0.5 else 0.0 if high < 0.5 else chance_weight


def axis_of(principles: Sequence[ComparisonPrinciple]) -> str:
    """The axis of the drawn principles: the first of their tags that is an axis, else harmless."""
    return next((tag for p in principles for tag in p.tags if tag in AXES), "harmless")


def draw_known(sets: Mapping[str, Sequence[Comparison]], limit: int, seed: int) -> list[tuple[str, Comparison]]:
    """Draw at most `limit` known pairs at random, about equally many of each set, each with its set's name."""
    pairs: list[tuple[str, Comparison]] = []
    remaining = limit
    for place, name in enumerate(sorted(sets, key=lambda name: (len(sets[name]), name))):
        share = min(len(sets[name]), remaining // (len(sets) - place))
        rng = random.Random(derive_seed(seed, "known", *([name] if len(sets) > 1 else [])))
        pairs += [(name, c) for c in rng.sample(list(sets[name]), share)]
        remaining -= share
    return pairs


def known_rows(
    labeller: Labeller, pairs: Sequence[tuple[str, Comparison]], principles: Sequence[ComparisonPrinciple], how: How
) -> list[dict[str, Any]]:
    """One row per known pair (set name, comparison): the probability of the right reply, and of the reply in first
    place. A tie is half right. The id is the cluster, which pairs with equal first user turns share."""
    questions, keys = list[Question](), list[str]()
    for _, c in pairs:
        rng = random.Random(derive_seed(how.seed, "known", c.id))
        (principle,) = draw(select_by_axis(principles, c.axis), rng)
        questions.append(Question(c.id, c.messages, *sides(c), principle.principle))
        keys.append(principle.key)
    return [
        {
            "id": cluster_of(c),
            "pair": c.id,
            "set": name,
            "axis": c.axis,
            "principle": key,
            "p_correct": choice.p_first,
            "p_first": choice.shown_first,
            "correct": points(choice.p_first, 0.5),
        }
        for (name, c), key, choice in zip(pairs, keys, choose(labeller, questions, how), strict=True)
    ]


def label_weight(settings: Settings, tested: Sequence[dict[str, Any]]) -> float:
    """The loss weight of the labels: 1 if accuracy on known pairs is surely above chance, `chance_weight` if it can't
    be told from chance, 0 if it is surely below. With several sets the lowest counts.

    Raises CharterError for a set below `refuse_below`. Untested labellers keep full weight.
    """
    for name, rows in by_set(tested).items():
        accuracy = sum(row["correct"] for row in rows) / len(rows)
        if accuracy < settings.refuse_below:
            where = f" of {name}" if name else ""
            raise CharterError(
                f"the labeller is right on {accuracy:.1%} of {len(rows)} known pairs{where}, refuse_below is "
                f"{settings.refuse_below:.1%}; use a stronger labeller or train this one"
            )
    return trust(tested, settings.chance_weight)


def comparisons(labelled: Sequence[dict[str, Any]], weight: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Comparisons with the likelier reply as chosen; two equal replies carry no preference and are dropped.

    `weight` scales their loss and leaves the labels alone. A label pulled to one half would teach that replies are
    equal, which differs from not knowing.
    """
    rows = []
    for pair in labelled:
        if pair["first"] == pair["second"]:
            continue
        p_first = pair["p_first"]
        better, worse = ("first", "second") if p_first >= 0.5 else ("second", "first")
        rows.append(
            {
                "id": f"ai-{pair['id']}",
                "topic": pair["topic"],
                "messages": pair["messages"],
                "chosen": pair[better],
                "rejected": pair[worse],
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
