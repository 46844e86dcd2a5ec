"""Scores of several graders as one, against values by hand."""

from __future__ import annotations

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.judge.combine import combine, standardise

GRADERS = [[1.0, -1.0, 0.0], [0.5, 2.0, -2.5]]


def test_the_mean_of_two_graders() -> None:
    assert combine(GRADERS, None, "mean") == [0.75, 0.5, -1.25]


def test_a_weighted_mean_is_over_the_sum_of_weights() -> None:
    assert combine(GRADERS, [3.0, 1.0], "mean") == [0.875, -0.25, -0.625]


def test_the_least_of_two_graders() -> None:
    assert combine(GRADERS, None, "min") == [0.5, -1.0, -2.5]
    assert combine(GRADERS, [2.0, 2.0], "min") == [0.5, -1.0, -2.5]


def test_one_grader_stays_as_it_is() -> None:
    assert combine(GRADERS[:1], None, "mean") == GRADERS[0] == combine(GRADERS[:1], [0.3], "min")


@pytest.mark.parametrize(
    ("scores", "weights", "how", "words"),
    [
        ([], None, "mean", "expected one or more graders"),
        ([[1.0], [1.0, 2.0]], None, "mean", "one score per reply"),
        (GRADERS, [1.0], "mean", "give one per grader"),
        (GRADERS, [1.0, -1.0], "mean", "none below 0"),
        (GRADERS, [0.0, 0.0], "mean", "one above it"),
        (GRADERS, [1.0, 2.0], "min", "leave weights out"),
    ],
)
def test_what_can_not_be_combined_is_refused(scores, weights, how, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CharterError, match=words):
        combine(scores, weights, how)


def test_standardised_scores_have_mean_zero_and_deviation_one() -> None:
    assert standardise([1.0, 3.0, 1.0, 3.0]) == [-1.0, 1.0, -1.0, 1.0]
    assert standardise([0.1, 0.1, 0.1]) == [0.0, 0.0, 0.0]
    assert standardise([]) == []
