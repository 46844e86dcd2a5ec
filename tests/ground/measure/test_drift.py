"""Drift of replies: planted changes are found, and without one a snapshot alarms as rarely as promised."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from scipy.stats import chi2_contingency, mannwhitneyu

from charter.ground.measure.counts import flag
from charter.ground.measure.drift import (
    LENGTH,
    MONITORED,
    NGRAMS,
    RATES,
    drift,
    grown_ngrams,
    log_odds_z,
    rank_sum,
    snapshot_row,
    two_proportions,
)

Row = dict[str, Any]
N = 200
DRAWS = [100, pytest.param(300, marks=pytest.mark.slow)]
SUBJECTS = ["the cat", "my aunt", "a good plan", "this recipe", "the old bridge", "your train", "the short answer"]
VERBS = ["needs", "keeps", "follows", "takes", "hides", "shows", "gives"]
OBJECTS = ["a little salt", "more time", "the second road", "two clean towels", "some patience", "the red key"]
OPENING = "What a truly wonderful question you have asked me."
FLAGS = ("boilerplate", "harsh", "loop", "evasion", "refusal")


def sentence(rng: random.Random) -> str:
    return f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}."


def sample(seed: int, *, replies: int = 1, sentences: int = 2, **rates: float) -> list[Row]:
    """200 replies, two thirds of them to harmless prompts; marks fall at 4 % each unless told.

    Several replies to a prompt resemble each other: they share a sentence and a leaning to each mark.
    """
    rng = random.Random(seed)
    rows: list[Row] = []
    for prompt in range(N // replies):
        group = "prompts" if prompt % 3 == 2 else "harmless"
        shares = {name: rates.get(name, 0.04) for name in (*FLAGS, "cut")}
        if group == "prompts":
            shares["refusal"] = 0.5
        topic, longer = [sentence(rng) for _ in range(sentences)][:1], rates.get("longer", 1.0)
        if replies > 1:
            shares = {name: min(1.0, share * 2 * (rng.random() < 0.5)) for name, share in shares.items()}
            longer *= rng.lognormvariate(0, 0.3)
        for _ in range(replies):
            row: Row = {name: rng.random() < shares[name] for name in FLAGS}
            row["stop"] = "length" if rng.random() < shares["cut"] else "end"
            row["tokens"] = max(1, round(rng.lognormvariate(3.5, 0.5) * longer))
            opening = [OPENING] if rng.random() < rates.get("opening", 0.0) else []
            row["reply"] = " ".join([*opening, *topic, *(sentence(rng) for _ in range(sentences - 1))])
            row |= {"id": f"{seed}-{prompt}", "group": group, "snapshot": 1, "round": prompt // 50}
            row |= {"kl": 0.5, "reward": 1.0, "reward_heldout": None}
            rows.append(row)
    return rows


PLANTED: dict[str, tuple[str, dict[str, float]]] = {
    "stock phrases": ("boilerplate", {"boilerplate": 0.19}),
    "harsh": ("harsh", {"harsh": 0.19}),
    "refusals of harmless prompts": ("refusal_harmless", {"refusal": 0.19}),
    "loops": ("loop", {"loop": 0.19}),
    "cut": ("cut", {"cut": 0.19}),
    "evasions": ("evasion", {"evasion": 0.19}),
    "longer": (LENGTH, {"longer": 1.3}),
    "an opening sentence": (NGRAMS, {"opening": 0.15}),
}


@pytest.mark.parametrize("draws", [50, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_change_is_found_in_four_of_five_draws(planted: str, draws: int) -> None:
    name, change = PLANTED[planted]
    words = 2 if name == NGRAMS else 0  # replies without words have no n-grams: quicker
    alarms = [
        drift(sample(seed, sentences=words), sample(seed + 10_000, sentences=words, **change)).alarms
        for seed in range(draws)
    ]
    assert sum(name in each for each in alarms) >= 0.8 * draws


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("replies", [1, 4], ids=["a reply a prompt", "four replies a prompt"])
def test_without_a_change_a_snapshot_rarely_alarms(replies: int, draws: int) -> None:
    alarms: Counter[str] = Counter()
    snapshots = 0
    for seed in range(draws):
        names = drift(*(sample(n, replies=replies, sentences=1) for n in (seed, seed + 10_000))).alarms
        alarms.update(names)
        snapshots += bool(names)
    assert snapshots <= 0.07 * draws, alarms


def test_two_proportions_are_campbells() -> None:
    """Of independent answers z squared is chi squared times (N - 1) / N."""
    first = [{"id": str(n), "loop": n < 6} for n in range(90)]
    second = [{"id": str(n), "loop": n < 19} for n in range(110)]
    chi = chi2_contingency([[6, 84], [19, 91]], correction=False).statistic
    table = flag("loop")
    z = two_proportions(table(first), table(second))
    assert z == pytest.approx(math.sqrt(chi * 199 / 200)) and z > 0
    assert two_proportions(table(second), table(first)) == pytest.approx(-z)
    agreed = [{"id": str(n), "loop": False} for n in range(9)]
    assert two_proportions(table(agreed), table(agreed)) is None
    assert two_proportions(table([]), table(agreed)) is None


def test_replies_to_one_prompt_that_agree_count_once() -> None:
    table = flag("loop")
    alone = [[{"id": str(n), "loop": n < hits} for n in range(40)] for hits in (4, 12)]
    fourfold = [[row for row in rows for _ in range(4)] for rows in alone]
    single, repeated = (two_proportions(*map(table, rows)) for rows in (alone, fourfold))
    assert single is not None and repeated is not None
    assert repeated == pytest.approx(single, rel=0.1) and repeated <= single * 1.01


def test_rank_sum_is_that_of_scipy() -> None:
    rng = random.Random(3)
    first = [float(rng.randint(1, 20)) for _ in range(30)]
    second = [float(rng.randint(3, 24)) for _ in range(50)]
    expected = mannwhitneyu(second, first, method="asymptotic", use_continuity=False)
    assert 2 * (0.5 * math.erfc(abs(rank_sum(first, second)) / math.sqrt(2))) == pytest.approx(expected.pvalue)
    assert rank_sum(first, second) > 0 > rank_sum(second, first)
    assert rank_sum([2.0, 2.0], [2.0, 2.0]) == 0


def test_log_odds_worked_by_hand() -> None:
    """y 2 of 10, y' 6 of 20: a = 0.8, a_0 = 3."""
    expected = (math.log(6.8 / 16.2) - math.log(2.8 / 10.2)) / math.sqrt(1 / 6.8 + 1 / 2.8)
    assert log_odds_z(2, 6, 10, 20) == pytest.approx(expected)
    assert log_odds_z(5, 10, 100, 200) == pytest.approx(0, abs=1e-12), "longer replies alone raise nothing"


