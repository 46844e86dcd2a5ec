"""Elo from votes: closed forms, invariances, what has no number and why, another implementation, and coverage."""

import math
import random
from collections import Counter
from typing import Any

import evalica
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.elo import Kind, Ranking, Standing, Ties, standings
from charter.ground.settings.places import data_folder
from charter.ground.text.jsonl import read_jsonl

PAIRWISE = data_folder() / "pairwise"

Rows = list[dict[str, Any]]


def votes(model_a: str, model_b: str, a: int = 0, b: int = 0, **rest: Any) -> Rows:
    """`a` votes for the first and `b` for the second."""
    row = {"model_a": model_a, "model_b": model_b} | rest
    return [row | {"winner": "a"}] * a + [row | {"winner": "b"}] * b


def of(ranking: Ranking, model: str) -> Standing:
    return next(s for s in ranking.standings if s.model == model)


def elos(ranking: Ranking) -> dict[str, float]:
    return {s.model: s.elo for s in ranking.standings if s.elo is not None}


def simulated(ratings: dict[str, float], count: int, seed: int = 0, **rest: Any) -> Rows:
    rng, names, rows = random.Random(seed), list(ratings), []
    for _ in range(count):
        a, b = rng.sample(names, 2)
        won = rng.random() < 1 / (1 + 10 ** ((ratings[b] - ratings[a]) / 400))
        rows.append({"model_a": a, "model_b": b, "winner": "a" if won else "b"} | rest)
    return rows


def three(count: int = 600, seed: int = 0) -> Rows:
    return simulated({"x": 0, "y": 100, "z": -50}, count, seed)


def test_two_models_by_hand() -> None:
    ranking = standings(votes("old", "new", 10, 30))["all"]
    new, old = ranking.standings
    half = 1.959964 * (400 / math.log(10)) / math.sqrt(40 * 0.75 * 0.25)
    assert (new.model, new.n, new.elo) == ("new", 40, pytest.approx(400 * math.log10(3)))
    assert (new.low, new.high) == (pytest.approx(190.8485 - half, abs=1e-3), pytest.approx(190.8485 + half, abs=1e-3))
    assert (old.elo, old.low, old.high, old.rank_low, old.rank_high) == (0.0, 0.0, 0.0, 2, 2)
    assert (new.rank_low, new.rank_high, ranking.base, ranking.interval) == (1, 1, "old", "hessian")
    first = ranking.meetings[0]
    assert (first.model, first.against, first.observed, first.predicted) == ("new", "old", 0.75, pytest.approx(0.75))
    assert first.residual == pytest.approx(0.0, abs=1e-9)


def test_the_order_of_rows_of_models_and_of_sides_says_nothing() -> None:
    rows = [row | {"rater": f"r{n % 9}"} for n, row in enumerate(three())]
    shuffled = random.Random(1).sample(rows, len(rows))
    turned = [
        row | {"model_a": row["model_b"], "model_b": row["model_a"], "winner": {"a": "b", "b": "a"}[row["winner"]]}
        for row in rows
    ]
    for kind in ("hessian", "clustered", "bootstrap"):
        plain = standings(rows, base="y", interval=kind, resamples=200)["all"]
        for other in (shuffled, turned):
            assert standings(other, base="y", interval=kind, resamples=200)["all"].standings == plain.standings
    renamed = [row | {"model_a": "w" + row["model_a"][::-1], "model_b": "w" + row["model_b"][::-1]} for row in rows]
    again = elos(standings(renamed, base="wy")["all"])
    assert again == pytest.approx({f"w{name}": elo for name, elo in elos(plain).items()})


def test_another_base_shifts_all() -> None:
    by_x, by_z = (elos(standings(three(), base=base)["all"]) for base in ("x", "z"))
    assert by_z["z"] == 0.0
    assert {m: e - by_x["z"] for m, e in by_x.items()} == pytest.approx(by_z)


def test_without_a_base_the_first_that_is_named_is_it() -> None:
    rows = votes("m", "k", 3, 2, axis="helpful") + votes("a", "k", 3, 2, axis="honest")
    rankings = standings(rows)
    assert (rankings["helpful"].base, rankings["honest"].base) == ("m", "a")
    honest = standings(rows, base="m")["honest"]
    assert all(s.elo is None and "never compared" in s.note for s in honest.standings)
    assert honest.notes == ("m, the base, has no votes here",)
    with pytest.raises(CharterError, match=r"no vote names the base 'mm'; did you mean m\?"):
        standings(rows, base="mm")


