"""Elo whose bounds nothing holds, and whose votes are counted: resamples with one side's wins, raters, plain zeros."""

import json
from typing import Any

import pytest

from charter.ground.measure.elo import standings

Rows = list[dict[str, Any]]


def lopsided(loser: str, winner: str) -> Rows:
    """23 votes of 24 for one of two models, by 12 raters of two votes each."""
    row = {"model_a": loser, "model_b": winner}
    return [row | {"winner": "a" if n == 0 else "b", "rater": f"r{n % 12}"} for n in range(24)]


@pytest.mark.parametrize(("loser", "winner"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("base_wins", [False, True])
def test_a_bound_that_resamples_do_not_hold_is_none(loser: str, winner: str, base_wins: bool) -> None:
    base, other = (winner, loser) if base_wins else (loser, winner)
    ranking = standings(lopsided(loser, winner), base=base, interval="bootstrap")["all"]
    by_model = {s.model: s for s in ranking.standings}
    bounds = (by_model[other].low, by_model[other].high)
    assert bounds[not base_wins] is None
    values = bounds[base_wins]
    assert values is not None and 300 < abs(values) < 500 and (values < 0) == base_wins
    assert (by_model[base].low, by_model[base].high) == (0.0, 0.0)
    (note,) = ranking.notes
    # the one rater who disagreed is missing from (11 / 12)^12 = 35 % of resamples
    assert note.endswith("of 1000 resamples a model won or lost all, or was not drawn")
    assert 300 < int(note.split()[1]) < 400


def test_no_bound_is_a_negative_zero() -> None:
    for kind in ("hessian", "clustered", "bootstrap"):
        ranking = standings(lopsided("a", "b") * 20, base="a", interval=kind)["all"]  # type: ignore[arg-type]
        assert "-0.0" not in json.dumps([(s.elo, s.low, s.high) for s in ranking.standings])


def test_raters_are_those_of_votes_that_count() -> None:
    row = {"model_a": "a", "model_b": "b"}
    votes = [row | {"winner": "ab"[n % 2], "rater": f"r{n % 3}"} for n in range(5)]
    for winner, half in (("tie", 4), ("both_bad", 4), ("unsure", 3)):
        rows = [*votes, row | {"winner": winner, "rater": "another"}]
        assert standings(rows)["all"].raters == 3
        assert standings(rows, ties="half")["all"].raters == half
    assert standings([row | {"winner": "a"}, row | {"winner": "b"}])["all"].raters == 0


def test_a_model_that_is_only_called_bad_says_so() -> None:
    rows = [{"model_a": "a", "model_b": "b", "winner": winner} for winner in "ab"]
    ranking = standings([*rows, {"model_a": "a", "model_b": "c", "winner": "both_bad"}])["all"]
    assert ranking.standings[-1].note == "all its votes are ties, unsure or both bad, and do not count"
