"""The numbers of the benchmark room: accuracies by task, and shares not answered (card sections 3 and 4)."""

from __future__ import annotations

from functools import partial

from charter.ground.measure import counts, position, translation
from charter.ground.measure.bias import OF_BIAS
from charter.ground.measure.counts import Row
from charter.ground.measure.metric import EXPONENT, Metric

LENGTHS = (*(2**k for k in range(8, 18)), 200_000)  # of the texts of recall, in tokens: 256, 512 ... 131072

# Task -> what its accuracy is.
ACCURACIES = {
    "gsm8k": "grade-school sums solved after reasoning",
    "mmlu_plain": "MMLU questions, plain choice",
    "arc": "ARC-Challenge questions",
    "race": "RACE-H reading questions",
    "quality": "QuALITY questions on long stories",
    "recall": "facts found again in long texts",
    "mmlu": "MMLU questions, answered after reasoning",
    "triviaqa": "TriviaQA questions, any alias",
}


UNANSWERED = ("unparsed", "too long", "environment failed")


def _accuracy(task: str, meaning: str) -> Metric:
    return Metric(task, f"{task}.jsonl", counts.mean("correct"), "higher", meaning)


def _unanswered(task: str) -> Metric:
    words = f"{task}: answers in which no choice could be read, and questions that could not be asked"
    return Metric(
        f"{task}_unanswered", f"{task}.jsonl", counts.outcome(*UNANSWERED), "lower", words, kind="fault"
    )


def _of_length(length: int, row: Row) -> bool:
    return str(row["group"]).startswith(f"{length}/")


def _judged(row: counts.Row) -> bool:
    return bool(row["outcome"] != "environment failed")


OF_HUMANEVAL = (
    *(
        Metric(
            name,
            "humaneval.jsonl",
            counts.pass_at(k, _judged),
            "higher",
            f"HumanEval problems solved, pass@{k}",
        )
        for name, k in (("humaneval", 1), ("humaneval_pass_10", 10))
    ),
    Metric(
        "humaneval_environment_failed",
        "humaneval.jsonl",
        counts.outcome("environment failed"),
        "lower",
        "HumanEval programs whose sandbox failed, which count neither way",
        kind="fault",
    ),
)

OF_MMLU = (
    Metric(
        "mmlu_subjects", "mmlu.jsonl", counts.over_groups("correct"), "higher", "mean over MMLU's subjects"
    ),
)

OF_TRIVIAQA = (
    Metric(
        "triviaqa_wrong",
        "triviaqa.jsonl",
        counts.outcome("wrong"),
        "lower",
        "TriviaQA questions answered wrongly",
    ),
    Metric(
        "triviaqa_declined",
        "triviaqa.jsonl",
        counts.outcome("declined"),
        "neither",
        "TriviaQA questions that the model says it can't answer",
    ),
)

OF_TRANSLATION = (
    Metric(
        "translation_bleu",
        "translation.jsonl",
        translation.over_languages("bleu", translation.bleu),
        "higher",
        "corpus BLEU from English, mean over languages",
        "BLEU",
    ),
    Metric(
        "translation_chrf",
        "translation.jsonl",
        translation.over_languages("chrf", translation.chrf),
        "higher",
        "corpus chrF from English, mean over languages",
        "chrF",
    ),
    *(
        Metric(
            f"translation_{word}",
            "translation.jsonl",
            translation.over_languages("bleu", translation.bleu, least),
            "higher",
            f"languages with BLEU over {least:.0f}, which is {word}",
        )
        for word, least in (("understandable", translation.UNDERSTANDABLE), ("good", translation.GOOD))
    ),
)

OF_QUALITY = (
    Metric(
        "quality_hard",
        "quality.jsonl",
        counts.mean("correct", counts.equal(group="hard")),
        "higher",
        "QuALITY, hard",
    ),
)

OF_RECALL = (
    *(
        Metric(
            f"recall_{length}",
            "recall.jsonl",
            counts.mean("correct", partial(_of_length, length)),
            "higher",
            f"facts found again in texts of {length} tokens",
            kind="part",
        )
        for length in LENGTHS
    ),
)

OF_POSITION = (
    *(
        Metric(
            f"position_loss_{start}",
            "position.jsonl",
            position.loss_of(start),
            "lower",
            f"loss of tokens {start} to {2 * start - 1} of a document",
            "nats",
            kind="part",
        )
        for start in position.BUCKETS
    ),
    Metric(
        "position_exponent",
        "position.jsonl",
        position.fit_table(position.fitted_exponent),
        "neither",
        "exponent of the power law of loss over position",
        EXPONENT,
    ),
    Metric(
        "position_constant",
        "position.jsonl",
        position.fit_table(position.fitted_constant),
        "lower",
        "loss that the power law of position falls to",
        "nats",
    ),
)

TASKS = (*ACCURACIES, "humaneval", "translation")
# What is asked in words, of which a question can be known beforehand; facts of recall and sentences of ours can't.
ASKED = (*(task for task in TASKS if task != "recall"), "bbq", "truthfulqa")

OF_CONTAMINATION = (
    *(
        Metric(
            f"{task}_contaminated",
            "contamination.jsonl",
            counts.flag("hit", counts.equal(task=task, checked=True)),
            "neither",
            f"{task}: questions that share 13 words in a row with what the model was taught",
            about="data",
        )
        for task in ASKED
    ),
)

TRUTH = "truthfulqa.jsonl"
HELPER = "truthfulqa_helper"  # what it measures is the helper, not the model under test
FREE, CHOICE = counts.equal(mode="free"), counts.equal(mode="choice")

OF_HONESTY: tuple[Metric, ...] = (
    Metric(
        "truthfulqa",
        TRUTH,
        counts.mean("correct", FREE),
        "higher",
        "free answers closest to the true option of the MC1 set",
        judge="helper",
    ),
    Metric(
        "truthfulqa_mc2_mapped",
        TRUTH,
        counts.mean("mc2_correct", FREE),
        "higher",
        "free answers closest to a true option of the MC2 set",
        judge="helper",
    ),
    Metric(
        "truthfulqa_mc1",
        TRUTH,
        counts.mean("mc1", CHOICE),
        "higher",
        "TruthfulQA questions whose best option is the likeliest",
    ),
    Metric(
        "truthfulqa_mc2",
        TRUTH,
        counts.mean("mc2", CHOICE),
        "higher",
        "TruthfulQA, probability of the true options among all",
    ),
    Metric(
        "truthfulqa_declined", TRUTH, counts.flag("declined", FREE), "neither", "free answers that decline"
    ),
    Metric(
        "truthfulqa_unanswered",
        TRUTH,
        counts.outcome(*UNANSWERED, where=FREE),
        "lower",
        "free answers that the helper maps to no option, and questions that could not be asked",
        judge="helper",
        kind="fault",
    ),
    Metric(
        HELPER,
        TRUTH,
        counts.mean("correct", counts.equal(mode="helper")),
        "higher",
        "known answers that the helper maps to the right option",
        judge="helper",
        about="judge",
    ),
)

OF_BENCHMARKS: tuple[Metric, ...] = (
    *(_accuracy(task, meaning) for task, meaning in ACCURACIES.items()),
    *(_unanswered(task) for task in TASKS),
    *OF_HUMANEVAL,
    *OF_MMLU,
    *OF_TRIVIAQA,
    *OF_QUALITY,
    *OF_TRANSLATION,
    *OF_RECALL,
    *OF_POSITION,
    *OF_CONTAMINATION,
    *OF_HONESTY,
    *OF_BIAS,
)
