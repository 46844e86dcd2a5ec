"""Every reported number, from hand-made rows whose result can be counted on fingers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.measure.counts import cut_share, ngrams
from charter.ground.measure.derived import OF_REFUSALS, OVER_RULE
from charter.ground.measure.intervals import wilson
from charter.ground.measure.metric import VERSION, Metric
from charter.ground.measure.metrics import OF_LABELLERS, OF_MEMBERS, OF_PREFERENCE
from charter.ground.measure.ratings import OF_RATERS
from charter.ground.measure.reporting import read_reported, table_problems, write_tables
from charter.rooms.debias.metrics import OF_DEBIAS
from charter.rooms.evaluate.catalogue import SUITES, TASKS
from reported import BY_NAME, ELSEWHERE, EVERY, keep_tables, reported, scores

Rows = list[dict[str, Any]]
Z = NormalDist().inv_cdf


def _harm(
    prompt: str, unseen: bool, grader: float, reward: float | None, reply: str = "", **flags: Any
) -> dict[str, Any]:
    return {
        "id": prompt,
        "reply": reply,
        "unseen": unseen,
        "grader": grader,
        "grader_fixed": 0.0,
        "reward": reward,
        "reward_fixed": None if reward is None else 1.0,
        "refusal": flags.get("refusal", False),
        "loop": flags.get("loop", False),
        "boilerplate": flags.get("boilerplate", False),
        "harsh": flags.get("harsh", False),
        "tokens": flags.get("tokens", 10),
        "stop": flags.get("stop", "end"),
        "nll_start": 2.0 * flags.get("tokens", 10),
        "tokens_start": flags.get("tokens", 10) - 2,
    } | ({"harm_rating": flags["rated"]} if "rated" in flags else {})


def _pair(
    name: str,
    axis: str,
    correct: float,
    p: float = 1.0,
    source: str = "ours",
    tokens: tuple[int, int] = (4, 2),
    *,
    longer: bool,
) -> dict[str, Any]:
    """`longer`: whether the longer reply has the higher score."""
    row = {"id": name, "axis": axis, "correct": correct, "p_chosen": p, "source": source}
    score = 1.0 if longer == (tokens[0] > tokens[1]) else -1.0
    row |= {"chosen_score": score, "rejected_score": 0.0}
    row |= {"member_gaps": [score, -score]}  # two members, of which the second ranks the other way round
    return row | {"chosen_tokens": tokens[0], "rejected_tokens": tokens[1]}


def _fair(template: str, context: str, polarity: str, chosen: str | None, correct: bool) -> dict[str, Any]:
    facts = {"id": template, "context": context, "polarity": polarity, "chosen": chosen, "kept": correct}
    biased = "stereotyped" if polarity == "negative" else "other"
    return facts | {"biased": biased, "letters": [0.1, 0.2, 0.7] if correct else [0.3, 0.2, 0.5]}


ROWS: dict[str, Rows] = {
    "debias.jsonl": [
        _fair("t", "ambiguous", "negative", "unknown", True),
        _fair("t", "ambiguous", "negative", "stereotyped", False),
        _fair("u", "ambiguous", "nonnegative", "stereotyped", False),
        _fair("u", "ambiguous", "nonnegative", "other", False),
        _fair("u", "ambiguous", "nonnegative", None, False),
        _fair("t", "disambiguated", "negative", "stereotyped", True),
        _fair("u", "disambiguated", "nonnegative", "unknown", False),
    ],
    "harmlessness.jsonl": [
        _harm("a", False, -1.0, 2.0, "I will not", refusal=True, tokens=4, rated=1.0),
        _harm("a", False, 0.5, 0.5, "I will not", loop=True, tokens=6, stop="length", rated=2.0),
        _harm(
            "b", False, 0.0, 1.0, "one two", refusal=True, tokens=8, rated=-0.5
        ),  # equal to the fixed reply is not below it
        _harm("b", False, 2.0, 3.0, "three", boilerplate=True, refusal=True, tokens=10, rated=0.5),
        _harm("c", True, -0.1, None, "a b c", harsh=True, tokens=12),
        _harm("c", True, -0.2, 0.0, "b c d", harsh=True, tokens=20),
    ],
    "revisions.jsonl": [
        {"id": "r1", "round": 0, "grader": -1.0, "grader_fixed": 0.0},
        {"id": "r1", "round": 1, "grader": 1.0, "grader_fixed": 0.0},
        {"id": "r1", "round": 4, "grader": 1.0, "grader_fixed": 0.0},
        {"id": "r2", "round": 0, "grader": -1.0, "grader_fixed": 0.0},
        {"id": "r2", "round": 1, "grader": -1.0, "grader_fixed": 0.0},
        {"id": "r2", "round": 2, "grader": -1.0, "grader_fixed": 0.0},
        {"id": "r2", "round": 3, "grader": 1.0, "grader_fixed": 0.0},
    ],
    "lookalikes.jsonl": [
        {
            "id": "l1",
            "unseen": False,
            "refusal": True,
            "loop": False,
            "stop": "end",
            "harm_rating": 0.5,
            "reply": "a b a b a b",
            "tokens": 6,
            "nll_start": 9.0,
            "tokens_start": 4,
        },
        {
            "id": "l2",
            "reply": "no",
            "tokens": 2,
            "grader": -1.0,
            "grader_fixed": 0.0,
            "unseen": False,
            "refusal": False,
            "loop": True,
            "stop": "length",
        },
        {
            "id": "l3",
            "reply": "one two",
            "tokens": 3,
            "grader": 0.5,
            "grader_fixed": 0.5,
            "harm_rating": 1.5,
            "unseen": True,
            "refusal": False,
            "loop": False,
            "stop": "stop",
        },
        {
            "id": "l4",
            "reply": "one two",
            "tokens": 4,
            "grader": 1.0,
            "grader_fixed": 0.0,
            "unseen": True,
            "refusal": False,
            "loop": False,
            "stop": "length",
        },
        {
            "id": "l5",
            "reply": "one two",
            "tokens": 5,
            "grader": -0.5,
            "grader_fixed": 0.0,
            "unseen": True,
            "refusal": True,
            "loop": False,
            "stop": "length",
        },
    ],
    "helpful.jsonl": [
        {
            "id": "h1",
            "reply": "a b a b a b",
            "grader": 1.5,
            "refusal": False,
            "loop": True,
            "tokens": 6,
            "stop": "length",
            "nll_start": 3.0,
            "tokens_start": 6,
        },
        {
            "id": "h2",
            "nll_start": 12.0,
            "tokens_start": 4,
            "reply": "One two three",
            "grader": -0.5,
            "refusal": False,
            "loop": False,
            "tokens": 3,
            "stop": "end",
        },
        {"id": "h3", "reply": "No.", "grader": 0.5, "refusal": True, "loop": False, "tokens": 3, "stop": "end"},
    ],
    "wins.jsonl": [
        {"id": "h1", "score": 2.0, "baseline": 1.0},
        {"id": "h2", "score": 1.0, "baseline": 1.0},
        {"id": "h3", "score": 0.0, "baseline": 1.0},
        {"id": "h4", "score": 5.0, "baseline": 1.0},
    ],
    "text.jsonl": [
        {"id": "t1", "nats": 30 * math.log(2), "bytes": 10},
        {"id": "t2", "nats": 30 * math.log(2), "bytes": 50},
    ],
    "hhh.jsonl": [
        {"id": "q1", "mode": "policy", "axis": "helpful", "correct": True, "p_first": 0.9, "p_correct": 0.95},
        {"id": "q2", "mode": "policy", "axis": "helpful", "correct": False, "p_first": 0.8, "p_correct": 0.35},
        {"id": "q3", "mode": "policy", "axis": "honest", "correct": True, "p_first": 0.7, "p_correct": 0.65},
        {"id": "q4", "mode": "policy", "axis": "harmless", "correct": 0.5, "p_first": 0.6, "p_correct": 0.5},
        {"id": "q5", "mode": "policy", "axis": "other", "correct": False, "p_first": 0.5, "p_correct": 0.25},
        {"id": "q1", "mode": "content", "axis": "helpful", "correct": True, "p_correct": 0.4},
        {"id": "q3", "mode": "content", "axis": "honest", "correct": 0.5, "p_correct": 0.0},
        {"id": "q4", "mode": "content", "axis": "harmless", "correct": False, "p_correct": -0.1},
        {"id": "q5", "mode": "content", "axis": "other", "correct": False, "p_correct": -2.0},
        {"id": "q1", "mode": "preference", "axis": "helpful", "correct": False, "p_correct": -math.log(3)},
        {"id": "q3", "mode": "preference", "axis": "honest", "correct": True, "p_correct": math.log(19)},
        {"id": "q4", "mode": "preference", "axis": "harmless", "correct": False, "p_correct": -math.log(17 / 3)},
        {"id": "q5", "mode": "preference", "axis": "other", "correct": False, "p_correct": -math.log(17 / 3)},
    ],
    "heldout_pairs.jsonl": [
        _pair("p1", "helpful", 1.0, source="human", longer=True),
        _pair("p2", "helpful", 1.0, p=0.4, longer=False),
        _pair("p3", "honest", 0.5, tokens=(2, 4), longer=True),
        _pair("p4", "harmless", 1.0, longer=True),
        _pair("p5", "other", 0.0, tokens=(3, 3), longer=True),  # neither is longer
        _pair("p6", "helpful", 0.0, p=0.55, longer=True),  # too near to a coin's toss to be right or wrong
        _pair("p7", "helpful", 1.0, source="+contrast", longer=False),  # built by the room: counted apart
        _pair("p8", "harmless", 0.0, source="ours+fixed", longer=False),
        _pair("p9", "harmless", 1.0, source="ours+theirs", longer=True),
    ],
    "known_pairs.jsonl": [
        {"id": "k1", "correct": True, "p_correct": 0.8, "p_first": 0.9},
        {"id": "k2", "correct": False, "p_correct": 0.3, "p_first": 0.7},
    ],
    "fitness.jsonl": [
        {"id": "f1", "fixed_above_harmful": True, "good_above_fixed": True},
        {"id": "f2", "fixed_above_harmful": True, "good_above_fixed": False},
        {"id": "f3", "fixed_above_harmful": True, "good_above_fixed": False},
    ],
    "heldout_ratings.jsonl": [
        {"id": "v1", "rating": 0.0, "score": 1.0, "tokens": 10},
        {"id": "v1", "rating": 4.0, "score": 3.0, "tokens": 20},
        {"id": "v2", "rating": 1.0, "score": 2.5, "tokens": 30},
        {"id": "v2", "rating": 3.0, "score": 1.5, "tokens": 20},
    ],
}

# value, rows behind it, clusters
EXPECTED: dict[str, tuple[float, int, int]] = {
    "harm_rate": (3 / 6, 6, 3),
    "harm_answered_rate": (2 / 6, 6, 3),
    "refused_below_rate": (1 / 6, 6, 3),
    "harm_rate_prompts": (2 / 3, 3, 3),
    "harm_rate_seen": (1 / 4, 4, 2),
    "harm_rate_unseen": (1.0, 2, 1),
    "harm_rate_reward": (2 / 5, 5, 3),
    "revision_harm_rate_0": (1.0, 2, 2),
    "revision_harm_rate_1": (1 / 2, 2, 2),
    "revision_harm_rate_2": (1.0, 1, 1),
    "revision_harm_rate_3": (0.0, 1, 1),
    "revision_harm_rate_4": (0.0, 1, 1),
    "unsafe_refusal_rate": (3 / 6, 6, 3),
    "unsafe_loop_rate": (1 / 6, 6, 3),
    "unsafe_cut_rate": (1 / 6, 6, 3),
    "unsafe_boilerplate_rate": (1 / 6, 6, 3),
    "unsafe_harsh_rate": (2 / 6, 6, 3),
    "unsafe_distinct_2": ((2 + 1 + 3) / (4 + 1 + 4), 3, 3),
    "unsafe_reply_tokens": (10.0, 6, 3),
    "unsafe_nll_under_start": (2 * 60 / (60 - 12), 6, 3),
    "unsafe_repeated_4grams": (math.nan, 6, 3),  # no reply has four words
    "unsafe_reply_distinct_2": (1.0, 6, 3),
    "lookalike_refusal_rate": (2 / 5, 5, 5),
    "lookalike_refusal_rate_seen": (1 / 2, 2, 2),
    "lookalike_refusal_rate_unseen": (1 / 3, 3, 3),
    "lookalike_harm_rate": (1 / 3, 3, 3),  # refusals don't count; equal to the fixed reply is not below it
    "lookalike_loop_rate": (1 / 5, 5, 5),
    "lookalike_cut_rate": (3 / 5, 5, 5),
    "lookalike_reply_tokens": ((6 + 2 + 3 + 4 + 5) / 5, 5, 5),
    "lookalike_nll_under_start": (9 / 4, 1, 1),  # replies without it don't count
    "lookalike_repeated_4grams": (1 / 3, 5, 5),
    "lookalike_distinct_2": ((2 + 0 + 1 + 1 + 1) / (5 + 0 + 1 + 1 + 1), 5, 5),
    "helpful_score": (0.5, 3, 3),
    "helpful_refusal_rate": (1 / 3, 3, 3),
    "helpful_loop_rate": (1 / 3, 3, 3),
    "helpful_cut_rate": (1 / 3, 3, 3),
    "helpful_reply_tokens": (4.0, 3, 3),
    "distinct_1": ((2 + 3 + 1) / (6 + 3 + 1), 3, 3),
    "distinct_3": ((2 + 1) / (4 + 1), 3, 3),
    "distinct_2": ((2 + 2) / (5 + 2), 3, 3),
    "repeated_4grams": (1 / 3, 3, 3),
    "nll_under_start": (15 / 10, 2, 2),
    "helpful_win_rate": (2.5 / 4, 4, 4),
    "bits_per_byte": (1.0, 2, 2),
    "hhh_content": (1.5 / 4, 4, 4),
    "hhh_content_helpful": (1.0, 1, 1),
    "hhh_content_honest": (0.5, 1, 1),
    "hhh_content_harmless": (0.0, 1, 1),
    "hhh_content_other": (0.0, 1, 1),
    "hhh_policy": (2.5 / 5, 5, 5),
    "hhh_policy_helpful": (1 / 2, 2, 2),
    "hhh_policy_honest": (1.0, 1, 1),
    "hhh_policy_harmless": (0.5, 1, 1),
    "hhh_policy_other": (0.0, 1, 1),
    "hhh_first_share": (0.7, 5, 5),
    "hhh_matched": (1.0, 5, 5),
    **{f"hhh_{mode}_unmatched": (math.nan, 0, 0) for mode in ("content", "policy", "preference")},
    "hhh_preference": (1 / 4, 4, 4),
    "hhh_preference_helpful": (0.0, 1, 1),
    "hhh_preference_honest": (1.0, 1, 1),
    "hhh_preference_harmless": (0.0, 1, 1),
    "hhh_preference_other": (0.0, 1, 1),
    "pair_accuracy": (4.5 / 6, 6, 6),
    "pair_accuracy_helpful": (1.0, 2, 2),
    "pair_accuracy_honest": (0.5, 1, 1),
    "pair_accuracy_harmless": (1.0, 2, 2),
    "pair_accuracy_other": (0.0, 1, 1),
    "pair_accuracy_built": (1 / 2, 2, 2),
    "member_accuracy_1": (4 / 6, 6, 6),  # of p1 to p5 and p9 all but p3 and p5, whose rejected reply scores higher
    "member_accuracy_2": (2 / 6, 6, 6),
    "member_spread": (math.sqrt(2), 6, 6),
    "pair_accuracy_human": (1.0, 1, 1),
    "pair_accuracy_length_matched": (0.0, 1, 1),  # 3 and 3 tokens
    # p1 longer chosen; p2 the label below a half prefers the shorter; p3 shorter chosen; p5 equal; harmless: p4, p9 the
    # longer one is chosen, against the rule
    "pair_length_rule": ((1 + 0 + 0 + 0 + 0.5 + 0) / 6, 6, 6),
    "pair_length_rule_helpful": (1 / 2, 2, 2),
    "pair_length_rule_honest": (0.0, 1, 1),
    "pair_length_rule_harmless": (0.0, 2, 2),
    "pair_length_rule_other": (0.5, 1, 1),
    "pair_length_rule_human": (1.0, 1, 1),
    "pair_length_rule_built": (1 / 2, 2, 2),  # p7 longer and helpful, p8 longer and harmless
    "pair_longer_preferred": (4 / 5, 5, 5),
    "pair_longer_labelled": (3 / 5, 5, 5),
    "label_accuracy": (1 / 2, 2, 2),
    "label_confidence": (0.75, 2, 2),
    "label_first_share": (0.8, 2, 2),
    "debias_kept_ambiguous": (1 / 5, 5, 2),
    "debias_kept_ambiguous_negative": (1 / 2, 2, 1),
    "debias_kept_ambiguous_nonnegative": (0.0, 3, 1),
    "debias_kept_disambiguated": (1 / 2, 2, 2),
    "debias_kept_disambiguated_negative": (1.0, 1, 1),
    "debias_kept_disambiguated_nonnegative": (0.0, 1, 1),
    "debias_unknown_disambiguated": (1 / 2, 2, 2),
    "debias_stereotyped_ambiguous": (2 / 3, 3, 2),  # who names nobody follows no stereotype
    "debias_letter_a": ((2 * 0.1 + 5 * 0.3) / 7, 7, 2),
    "debias_letter_b": (0.2, 7, 2),
    "debias_letter_c": ((2 * 0.7 + 5 * 0.5) / 7, 7, 2),
    "fixed_above_harmful": (1.0, 3, 3),
    "good_above_fixed": (1 / 3, 3, 3),
    "harm_rating": ((1 + 2 - 0.5 + 0.5) / 4, 4, 2),  # not clipped; rows without a rating don't count
    "harm_rating_lookalikes": (1.0, 2, 2),
    # confidence 0.95 right; 0.65 wrong and 0.65 right in one bin; 0.5 even; 0.75 wrong
    "hhh_policy_calibration_error": ((0.05 + (0.65 - 0.35) + 0 + 0.75) / 5, 5, 5),
    "hhh_policy_overconfidence": ((-0.05 + 0.65 - 0.35 + 0 + 0.75) / 5, 5, 5),
    # 0.75 wrong; 0.95 right; twice 0.85 wrong
    "hhh_preference_calibration_error": ((0.75 + 0.05 + 2 * 0.85) / 4, 4, 4),
    "hhh_preference_overconfidence": ((0.75 - 0.05 + 2 * 0.85) / 4, 4, 4),
    "pair_calibration_error": (0.75 - 1 / (1 + math.exp(-1)), 6, 6),  # one bin: 4.5 of 6 are right
    "pair_overconfidence": (1 / (1 + math.exp(-1)) - 0.75, 6, 6),
    "label_calibration_error": ((0.2 + 0.7) / 2, 2, 2),
    "label_overconfidence": ((-0.2 + 0.7) / 2, 2, 2),
    "rating_squared_error": ((1 + 1 + 2.25 + 2.25) / 4, 4, 2),
    "rating_absolute_error": ((1 + 1 + 1.5 + 1.5) / 4, 4, 2),
    "rating_error_ratio": (6.5 / (4 + 4 + 1 + 1), 4, 2),
    "rating_correlation": ((2 + 2 - 0.5 - 0.5) / math.sqrt(2.5 * 10), 4, 2),
    "rating_calibration_error": ((abs(2.5 - 3) + abs(5.5 - 5)) / 4, 4, 2),  # 1 and 1.5 in a bin, 2.5 and 3
    "rating_bias": (0.0, 4, 2),
    "rating_length_scored": (15 / math.sqrt(2.5 * 200), 4, 2),
    "rating_length_labelled": (10 / math.sqrt(10 * 200), 4, 2),
}

# What follows from the tables of others: value, rows, clusters.
DERIVED_EXPECTED: dict[str, tuple[float, int, int]] = {
    "refusal_gap": (3 / 6 - 2 / 5, 11, 8),
    "refusal_d_prime": (Z(3.5 / 7) - Z(2.5 / 6), 11, 8),
    "refusal_criterion": (-(Z(3.5 / 7) + Z(2.5 / 6)) / 2, 11, 8),
    "refusal_d_prime_benign": (Z(3.5 / 7) - Z(3.5 / 9), 14, 11),
    "refusal_criterion_benign": (-(Z(3.5 / 7) + Z(3.5 / 9)) / 2, 14, 11),
    "pair_over_rule": (4.5 / 6 - 1.5 / 6, 6, 6),
    "pair_over_rule_helpful": (1 / 2, 2, 2),
    "pair_over_rule_honest": (0.5, 1, 1),
    "pair_over_rule_harmless": (1.0, 2, 2),
    "pair_over_rule_other": (-0.5, 1, 1),
    "pair_over_rule_human": (0.0, 1, 1),
    "pair_over_rule_built": (0.0, 2, 2),
}


def _write(folder: Path, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    (folder / "samples").mkdir(exist_ok=True)
    for name, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "samples" / name).write_bytes(text.encode())
    return folder


def test_every_metric_has_an_expectation_and_its_own_name() -> None:
    others = {m.name for m in OF_MEMBERS[3:]}  # of two members there are the spread and their accuracies
    of_a_report = (
        *(m for name in SUITES["assistant"] for m in TASKS[name].numbers),
        *OF_LABELLERS,
        *(m for m in OF_PREFERENCE if not m.terms and m.name not in others),
        *OF_RATERS,
        *OF_DEBIAS,
    )  # those of the battery: test_benchmarks.py; of facts: tests/rooms/evaluate/test_facts.py
    assert set(EXPECTED) == {m.name for m in of_a_report} and {m.file for m in of_a_report} == set(ROWS)
    assert {m.better for m in EVERY} <= {"lower", "higher", "zero", "neither"}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_metric_by_hand(name: str) -> None:
    metric = BY_NAME[name]
    table = metric.table(ROWS[metric.file])
    value, n, clusters = EXPECTED[name]
    assert (table.value, table.n, len(table.clusters)) == (pytest.approx(value, nan_ok=True), n, clusters)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_metric_does_not_depend_on_the_order_of_rows(name: str) -> None:
    metric = BY_NAME[name]
    rows = ROWS[metric.file]
    assert metric.table(rows[::-1]).value == pytest.approx(metric.table(rows).value, nan_ok=True)


def test_ngrams() -> None:
    assert ngrams("A b a", 2) == [("a", "b"), ("b", "a")]
    assert ngrams("a", 2) == ngrams("", 2) == []


def test_scores_read_a_folder(tmp_path: Path) -> None:
    by_name = {score.name: score for score in scores(_write(tmp_path, ROWS))}
    expected = {name: entry for name, entry in EXPECTED.items() if not math.isnan(entry[0])}
    expected |= DERIVED_EXPECTED
    assert set(by_name) == set(expected) and set(DERIVED_EXPECTED) == {m.name for m in (*OF_REFUSALS, *OVER_RULE)}
    for name, (value, n, clusters) in expected.items():
        score = by_name[name]
        assert (score.value, score.n, score.clusters) == (pytest.approx(value), n, clusters), name
        version = VERSION + name.startswith("hhh_")
        assert (score.metric.version, score.facts["unit"] or "") == (version, BY_NAME[name].unit)
        if clusters < 2 and not score.metric.terms:
            assert score.low is None and score.high is None
        else:
            assert score.low is not None and score.high is not None
            assert score.low - 1e-12 <= score.value <= score.high + 1e-12, name
    assert (by_name["label_accuracy"].low, by_name["label_accuracy"].high) == wilson(1, 2)
    assert by_name["bits_per_byte"].facts["unit"] == "bits/byte"


def test_the_gap_is_unsafe_minus_lookalike_refusals(tmp_path: Path) -> None:
    gap = next(score for score in scores(_write(tmp_path, ROWS)) if score.name == "refusal_gap")
    assert gap.value == pytest.approx(3 / 6 - 2 / 5)
    assert gap.low is not None and gap.high is not None and gap.low < gap.value < gap.high
    assert (gap.n, gap.clusters) == (11, 8)


def test_the_gap_is_of_two_sets_of_prompts_whatever_their_ids(tmp_path: Path) -> None:
    """Prompts of both sets that happen to share their ids are no pairs."""
    alike = [row | {"id": name} for row, name in zip(ROWS["lookalikes.jsonl"], "abcde", strict=True)]
    apart = {"harmlessness.jsonl": ROWS["harmlessness.jsonl"], "lookalikes.jsonl": ROWS["lookalikes.jsonl"]}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    gaps = [
        next(s for s in scores(_write(tmp_path / place, files)) if s.name == "refusal_gap")
        for place, files in (("one", apart), ("two", apart | {"lookalikes.jsonl": alike}))
    ]
    assert gaps[0] == gaps[1]


def test_a_folder_with_some_files_gives_some_scores(tmp_path: Path) -> None:
    assert scores(tmp_path) == []
    names = [s.name for s in scores(_write(tmp_path, {"wins.jsonl": ROWS["wins.jsonl"], "text.jsonl": []}))]
    assert names == ["helpful_win_rate"]


def test_metrics_with_nothing_to_count_are_left_out(tmp_path: Path) -> None:
    """Replies too short for a bigram, no preference-mode choices, no reward model: no number, not NaN."""
    short = [row | {"reply": "No"} for row in ROWS["helpful.jsonl"]]
    unrewarded = [row | {"reward": None, "reward_fixed": None} for row in ROWS["harmlessness.jsonl"]]
    policy = [row for row in ROWS["hhh.jsonl"] if row["mode"] == "policy"]
    files = {"helpful.jsonl": short, "harmlessness.jsonl": unrewarded, "hhh.jsonl": policy}
    by_name = {score.name: score for score in scores(_write(tmp_path, files))}
    assert "helpful_refusal_rate" in by_name and "harm_rate" in by_name and "hhh_policy" in by_name
    for name in ("distinct_2", "repeated_4grams", "harm_rate_reward", "hhh_preference"):
        assert name not in by_name
    assert all(math.isfinite(score.value) for score in by_name.values())


def test_line_separators_within_a_reply_end_no_row(tmp_path: Path) -> None:
    odd = "one\u2028two\u0085three\x0bfour"
    rows = [row | {"reply": odd} for row in ROWS["helpful.jsonl"]]
    folder = _write(tmp_path, {"helpful.jsonl": rows})
    assert read_objects(folder / "samples" / "helpful.jsonl") == rows


@pytest.mark.parametrize("line", [b'{"id": "x"', b"", b"\xff\xfe", b"[1]", b"3"])
def test_damaged_rows_name_file_and_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "helpful.jsonl"
    path.write_bytes(b'{"id": "a"}\n' + line + b"\n" + b'{"id": "b"}\n')
    with pytest.raises(CharterError, match=r"helpful\.jsonl:2: not a JSON object"):
        read_objects(path)


def test_rows_that_lack_a_field_are_said_to_be_damaged(tmp_path: Path) -> None:
    folder = _write(tmp_path, {"wins.jsonl": [{"id": "h1", "score": 1.0}]})
    with pytest.raises(CharterError, match=r"wins\.jsonl: no helpful_win_rate .*baseline") as caught:
        scores(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("better", "before", "after", "improves"),
    [
        ("higher", 0.2, 0.3, True),
        ("lower", 0.2, 0.3, False),
        ("lower", 0.3, 0.2, True),
        ("zero", 0.3, -0.1, True),
        ("zero", 0.1, -0.3, False),
        ("zero", -0.4, -0.1, True),
        ("neither", 0.1, 0.9, False),
        ("higher", 0.2, 0.2, False),
    ],
)
def test_what_counts_as_an_improvement(better: Any, before: float, after: float, improves: bool) -> None:
    metric = Metric("m", "m.jsonl", cut_share, better, "")
    assert metric.improves(before, after) is improves


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Facts, clusters, sums and statistics: whoever reads a report has all that the rows gave."""
    keep_tables(_write(tmp_path, ROWS))
    stored, report = read_reported(tmp_path), reported(tmp_path)
    assert list(stored.metrics) == list(report.metrics)
    for name, metric in report.metrics.items():
        assert replace(stored.metrics[name], label=metric.label) == metric, name
    for name, table in report.tables.items():
        other = stored.tables[name]
        assert (other.clusters, other.n, other.statistic) == (table.clusters, table.n, table.statistic), name
        np.testing.assert_array_equal(other.sums, table.sums)
    assert stored.scores == [replace(s, metric=stored.metrics[s.name]) for s in report.scores]
    assert all(metric.label for metric in stored.metrics.values())
    assert list(table_problems(tmp_path, ELSEWHERE)) == []


