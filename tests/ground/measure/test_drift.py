"""Drift of replies: planted changes are found, and without one a snapshot alarms as rarely as promised."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
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
DRAWS = 300
SUBJECTS = "the cat,my aunt,a good plan,this recipe,the old bridge,your train,the short answer".split(",")
VERBS = "needs,keeps,follows,takes,hides,shows,gives".split(",")
OBJECTS = "a little salt,more time,the second road,two clean towels,some patience,the red key".split(",")
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


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_change_is_found_in_four_of_five_draws(planted: str) -> None:
    name, change = PLANTED[planted]
    words = 2 if name == NGRAMS else 0  # replies without words have no n-grams: quicker
    alarms = [
        drift(sample(seed, sentences=words), sample(seed + 10_000, sentences=words, **change)).alarms
        for seed in range(200)
    ]
    assert sum(name in each for each in alarms) >= 160


@pytest.mark.parametrize("replies", [1, 4], ids=["a reply a prompt", "four replies a prompt"])
def test_without_a_change_a_snapshot_rarely_alarms(replies: int) -> None:
    alarms: Counter[str] = Counter()
    snapshots = 0
    for seed in range(DRAWS):
        told = drift(sample(seed, replies=replies), sample(seed + 10_000, replies=replies)).alarms
        alarms.update(told)
        snapshots += bool(told)
    assert snapshots <= 0.07 * DRAWS, alarms
