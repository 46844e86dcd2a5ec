"""Simulated raters against their known truth: utilities recovered, biases measured back, lapses, seeds, mirrors."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from charter.ground.text.ballot import ballot_of
from charter_service.people.simulation import Rater, Seen, Simulated, panel, raters_of, strength_of

PLAIN = Simulated(raters=1, noise=1.0, position_bias=0, length_bias=0, lapse=0, spread=0)


def rater(**values: float) -> Rater:
    return replace(panel(PLAIN, 3)[0], **values)  # type: ignore[arg-type]


def side(said: str) -> str:
    """left, right or neither of an answer."""
    return said if said in ("tie", "both_bad") else "left" if said.startswith("-") else "right"


def share_left(
    one: Rater, left: float, right: float, count: int = 3000, texts: tuple[str, str] = ("aaaa", "bbbb")
) -> float:
    said = [one.answer(f"i{n}", "helpful", Seen(texts[0], left), Seen(texts[1], right)) for n in range(count)]
    return sum(side(s) == "left" for s in said) / count


def logit(share: float) -> float:
    return math.log(share / (1 - share))


@pytest.mark.parametrize("gap", [-1.5, 0.0, 0.7])
@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_without_biases_votes_follow_bradley_terry(gap: float, noise: float) -> None:
    expected = 1 / (1 + math.exp(-gap / noise))
    assert share_left(rater(noise=noise), gap, 0.0) == pytest.approx(expected, abs=0.03)


def test_the_order_and_the_gaps_of_models_come_back_from_their_votes() -> None:
    """Four models of known utility; the log-odds of wins of each pair are their gap, within sampling error."""
    truth = {"d": 0.0, "c": 0.4, "b": 1.0, "a": 1.8}
    raters, draw = panel(PLAIN.model_copy(update={"raters": 6}), 5), random.Random(1)
    wins: Counter[tuple[str, str]] = Counter()
    for n in range(12000):
        one, two = draw.sample(sorted(truth), 2)
        (who,) = raters_of(f"i{n}", raters, 1, 5)
        said = who.answer(f"i{n}", "helpful", Seen(one, truth[one]), Seen(two, truth[two]))
        wins[(one, two) if side(said) == "left" else (two, one)] += 1
    for better, worse in [("a", "b"), ("b", "c"), ("c", "d"), ("a", "c"), ("b", "d"), ("a", "d")]:
        found = math.log(wins[better, worse] / wins[worse, better])
        assert found == pytest.approx(truth[better] - truth[worse], abs=0.2), (better, worse)


@pytest.mark.parametrize("bias", [0.0, 0.5, 1.0])
def test_position_bias_is_measured_back_from_equal_replies(bias: float) -> None:
    assert logit(share_left(rater(position_bias=bias), 0.3, 0.3, 6000)) == pytest.approx(bias, abs=0.09)


def test_length_bias_is_towards_the_longer() -> None:
    long, short = "a" * 100, "b" * 10
    found = logit(share_left(rater(length_bias=0.4), 0, 0, 6000, (long, short)))
    assert found == pytest.approx(0.4 * math.log(10), abs=0.1)
    assert logit(share_left(rater(length_bias=0.4), 0, 0, 6000, (short, long))) == pytest.approx(-found, abs=0.15)


def test_whoever_always_lapses_votes_by_chance_whatever_the_replies_and_biases() -> None:
    one = rater(lapse=1.0, position_bias=9.0, both_bad_below=99.0)
    assert share_left(one, 5.0, -5.0) == pytest.approx(0.5, abs=0.03)
    half = rater(lapse=0.5, noise=0.0)
    assert share_left(half, 5.0, -5.0) == pytest.approx(0.75, abs=0.03)


def test_the_same_seed_gives_the_same_panel_and_votes_and_another_does_not() -> None:
    settings = Simulated(raters=5)

    def votes(seed: int) -> list[str]:
        return [
            who.answer(f"i{n}", "helpful", Seen("x", 0.2), Seen("y", 0.1))
            for n in range(30)
            for who in raters_of(f"i{n}", panel(settings, seed), 2, seed)
        ]

    assert panel(settings, 4) == panel(settings, 4) and votes(4) == votes(4)
    assert panel(settings, 4) != panel(settings, 5) and votes(4) != votes(5)
    assert len({who.name for seed in (4, 5) for who in panel(settings, seed)}) == 10
    assert all(who.name.startswith("simulated-") for who in panel(settings, 4))


def test_the_same_replies_in_the_other_order_get_the_mirrored_answer() -> None:
    one = rater(length_bias=0.3, tie_within=0.1)
    for n in range(200):
        x, y = Seen("short", 0.4), Seen("rather longer", 0.1)
        said, mirrored = (one.answer(f"i{n}", "helpful", *both) for both in ((x, y), (y, x)))
        assert mirrored == (said if said == "tie" else str(-int(said)))
        first, second = ballot_of(said, "a"), ballot_of(mirrored, "b")
        assert first == second, "the same reply wins, wherever it stands"


def test_on_the_harmless_axis_the_worse_reply_is_picked() -> None:
    one = rater(noise=0.0)
    assert one.answer("i", "harmless", Seen("good", 3.0), Seen("bad", 0.0)) == "4"
    assert one.answer("i", "helpful", Seen("good", 3.0), Seen("bad", 0.0)) == "-4"


@pytest.mark.parametrize(("margin", "strength"), [(0.1, 1), (0.25, 2), (0.99, 2), (1.0, 3), (2.5, 4)])
def test_margins_become_strengths(margin: float, strength: int) -> None:
    assert strength_of(margin) == strength
    said = rater(noise=0.0, strictness=2.0).answer("i", "helpful", Seen("x", 2 * margin), Seen("y", 0.0))
    assert said == str(-strength)


def test_ties_and_two_bad_replies() -> None:
    one = rater(noise=0.0, tie_within=0.5, both_bad_below=-1.0)
    assert one.answer("i", "helpful", Seen("x", 0.3), Seen("y", 0.0)) == "tie"
    assert one.answer("i", "helpful", Seen("x", -1.3), Seen("y", -2.0)) == "both_bad"
    assert one.answer("i", "helpful", Seen("x", -0.3), Seen("y", -2.0)) == "-3"
    assert rater(position_bias=3.0).answer("i", "helpful", Seen("same", 0.3), Seen("same", 0.3)) == "tie"


def test_raters_differ_by_the_spread_and_lapse_at_most_always() -> None:
    settings = Simulated(raters=400, noise=2.0, position_bias=-0.5, lapse=0.6, spread=0.7)
    raters = panel(settings, 1)
    logs = [math.log(who.noise / 2.0) for who in raters]
    assert sum(logs) / 400 == pytest.approx(0, abs=0.12)
    assert math.sqrt(sum(x * x for x in logs) / 400) == pytest.approx(0.7, abs=0.08)
    assert all(who.position_bias < 0 and 0 < who.lapse <= 1 for who in raters)
    alike = panel(settings.model_copy(update={"spread": 0.0}), 1)
    assert {(who.noise, who.position_bias, who.lapse) for who in alike} == {(2.0, -0.5, 0.6)}


def test_items_are_shared_out_over_the_panel() -> None:
    raters = panel(Simulated(raters=4), 1)
    found = Counter(who.name for n in range(800) for who in raters_of(f"i{n}", raters, 2, 1))
    assert all(count == pytest.approx(400, abs=60) for count in found.values())
    assert len(raters_of("i", raters, 9, 1)) == 4
