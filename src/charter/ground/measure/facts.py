"""Helpfulness without a grader: required facts that replies to everyday questions hold, and short questions answered
right in a free reply. A needless refusal holds nothing and is counted beside."""

from __future__ import annotations

from charter.ground.measure import counts
from charter.ground.measure.metric import Metric

FACTS = "facts.jsonl"
QUIZ = "quiz.jsonl"

OF_FACTS: tuple[Metric, ...] = (
    Metric(
        "facts_recalled",
        FACTS,
        counts.mean("recalled"),
        "higher",
        "required facts that a reply holds, mean over prompts",
    ),
    Metric("facts_all", FACTS, counts.flag("all_recalled"), "higher", "replies that hold all required facts"),
    Metric("facts_refusal_rate", FACTS, counts.flag("refusal"), "lower", "everyday questions refused"),
    Metric("facts_cut_rate", FACTS, counts.cut, "lower", "replies with facts cut at the token limit"),
    Metric(
        "exact_answers",
        QUIZ,
        counts.mean("correct"),
        "higher",
        "short questions with an accepted answer in the first tokens of a free reply",
    ),
    Metric("quiz_refusal_rate", QUIZ, counts.flag("refusal"), "lower", "short questions refused"),
)