def test_what_was_never_compared_has_no_number_and_says_so() -> None:
    ranking = standings(votes("a", "b", 3, 2) + votes("c", "d", 4, 1))["all"]
    assert set(elos(ranking)) == {"a", "b"}
    for name in ("c", "d"):
        s = of(ranking, name)
        assert (s.elo, s.low, s.high, s.rank_low, s.n) == (None, None, None, None, 5)
        assert s.note == "never compared, directly or through others, with a"
    assert [s.model for s in ranking.standings] == ["a", "b", "c", "d"]


def test_what_won_or_lost_all_has_no_number_and_says_so() -> None:
    rows = votes("a", "b", 3, 2) + votes("king", "a", 7) + votes("king", "b", 5) + votes("b", "last", 1)
    ranking = standings(rows)["all"]
    assert of(ranking, "king").note == "won all its 12 votes against the rest: no upper bound"
    assert of(ranking, "last").note == "lost its one vote against the rest: no lower bound"
    # the votes of those two say nothing of the gap between the others
    assert elos(ranking) == pytest.approx(elos(standings(votes("a", "b", 3, 2))["all"]))
    assert of(ranking, "a").n == 12
    assert next(m for m in ranking.meetings if m.model == "king").predicted is None


def test_a_group_above_the_base_is_no_less_unbounded() -> None:
    rows = votes("a", "b", 3, 2) + votes("c", "d", 2, 2) + votes("c", "a", 3)
    ranking = standings(rows)["all"]
    assert of(ranking, "c").note == "chains of wins lead from it to a and none back: no upper bound"
    assert of(ranking, "d").note == of(ranking, "c").note
    below = standings(rows, base="c")["all"]
    assert of(below, "a").note == "chains of wins lead from c to it and none back: no lower bound"
    apart = standings(votes("a", "b", 3, 2) + votes("a", "m", 3) + votes("c", "m", 2) + votes("c", "d", 1, 1))["all"]
    assert of(apart, "c").note == "no chain of wins leads from it to a, nor one back"


def test_a_base_that_nothing_bounds_is_named() -> None:
    ranking = standings(votes("king", "a", 5) + votes("a", "b", 3, 2))["all"]
    king = of(ranking, "king")
    assert (king.elo, king.low, king.rank_low) == (0.0, 0.0, None)
    needed = "a number needs at least one win the other way"
    assert ranking.notes == (f"king has won every vote so far: {needed}",)
    (lost,) = standings(votes("king", "a", 5), base="a")["all"].notes
    assert lost == f"a has lost every vote so far: {needed}"
    (between,) = standings(votes("king", "a", 2) + votes("a", "b", 3), base="a")["all"].notes
    assert between == f"no chain of wins leads from a to another model and back: {needed}"
    assert of(ranking, "a").elo is None


@pytest.mark.parametrize("ties", ["drop", "half"])
def test_the_base_s_strongly_connected_component_has_numbers_and_they_solve_the_score_equations(ties: Ties) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        names = [f"m{n}" for n in range(rng.randint(2, 7))]
        wins: Counter[tuple[str, str]] = Counter()
        rows = []
        for _ in range(rng.randint(1, 25)):
            a, b = rng.sample(names, 2)
            rows.append({"model_a": a, "model_b": b, "winner": rng.choice(["a", "b", "a", "tie", "unsure"])})
            share = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5) if ties == "half" else (0.0, 0.0)}
            for pair, won in zip(((a, b), (b, a)), share.get(rows[-1]["winner"], (0.0, 0.0)), strict=True):
                wins[pair] += won  # type: ignore[assignment]
        matrix = [[wins[a, b] for b in names] for a in names]
        _, group = connected_components(csr_matrix(matrix), connection="strong")
        for kind in ("hessian", "clustered", "bootstrap"):
            ranking = standings(rows, ties=ties, interval=kind, resamples=100)["all"]
            ratings = elos(ranking)
            same = {m for m, g in zip(names, group, strict=True) if g == group[names.index(ranking.base)]}
            assert set(ratings) == same, seed
            assert all((s.elo is None) == bool(s.note) for s in ranking.standings)
            for a in ratings:
                slope = sum(
                    wins[a, b] - (wins[a, b] + wins[b, a]) / (1 + 10 ** ((ratings[b] - ratings[a]) / 400))
                    for b in ratings
                    if b != a
                )
                assert slope == pytest.approx(0.0, abs=1e-6)


