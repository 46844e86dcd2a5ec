"""The numbers of the benchmark room: accuracies by task, and shares not answered (card sections 3 and 4)."""

from __future__ import annotations

from charter.ground.measure import counts
from charter.ground.measure.metric import Metric

# Task -> what its accuracy is.
ACCURACIES = {
    "gsm8k": "grade-school sums solved after reasoning",
    "mmlu_plain": "MMLU questions, plain choice",
    "arc": "ARC-Challenge questions",
    "race": "RACE-H reading questions",
}


def _accuracy(task: str, meaning: str) -> Metric:
    return Metric(task, f"{task}.jsonl", counts.mean("correct"), "higher", meaning)


def _unanswered(task: str) -> Metric:
    words = f"{task}: answers in which no choice could be read, and questions that could not be asked"
    return Metric(f"{task}_unanswered", f"{task}.jsonl", counts.outcome(*UNANSWERED), "lower", words)


UNANSWERED = ("unparsed", "too long", "environment failed")

OF_BENCHMARKS: tuple[Metric, ...] = (
    *(_accuracy(task, meaning) for task, meaning in ACCURACIES.items()),
    *(_unanswered(task) for task in ACCURACIES),
)