def words(*texts: str) -> list[Row]:
    return [{"id": str(n), "reply": text} for n, text in enumerate(texts)]


def test_the_n_grams_of_one_sentence_are_told_once_by_its_start() -> None:
    before = words(*(f"{n} a calm reply {n}" for n in range(60)))
    now = words(*(f"{n} a calm reply {n}" + " Thanks for asking me that!" * (n < 30) for n in range(60)))
    grown, bound = grown_ngrams(before, now, 0.025)
    assert grown[0].words == "thanks for asking me" and grown[0].z > bound
    assert grown[0].before == 0 and grown[0].now == 0.5
    assert sum("asking" in gram.words for gram in grown) == 1
    rare = words(*(f"{n} a calm reply {n}" + " Thanks for asking me that!" * (n < 2) for n in range(60)))
    assert not any("asking" in gram.words for gram in grown_ngrams(before, rare, 0.025)[0]), "under 5 %"


def test_a_loop_or_the_words_of_one_prompt_raise_no_alarm() -> None:
    before = words(*(f"{n} a calm reply {n}" for n in range(60)))
    loop = words(*(f"{n} a calm reply {n}" + " on and on" * (40 if n == 0 else 0) for n in range(60)))
    assert not any(gram.z > bound for grown, bound in [grown_ngrams(before, loop, 0.025)] for gram in grown)
    spread, lumped = (
        [{"id": str(n // 6), "reply": f"{n} a calm reply {n}" + " at the old mill" * chosen(n)} for n in range(60)]
        for chosen in (lambda n: n % 6 < 2, lambda n: n < 20)
    )
    (wide, bound), (narrow, _) = (grown_ngrams(before, rows, 0.025) for rows in (spread, lumped))
    assert wide[0].words == narrow[0].words == "at the old mill" and wide[0].z > bound > narrow[0].z


def test_a_rise_alarms_and_a_fall_of_a_fault_does_not() -> None:
    clean, faulty = (sample(seed, sentences=0, loop=rate) for seed, rate in ((1, 0.02), (2, 0.4)))
    assert drift(clean, faulty).alarms == ("loop",) and drift(faulty, clean).alarms == ()
    fewer = [row | {"refusal": row["refusal"] and row["group"] == "harmless"} for row in clean]
    assert drift(clean, fewer).alarms == ("refusal_prompts",) == drift(fewer, clean).alarms, "both ways"


def test_a_row_has_figures_and_only_later_ones_have_tests() -> None:
    rows = sample(1)
    first = [row | {"snapshot": 0} for row in rows]
    earliest, later = snapshot_row(first, first, 0.05), snapshot_row(first, sample(2, loop=0.4), 0.05)
    assert earliest["alarms"] == [] == earliest["ngrams"] and earliest["p"] == {}
    assert earliest["rates"]["loop"] == sum(row["loop"] for row in rows) / N
    assert earliest["gap"] is None and earliest["reward"] == 1.0 and earliest["kl"] == pytest.approx(0.5)
    assert later["alarms"] == ["loop"] and later["p"]["loop"] < 0.001
    bare = [row for row in rows if row["group"] == "prompts"]
    assert "refusal_harmless" not in snapshot_row(bare, bare, 0.05)["rates"]
    assert set(RATES) | {LENGTH, NGRAMS} == set(MONITORED)