def test_ties_are_dropped_or_count_half_and_unsure_votes_never_count() -> None:
    rows = votes("a", "b", 6, 2)
    others = [rows[0] | {"winner": winner} for winner in ("tie", "tie", "tie", "both_bad", "unsure")]
    dropped, half = (standings(rows + others, ties=ties)["all"] for ties in ("drop", "half"))
    assert of(dropped, "b").elo == pytest.approx(-400 * math.log10(3)) and dropped.votes == 8
    assert of(half, "b").elo == pytest.approx(-400 * math.log10(8 / 4)) and half.votes == 12
    for ranking in (dropped, half):
        assert (ranking.tied, ranking.both_bad, ranking.unsure) == (3, 1, 1)
    only = standings([*votes("a", "b", 1, 1), rows[0] | {"model_b": "c", "winner": "tie"}])["all"]
    assert of(only, "c").note == "all its votes are ties, unsure or both bad, and do not count" and of(only, "c").n == 0
    nothing = standings([rows[0] | {"winner": "tie"}])["all"]
    assert nothing.votes == 0 and all(not s.n for s in nothing.standings)
    for kind in ("clustered", "bootstrap"):
        ranking = standings(rows + others, ties="half", interval=kind, resamples=200)["all"]
        assert of(ranking, "b").elo == of(half, "b").elo


def test_ranks_follow_the_intervals_of_differences() -> None:
    rows = votes("a", "b", 50, 50) + votes("b", "c", 90, 10) + votes("a", "c", 92, 8)
    ranking = standings(rows, base="c")["all"]
    assert [(s.model, s.rank_low, s.rank_high) for s in ranking.standings] == [("a", 1, 2), ("b", 1, 2), ("c", 3, 3)]


def test_axes_and_sources_are_fitted_apart() -> None:
    rows = (
        votes("a", "b", 3, 2, axis="helpful")
        + votes("a", "b", 9, 1, axis="helpful", source="simulated")
        + votes("a", "b", 1, 1, axis="honest", source="ai:judge")
    )
    rankings = standings(rows)
    assert list(rankings) == ["helpful", "helpful (simulated)", "honest (ai:judge)"]
    assert [r.source for r in rankings.values()] == ["human", "simulated", "ai:judge"]
    assert of(rankings["helpful"], "b").elo == pytest.approx(400 * math.log10(2 / 3))
    assert list(standings(rows[5:15])) == ["helpful"]  # one source alone needs no label


