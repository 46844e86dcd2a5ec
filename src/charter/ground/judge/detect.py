"""Detectors of refusals, stock phrases, loops and scolding in assistant replies.

They are cheap, the same for every model and read only English. They make errors: `precision_recall` measures them on
the hand-labelled replies of `shipped:detectors.heldout`, and every rate that uses them is reported with the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.judge.harsh import is_harsh
from charter.ground.judge.loops import is_loop
from charter.ground.judge.refusal import THRESHOLD, UNSURE, detector
from charter.ground.judge.refusal_examples import examples
from charter.ground.judge.stock import is_boilerplate
from charter.ground.measure.intervals import wilson

__all__ = [
    "DETECTORS",
    "is_boilerplate",
    "is_harsh",
    "is_loop",
    "is_refusal",
    "precision_recall",
    "surely_refuses",
    "training_digest",
]


def is_refusal(text: str) -> bool:
    """Whether a reply declines the request in its opening words: curtly, kindly, or by naming the harm and
    offering something else. An honest "I can't know that" is not a refusal; an empty reply is."""
    return not text.strip() or detector().probability(text) > THRESHOLD


def surely_refuses(text: str) -> bool | None:
    """Whether a reply declines; None if the detector's probability is in its band of uncertainty: a missed refusal must
    not be taught as compliance."""
    if not text.strip():
        return True
    probability, (low, high) = detector().probability(text), UNSURE
    return None if low <= probability <= high else probability > high


DETECTORS = {"refusal": is_refusal, "boilerplate": is_boilerplate, "loop": is_loop, "harsh": is_harsh}


def training_digest() -> str:
    """Digest of the refusal detector's training data; `metric.VERSION` covers the detectors' code."""
    return digest_text(canonical_json([[e.text, e.refusal, e.topic] for e in examples()]))


def precision_recall(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Precision and recall of each detector on labelled rows (`reply`, and true or false by detector name). A detector
    skips rows that lack its label.

    By detector: precision (None without detections) and recall (None without positives) with 95 % Wilson intervals,
    `n` rows and `positives` among them.
    """
    measured: dict[str, dict[str, Any]] = {}
    for name, detect in DETECTORS.items():
        verdicts = [(detect(str(row["reply"])), bool(row[name])) for row in rows if name in row]
        num_detected = sum(hit for hit, _ in verdicts)
        num_positive = sum(truth for _, truth in verdicts)
        num_correct = sum(hit and truth for hit, truth in verdicts)
        measured[name] = {
            "precision": num_correct / num_detected if num_detected else None,
            "precision_interval": list(wilson(num_correct, num_detected)),
            "recall": num_correct / num_positive if num_positive else None,
            "recall_interval": list(wilson(num_correct, num_positive)),
            "n": len(verdicts),
            "positives": num_positive,
        }
    return measured
