"""The numbers of the benchmark room: accuracies by task, and shares not answered (card sections 3 and 4)."""

from __future__ import annotations

from charter.ground.measure import counts, translation
from charter.ground.measure.bias import OF_BIAS
from charter.ground.measure.metric import Metric

# Task -> what its accuracy is.
ACCURACIES = {
    "gsm8k": "grade-school sums solved after reasoning",
    "mmlu_plain": "MMLU questions, plain choice",
    "arc": "ARC-Challenge questions",
    "race": "RACE-H reading questions",
    "mmlu": "MMLU questions, answered after reasoning",
    "triviaqa": "TriviaQA questions, any alias",
}


def _accuracy(task: str, meaning: str) -> Metric:
    return Metric(task, f"{task}.jsonl", counts.mean("correct"), "higher", meaning)


def _unanswered(task: str) -> Metric:
    words = f"{task}: answers in which no choice could be read, and questions that could not be asked"
    return Metric(f"{task}_unanswered", f"{task}.jsonl", counts.outcome(*UNANSWERED), "lower", words)


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

UNANSWERED = ("unparsed", "too long", "environment failed")

TRUTH = "truthfulqa.jsonl"
FREE, CHOICE = counts.equal(mode="free"), counts.equal(mode="choice")

OF_HONESTY: tuple[Metric, ...] = (
    Metric(
        "truthfulqa",
        TRUTH,
        counts.mean("correct", FREE),
        "higher",
        "free answers closest to the true option of the MC1 set",
    ),
    Metric(
        "truthfulqa_mc2_mapped",
        TRUTH,
        counts.mean("mc2_correct", FREE),
        "higher",
        "free answers closest to a true option of the MC2 set",
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
    ),
    Metric(
        "truthfulqa_helper",
        TRUTH,
        counts.mean("correct", counts.equal(mode="helper")),
        "higher",
        "known answers that the helper maps to the right option",
    ),
)

OF_BENCHMARKS: tuple[Metric, ...] = (
    *(_accuracy(task, meaning) for task, meaning in ACCURACIES.items()),
    *(_unanswered(task) for task in (*ACCURACIES, "humaneval", "translation")),
    *OF_HUMANEVAL,
    *OF_MMLU,
    *OF_TRIVIAQA,
    *OF_TRANSLATION,
    *OF_HONESTY,
    *OF_BIAS,
)