def biased(raters: int, each: int, seed: int, taste: float = 1.0) -> Rows:
    """Votes of raters who each have a taste of their own for each of three models, which are equal on average."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(raters), each)
    own = rng.normal(0, taste, (raters, 3))
    a = rng.integers(0, 3, len(who))
    b = (a + rng.integers(1, 3, len(who))) % 3
    won = rng.random(len(who)) < 1 / (1 + np.exp(own[who, b] - own[who, a]))
    return [
        {"model_a": f"m{x}", "model_b": f"m{y}", "winner": "a" if w else "b", "rater": int(r)}
        for x, y, w, r in zip(a, b, won, who, strict=True)
    ]


def width(ranking: Ranking, model: str) -> float:
    s = of(ranking, model)
    assert s.low is not None and s.high is not None
    return s.high - s.low


def test_intervals_by_rater_are_wider_where_raters_differ_and_alike_where_they_do_not() -> None:
    differing, alike = biased(40, 30, 0), biased(200, 6, 0, taste=0.0)
    for rows, low, high in ((differing, 1.4, 9.0), (alike, 0.8, 1.2)):
        clustered, hessian = (standings(rows, base="m0")["all"], standings(rows, base="m0", interval="hessian")["all"])
        assert clustered.interval == "clustered" and clustered.clustered == "rater"
        assert low < width(clustered, "m1") / width(hessian, "m1") < high
    resampled = standings(differing, base="m0", interval="bootstrap", resamples=500)["all"]
    again = standings(differing, base="m0", interval="bootstrap", resamples=500)["all"]
    assert resampled == again and resampled.clustered == "rater"
    assert width(resampled, "m1") == pytest.approx(width(standings(differing, base="m0")["all"], "m1"), rel=0.2)


def test_votes_on_one_item_are_no_news_to_each_other() -> None:
    once = [row | {"item": n} for n, row in enumerate(three(300))]
    copied = [row | {"rater": f"r{k}"} for row in once for k in range(20)]
    ranking = standings(copied, base="x")["all"]
    assert ranking.clustered == "rater and item" and ranking.agreement is not None
    assert ranking.agreement.kappa.value == 1.0 and ranking.agreement.items == 300
    assert width(ranking, "y") == pytest.approx(
        width(standings(once, base="x", interval="clustered")["all"], "y"), rel=0.05
    )
    assert width(standings(copied, base="x", interval="hessian")["all"], "y") < 0.3 * width(ranking, "y")


def test_a_single_rater_gives_no_clusters() -> None:
    rows = [row | {"rater": "one"} for row in three()]
    assert standings(rows)["all"].interval == "hessian"
    lone = standings(rows + votes("x", "apart", 1, 0, rater="two"))["all"]
    assert lone.interval == "hessian" and of(lone, "y").low is not None
    few = standings([row | {"rater": n % 3} for n, row in enumerate(three())])["all"]
    assert few.notes == ("3 raters are few: intervals are wide for that",)


def test_agreement_is_of_models_and_not_of_sides() -> None:
    rows = votes("a", "b", 1, rater="r", item="1") + votes("b", "a", 0, 1, rater="s", item="1")
    rows += votes("a", "b", 1, rater="r", item="2") + votes("a", "b", 0, 1, rater="s", item="2")
    rows += votes("a", "b", 1, rater="s", item="2")  # asked twice: the first answer counts
    raters = standings(rows)["all"].agreement
    assert raters is not None and (raters.items, raters.votes, raters.percent.value) == (2, 4, 0.5)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"model_a": "a", "model_b": "b"}, "a vote without winner"),
        ({"model_a": "a", "winner": "a"}, "a vote without model_b"),
        ({"model_a": "a", "model_b": "b", "winner": "A"}, r"unknown winner 'A'; did you mean a\? allowed: a, b, tie"),
        ({"model_a": "a", "model_b": 3, "winner": "a"}, "model_b is 3; expected a text"),
        ({"model_a": "a", "model_b": ["b"], "winner": "a"}, r"model_b is \['b'\]"),
        ({"model_a": "a", "model_b": "b", "winner": "a", "source": "humans"}, r"unknown source 'humans'; did you mean"),
        ({"model_a": "a", "model_b": "b", "winner": "a", "axis": 3}, "axis is 3"),
        ({"model_a": "a", "model_b": "b", "winner": "a", "rater": {"x": 1}}, "rater is"),
        ({"model_a": "a", "model_b": "b", "winner": "a", "item": [1]}, r"item is \[1\]"),
    ],
)
def test_a_row_that_is_no_vote_is_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(CharterError, match=f"^vote 3: .*{words}"):
        standings([*votes("a", "b", 1, 1), row])


def test_votes_on_two_replies_of_one_model_say_nothing_of_models() -> None:
    own = votes("a", "a", 3, 1)
    ranking = standings(own + votes("b", "a", 3, 1))["all"]
    assert (ranking.one_model, ranking.votes, ranking.base) == (4, 4, "b")
    assert of(ranking, "a").n == 4
    with pytest.raises(CharterError, match="every vote compares a model with itself"):
        standings(own)


def test_no_votes_are_an_error() -> None:
    with pytest.raises(CharterError, match="there are no votes"):
        standings([])


def read_real(name: str) -> Rows:
    path = PAIRWISE / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip("no data sets: set CHARTER_DATA to the folder that holds pairwise")
    rows: Rows = []
    for row in read_jsonl(path):
        if name == "pandalm_human_999":
            a, b = row["cmp_key"].split("_")
            for n in (1, 2, 3):
                winner = {0: "tie", 1: "a", 2: "b"}[row[f"annotator{n}"]]
                rows.append({"model_a": a, "model_b": b, "winner": winner, "rater": n, "item": row["idx"]})
        elif row["preference"] is not None:
            winner = {1.0: "a", 2.0: "b"}.get(row["preference"], "tie")
            rows.append({"model_a": row["model_1"], "model_b": row["model_2"], "winner": winner, "source": "ai:gpt4"})
    return rows


def theirs(rows: Rows, ties: float, base: str) -> dict[str, float]:
    """evalica's Bradley-Terry, which has no prior: its scores are exp(r), its iteration stops too early by default."""
    winners = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    votes_that_count = [row for row in rows if ties or row["winner"] != "tie"]
    ratings = evalica.bradley_terry(
        [row["model_a"] for row in votes_that_count],
        [row["model_b"] for row in votes_that_count],
        [winners[row["winner"]] for row in votes_that_count],
        tie_weight=ties,
        tolerance=1e-12,
        limit=100_000,
    ).scores
    return {str(name): 400 * math.log10(score / ratings[base]) for name, score in ratings.items()}


