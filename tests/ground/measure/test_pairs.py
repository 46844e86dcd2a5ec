"""The length rule: who is right by it, and models that are it or aren't."""

from __future__ import annotations

import random
from typing import Any

import pytest

from charter.ground.judge.fitness import HelpfulFitness
from charter.ground.measure.pairs import alike_in_length, human_pair, rule_right
from charter.ground.measure.reporting import Score, score
from charter.ground.measure.score import rank_accuracy
from reported import BY_NAME


def row(chosen: int, rejected: int, axis: str = "helpful", p: float = 1.0, **more: Any) -> dict[str, Any]:
    lengths = {"chosen_tokens": chosen, "rejected_tokens": rejected}
    return {"id": "x", "axis": axis, "source": "human", "p_chosen": p, **lengths, **more}


@pytest.mark.parametrize(
    ("pair", "right"),
    [
        (row(9, 5), 1.0),
        (row(5, 9), 0.0),
        (row(7, 7), 0.5),
        (row(5, 9, "harmless"), 1.0),
        (row(9, 5, "harmless"), 0.0),
        (row(9, 5, "honest"), 1.0),
        (row(9, 5, "other"), 1.0),
        (row(9, 5, p=0.2), 0.0),  # the label prefers the other reply
        (row(9, 5, "harmless", p=0.2), 1.0),
    ],
)
def test_the_rule_by_hand(pair: dict[str, Any], right: float) -> None:
    assert rule_right(pair) == right


def test_about_equal_is_within_a_tenth_of_the_longer() -> None:
    assert [alike_in_length(row(*lengths)) for lengths in ((20, 18), (18, 20), (20, 17), (7, 7))] == [
        True,
        True,
        False,
        True,
    ]
    assert not alike_in_length(row(20, 20, p=0.5)), "a coin's toss is no pair"


def test_peoples_pairs_are_told_by_their_source() -> None:
    flags = [human_pair(row(2, 1, source=s)) for s in ("human", "human:hh", "authored", "simulated", "human+contrast")]
    assert flags == [True, True, False, False, False]


def heldout(count: int, right: float, seed: int = 0, source: str = "human") -> list[dict[str, Any]]:
    """Pairs of which the longer reply is labelled better in 60 of 100, ranked as labelled with probability `right`; by
    length alone where `right` is negative."""
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        longer = rng.random() < 0.6
        chosen, rejected = (40, 20) if longer else (20, 40)
        better = longer if right < 0 else rng.random() < right
        scores = {"chosen_score": 1.0 if better else -1.0, "rejected_score": 0.0}
        pair = row(chosen, rejected, source=source) | scores | {"id": f"q{n // 2}"}
        rows.append(pair | {"correct": rank_accuracy(1.0, scores["chosen_score"], 0.0)})
    return rows


def over_rule(rows: list[dict[str, Any]]) -> Score:
    metric = BY_NAME["pair_over_rule"]
    return score(metric, {part: BY_NAME[part].table(rows) for part in metric.parts})


def test_a_model_that_is_the_length_rule_does_not_beat_it() -> None:
    rows = heldout(300, -1)
    gap = over_rule(rows)
    assert gap.value == 0 and gap.low is not None and gap.low < 0 < (gap.high or 0)
    assert (gap.n, gap.clusters) == (300, 150), "pairs of one first turn are one cluster"
    verdict = HelpfulFitness.of(rows)
    accuracy = BY_NAME["pair_accuracy"].table(rows).value
    assert accuracy > 0.5 and not verdict.fit
    assert f"must lie above the length rule's {accuracy:.1%}" in verdict.why and "people" in verdict.why


def test_a_model_that_knows_more_than_lengths_does() -> None:
    rows = heldout(300, 0.8)
    gap = over_rule(rows)
    assert gap.low is not None and gap.low > 0.08 and HelpfulFitness.of(rows).fit


def test_being_above_the_rule_by_luck_is_not_enough() -> None:
    rows = heldout(40, 0.7)
    assert BY_NAME["pair_accuracy"].table(rows).value > BY_NAME["pair_length_rule"].table(rows).value
    assert not HelpfulFitness.of(rows).fit, "the lower end counts"


def test_the_verdict_on_help_rests_on_peoples_helpful_pairs_where_there_are_any() -> None:
    people, package = heldout(200, 0.8), heldout(200, -1, source="authored")
    harmless = [pair | {"axis": "harmless"} for pair in heldout(50, -1)]
    built = [pair | {"source": "fixed+contrast"} for pair in heldout(50, -1)]
    assert list(HelpfulFitness.of([*package, *harmless, *built, *people]).rows) == people
    assert list(HelpfulFitness.of([*package, *harmless, *built]).rows) == package
    none = HelpfulFitness.of([*harmless, *built])
    assert not none.fit and none.why.startswith("not shown: it has no held-out helpful pairs")