def _tampered(text: str, number: str, old: str, new: str) -> str:
    """tables.json with one value of one number changed."""
    lines = text.split("\n")
    at = next(n for n, line in enumerate(lines) if f'"name": "{number}"' in line)
    assert old in lines[at]
    lines[at] = lines[at].replace(old, new, 1)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("number", "old", "new", "message"),
    [
        ("harm_rate", '"sums": [[', '"sums": [[1', "harm_rate: tables.json has other sums"),
        ("harm_rate", '"n": ', '"n": 1', "harm_rate: tables.json has another number of rows"),
        ("harm_rate", '"ratio"', '"leaning"', "harm_rate: tables.json has another statistic"),
        ("harm_rate", '"better": "lower"', '"better": "higher"', "harm_rate: its better in tables.json"),
        ("harm_rate", '"version": 7', '"version": 6', "harm_rate is of version 6 and this charter has version 7"),
        ("harm_rate", '"name": "harm_rate"', '"name": "harm"', "harm_rate follows from the kept rows"),
        ("refusal_gap", "[[1.0,", "[[2.0,", "refusal_gap: its terms in tables.json"),
    ],
)
def test_a_changed_table_is_found(tmp_path: Path, number: str, old: str, new: str, message: str) -> None:
    keep_tables(_write(tmp_path, ROWS))
    path = tmp_path / "tables.json"
    path.write_text(_tampered(path.read_text("utf-8"), number, old, new), "utf-8")
    problems = list(table_problems(tmp_path, ELSEWHERE))
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize("damage", ["{", "[]", '{"numbers": 3}', '{"clusters": [], "numbers": [{"name": "x"}]}'])
def test_damaged_tables_are_one_clear_error(tmp_path: Path, damage: str) -> None:
    (tmp_path / "tables.json").write_text(damage, "utf-8")
    with pytest.raises(CharterError, match=r"tables\.json") as caught:
        read_reported(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_statistic_without_a_name_is_refused(tmp_path: Path) -> None:
    report = reported(_write(tmp_path, ROWS))
    odd = replace(report.tables["harm_rate"], statistic=lambda sums: sums[..., 0])
    with pytest.raises(CharterError, match="has no name in measure/statistics"):
        write_tables(tmp_path, replace(report, tables={**report.tables, "harm_rate": odd}))
