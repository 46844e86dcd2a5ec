"""The numbers of the benchmark room: accuracies by task, and shares not answered (card sections 3 and 4)."""

from __future__ import annotations

from functools import partial

from charter.ground.measure import counts, position
from charter.ground.measure.counts import Row
from charter.ground.measure.metric import Metric

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)  # of the texts of recall, in tokens

# Task -> what its accuracy is.
ACCURACIES = {
    "gsm8k": "grade-school sums solved after reasoning",
    "mmlu_plain": "MMLU questions, plain choice",
    "arc": "ARC-Challenge questions",
    "race": "RACE-H reading questions",
    "quality": "QuALITY questions on long stories",
    "recall": "facts found again in long texts",
}


def _accuracy(task: str, meaning: str) -> Metric:
    return Metric(task, f"{task}.jsonl", counts.mean("correct"), "higher", meaning)


def _unanswered(task: str) -> Metric:
    words = f"{task}: answers in which no choice could be read, and questions that could not be asked"
    return Metric(f"{task}_unanswered", f"{task}.jsonl", counts.outcome(*UNANSWERED), "lower", words)


def _of_length(length: int, row: Row) -> bool:
    return str(row["group"]).startswith(f"{length}/")


UNANSWERED = ("unparsed", "too long", "environment failed")

OF_BENCHMARKS: tuple[Metric, ...] = (
    *(_accuracy(task, meaning) for task, meaning in ACCURACIES.items()),
    *(_unanswered(task) for task in ACCURACIES),
    Metric(
        "quality_hard",
        "quality.jsonl",
        counts.mean("correct", counts.equal(group="hard")),
        "higher",
        "QuALITY, hard",
    ),
    *(
        Metric(
            f"recall_{length}",
            "recall.jsonl",
            counts.mean("correct", partial(_of_length, length)),
            "higher",
            f"facts found again in texts of {length} tokens",
        )
        for length in LENGTHS
    ),
    *(
        Metric(
            f"position_loss_{start}",
            "position.jsonl",
            position.loss_of(start),
            "lower",
            f"loss of tokens {start} to {2 * start - 1} of a document",
            "nats",
        )
        for start in position.BUCKETS
    ),
    Metric(
        "position_exponent",
        "position.jsonl",
        position.fit_table(position.fitted_exponent),
        "neither",
        "exponent of the power law of loss over position",
    ),
    Metric(
        "position_constant",
        "position.jsonl",
        position.fit_table(position.fitted_constant),
        "lower",
        "loss that the power law of position falls to",
        "nats",
    ),
    *(
        Metric(
            f"{task}_contaminated",
            "contamination.jsonl",
            counts.flag("hit", counts.equal(task=task, checked=True)),
            "neither",
            f"{task}: questions that share 13 words in a row with what the model was taught",
        )
        for task in ACCURACIES
    ),
)