@pytest.mark.parametrize("name", ["pandalm_human_999", "alpaca_eval_gpt4_votes", "simulated"])
def test_elo_is_that_of_another_implementation(name: str) -> None:
    ratings = {f"m{n}": 40.0 * n for n in range(12)}
    rows = simulated(ratings, 4000) if name == "simulated" else read_real(name)
    base = rows[0]["model_a"]
    for ties, weight in (("drop", 0.0), ("half", 0.5)):
        ours = standings(rows, base=base, ties=ties)  # type: ignore[arg-type]
        expected = theirs(rows, weight, base)
        assert len(expected) == len(ours["all"].standings)
        assert elos(ours["all"]) == pytest.approx(expected, abs=0.1)


def test_real_raters_agree() -> None:
    ranking = standings(read_real("pandalm_human_999"))["all"]
    assert ranking.raters == 3 and ranking.tied > 0 and ranking.clustered == "rater and item"
    assert ranking.agreement is not None and ranking.agreement.items == 999
    assert ranking.agreement.kappa.value is not None and 0.8 < ranking.agreement.kappa.value < 0.9


@pytest.mark.parametrize("kind", ["hessian", "bootstrap", "clustered"])
def test_intervals_hold_the_truth(kind: Kind) -> None:
    """150 simulations here, 500 in benchmarks/elo.py: 95 % within three standard errors."""
    truth, covered = {"x": 0.0, "y": 120.0, "z": -70.0, "w": 40.0}, []
    for seed in range(150):
        ranking = standings(simulated(truth, 300, seed), base="x", interval=kind, resamples=200)["all"]
        for s in ranking.standings:
            if s.model != "x":
                assert s.low is not None and s.high is not None
                covered.append(s.low <= truth[s.model] <= s.high)
    assert 0.90 < np.mean(covered) < 0.99


def test_intervals_by_rater_hold_the_truth_where_others_do_not() -> None:
    covered: dict[str, list[bool]] = {"clustered": [], "hessian": []}
    for seed in range(100):  # all models are equal on average, each rater has its own favourites
        rows = biased(25, 12, seed)
        for kind, hits in covered.items():
            for s in standings(rows, base="m0", interval=kind)["all"].standings:  # type: ignore[arg-type]
                if s.model != "m0":
                    assert s.low is not None and s.high is not None
                    hits.append(s.low <= 0 <= s.high)
    assert 0.90 < np.mean(covered["clustered"]) < 0.99 and np.mean(covered["hessian"]) < 0.85


def test_many_rows_are_counted_before_they_are_fitted() -> None:
    rows = simulated({f"m{n}": 20.0 * n for n in range(20)}, 5000) * 20
    once, ranking = standings(rows[:5000])["all"], standings(rows)["all"]
    assert ranking.votes == 100_000 and elos(ranking) == pytest.approx(elos(once))
    assert width(ranking, "m9") == pytest.approx(width(once, "m9") / math.sqrt(20))
