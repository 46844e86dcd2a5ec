"""Metrics that several rooms report: of preference models, of labellers, of held-out text. Tasks of the evaluate room
declare their own.

Rows of an average of preference models' weights have `member_gaps`: for each member the score of the chosen reply minus
that of the rejected one. Members' scores have no common zero, so only gaps are compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from charter.ground.measure import calibration, counts
from charter.ground.measure.counts import Row, real_pair
from charter.ground.measure.derived import OVER_RULE
from charter.ground.measure.fluency import HARM as HARM
from charter.ground.measure.fluency import HELP as HELP
from charter.ground.measure.fluency import LOOK as LOOK
from charter.ground.measure.metric import Metric
from charter.ground.measure.pairs import AXES as AXES
from charter.ground.measure.pairs import OF_PAIRS
from charter.ground.measure.pairs import PAIRS as PAIRS
from charter.ground.measure.score import Table, rank_accuracy, tabulate

MEMBER_PAIRS = "heldout_pairs.jsonl"
MEMBERS = 8  # the most that the preference room trains
WINS = "wins.jsonl"
HHH = "hhh.jsonl"
TEXT = "text.jsonl"
LABELS = "known_pairs.jsonl"
TRIPLES = "fitness.jsonl"
# the share of known answers that a helper must map to the right option, else no mapped score is reported
HELPER_PASSES = 0.9
ROUNDS = 5  # a draft and at most four revisions (Bai 2022b, section 3)
OF_TEXT: tuple[Metric, ...] = (
    Metric(
        "bits_per_byte",
        TEXT,
        counts.bits_per_byte,
        "lower",
        "loss on held-out text",
        "bits/byte",
        label="Bits per byte",
        places={"main": 4, "costs": 5, "capability": 1},
    ),
)


def spread(rows: Sequence[Row]) -> Table:
    """Mean over pairs of the standard deviation of the members' gaps, in the unit of scores (log-odds)."""
    return tabulate(
        (str(r["id"]), statistics.stdev(r["member_gaps"]), 1.0)
        for r in rows
        if real_pair(r) and len(r.get("member_gaps", ())) > 1
    )


def accuracy(member: int) -> Callable[[Sequence[Row]], Table]:
    """Share of pairs that one member (numbered from 1) ranks as labelled; a tie counts half."""
    return lambda rows: tabulate(
        (str(r["id"]), rank_accuracy(r["p_chosen"], r["member_gaps"][member - 1], 0.0), 1.0)
        for r in rows
        if real_pair(r) and len(r.get("member_gaps", ())) >= member
    )


OF_MEMBERS: tuple[Metric, ...] = (
    Metric(
        "member_spread",
        MEMBER_PAIRS,
        spread,
        "neither",
        "spread of score gaps over the members averaged",
        "score",
        label="Spread over members",
    ),
    *(
        Metric(
            f"member_accuracy_{n}",
            MEMBER_PAIRS,
            accuracy(n),
            "higher",
            f"held-out pairs ranked as labelled, member {n}",
            label=f"Pairs, member {n}",
        )
        for n in range(1, MEMBERS + 1)
    ),
)


def calibration_metrics(
    prefix: str, file: str, predict: calibration.Predictor, words: str, label: str
) -> tuple[Metric, Metric]:
    """Calibration error of a judge, by bins, and its overconfidence."""
    return (
        Metric(
            f"{prefix}_calibration_error",
            file,
            calibration.calibration_error(predict),
            "lower",
            f"distance of confidence and accuracy by bins, {words}",
            label=f"Calibration error, {label}",
        ),
        Metric(
            f"{prefix}_overconfidence",
            file,
            calibration.overconfidence(predict),
            "neither",
            f"mean confidence less accuracy, {words}",
            label=f"Overconfidence, {label}",
        ),
    )


def of_a_judge(*metrics: Metric) -> tuple[Metric, ...]:
    """Metrics that describe a judge, not the model under test."""
    return tuple(replace(metric, about="judge") for metric in metrics)


# Metrics of the labeller in a step that labels by AI.
OF_LABELLERS: tuple[Metric, ...] = of_a_judge(
    *calibration_metrics("label", LABELS, calibration.of_choices(), "known pairs", "labels"),
    Metric(
        "label_accuracy",
        LABELS,
        counts.mean("correct"),
        "higher",
        "known pairs that the labeller gets right",
        label="Label accuracy",
    ),
    Metric(
        "label_confidence",
        LABELS,
        counts.sure,
        "neither",
        "probability put on its choice: its accuracy, if calibrated",
        label="Confidence in its choice",
    ),
    Metric(
        "label_first_share",
        LABELS,
        counts.mean("p_first"),
        "neither",
        "probability put on the option shown first",
        label="Put on the first option",
    ),
)

# The gate on harm of a preference model.
OF_TRIPLES: tuple[Metric, ...] = of_a_judge(
    Metric(
        "fixed_above_harmful",
        TRIPLES,
        counts.flag("fixed_above_harmful"),
        "higher",
        "fixed reply > harmful",
        label="Fixed reply above harm",
    ),
    Metric(
        "good_above_fixed",
        TRIPLES,
        counts.flag("good_above_fixed"),
        "higher",
        "good refusal > fixed reply",
        label="Good refusal above fixed",
    ),
)

# Metrics of a step that trains a preference model.
OF_PREFERENCE: tuple[Metric, ...] = of_a_judge(
    *OF_PAIRS,
    *calibration_metrics("pair", PAIRS, calibration.of_pairs(counts.real_pair), "held-out pairs", "pairs"),
    *OF_TRIPLES,
    *OF_MEMBERS,
    *OVER_RULE,
)
