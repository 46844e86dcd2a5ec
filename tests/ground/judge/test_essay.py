"""Scores of essays: readings, the third one, halves; ranks; and when an examiner is fit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scipy.stats import spearmanr

import toys
from charter.ground.measure.essays import ExaminerVerdict, combine, rank_correlation, ranks, to_half
from charter.rooms.evaluate.essay import LEVELS, read_essays, read_thrice, score_in, wording


@pytest.mark.parametrize(
    ("readings", "score"),
    [
        ([4.0, 4.0], 4.0),
        ([4.0, 4.5], 4.5),  # 4.25 goes up
        ([3.0, 4.0], 3.5),  # one apart: no third is needed
        ([3.0, 4.0, 6.0], 3.5),  # and none counts
        ([2.0, 5.0, 5.0], 4.0),
        ([2.0, 5.0, 4.0], 3.5),  # 3.67
        ([2.0, 5.0], None),  # a third is needed
        ([2.0, 5.0, None], None),
        ([None, 5.0], None),
        ([3.2, 3.3], 3.5),  # 3 and 3.5 in halves: 3.25 goes up
        ([0.0, 0.0], 0.0),
        ([6.0, 6.0], 6.0),
        ([], None),
    ],
)
def test_two_readings_or_three(readings: list[float | None], score: float | None) -> None:
    assert combine(readings) == score


def test_halves_and_written_scores() -> None:
    assert [to_half(x) for x in (3.24, 3.25, 3.74, 3.75)] == [3.0, 3.5, 3.5, 4.0]
    assert [score_in(t) for t in (" 4.5", "Score: 3", "5/6", "7", "none", "")] == [4.5, 3.0, 5 / 6, None, None, None]


def test_a_scorer_gives_the_mean_of_levels_and_third_readings_only_where_two_are_apart() -> None:
    asked: list[str] = []

    def rate(messages: Any, text: str) -> float:
        content = messages[0]["content"]
        asked.append(content)
        falling = content.index("6: ") < content.index("0: ")
        level = 5 if "odd" in content and falling else 2
        return 0.0 if text == f" {level}" else -30.0

    examiner = toys.Scripted(rate=rate)
    readings = read_thrice([examiner] * 3, [("Topic", "an even essay"), ("Topic", "an odd essay")])
    assert [len(own) for own in readings] == [2, 3]
    assert readings[0] == pytest.approx([2, 2]) and readings[1] == pytest.approx([2, 5, 2])
    even = toys.Scripted(rate=lambda messages, text: 0.0)
    assert read_essays(even, [("Topic", "Any")], 0) == [pytest.approx(3.0)]


def test_each_reading_has_other_words_in_order() -> None:
    texts = [wording("TASK", "ESSAY", n)[0]["content"] for n in range(3)]
    assert len(set(texts)) == 3 and len({"".join(sorted(text)) for text in texts}) == 1
    assert texts[0].index(LEVELS[0]) < texts[0].index(LEVELS[6]) and texts[1].index(LEVELS[6]) < texts[1].index(
        LEVELS[0]
    )
    assert texts[2].index("ESSAY") < texts[2].index("TASK")


def rows(noise: float, length: float, seed: int = 0, n: int = 200) -> list[dict[str, Any]]:
    """Essays whose score follows people's with `noise`, and whose length follows them with `length`."""
    rng = random.Random(seed)
    made = []
    for k in range(n):
        human = rng.randint(2, 10) / 2
        mean = human + rng.gauss(0, noise)
        made.append({"id": f"e{k}", "human": human, "mean": mean, "words": round(100 * (human + rng.gauss(0, length)))})
    return made


def test_ranks_and_their_correlation_are_those_of_scipy() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1.0, 3.5, 2.0]
    essays = rows(1.0, 2.0)
    expected = spearmanr([r["mean"] for r in essays], [r["human"] for r in essays]).statistic
    assert rank_correlation(essays, "mean").value == pytest.approx(expected, abs=1e-12)
    assert rank_correlation([*essays, essays[0] | {"id": "x", "mean": None}], "mean").n == 200


def test_an_examiner_is_fit_only_if_it_surely_beats_length() -> None:
    good, same, constant = (
        ExaminerVerdict(rows(0.5, 3.0)),
        ExaminerVerdict(rows(2.0, 2.0)),
        ExaminerVerdict([row | {"mean": 3.0} for row in rows(1.0, 1.0)]),
    )
    assert good.fit and "must lie above 0), on 200 of 200 essays" in good.why
    assert not same.fit
    assert not constant.fit and "rank nothing" in constant.why
    assert not ExaminerVerdict([]).fit
