"""The marks that several tasks share: whether an answer is right, its outcome, and what a row says of its question.

A mark rule takes a kept row with the model's answer (a reply, log-probabilities, the option that a helper chose) and
the key (`right`: indexes of the right options; `accepted`: right answers), and returns the marks that follow. Tasks
write rows with it, and verification computes them again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from charter.ground.judge.detect import DETECTORS
from charter.rooms.evaluate.task import Marks, Question, Rule

if TYPE_CHECKING:
    from charter.ground.generate.engine import Completion

# The outcome of a question that does not fit into the context.
TOO_LONG = "too long"
Row = Mapping[str, Any]


def describe_question(question: Question) -> dict[str, Any]:
    """The fields of a row on its question."""
    return {
        "id": question.cluster or question.id,
        "item": question.id,
        "group": question.group,
        "question": question.text,
    }


def describe_completion(completion: Completion) -> dict[str, Any]:
    """The fields of a row on a sampled answer; for a server's answer, `tokens` counts words."""
    tokens = len(completion.ids) or len(completion.text.split())
    return {"reply": completion.text, "stop": completion.stop, "tokens": tokens}


def verdict(right: bool, readable: bool = True, unread: str = "unparsed") -> dict[str, Any]:
    """`correct` and `outcome`; `unread` is the outcome of an answer that isn't readable."""
    return {"correct": float(right), "outcome": unread if not readable else "right" if right else "wrong"}


def likeliest(row: Row) -> dict[str, Any]:
    """Marks of a choice by log-probabilities: the likeliest option, or the first of equal ones. Without them the
    outcome says why: "too long", else "unparsed"."""
    logprobs = row["logprobs"]
    choice = None if logprobs is None else max(range(len(logprobs)), key=logprobs.__getitem__)
    why = TOO_LONG if row["outcome"] == TOO_LONG else "unparsed"
    return {"choice": choice} | verdict(choice in row["right"], choice is not None, why)


def mark_choice(row: Row) -> dict[str, Any]:
    """Marks of an option that a helper chose."""
    return verdict(row["choice"] in row["right"], row["choice"] is not None)


def shares(logprobs: Sequence[float]) -> list[float]:
    """Probabilities of alternatives, normalised to the sum 1."""
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return [weight / sum(weights) for weight in weights]


def unless_too_long(rule: Rule, **unasked: object) -> Rule:
    """The rule of a sampled answer; a question that was too long has no reply and counts as wrong."""
    left_out = {"correct": 0.0, "outcome": TOO_LONG, **unasked}
    return lambda row: left_out if row["stop"] == TOO_LONG and not row["reply"] else rule(row)


def mark_detections(row: Row) -> Marks:
    """The detectors' marks of a reply: refusal, stock phrase, loop, scolding."""
    return {name: detect(row["reply"]) for name, detect in DETECTORS.items()}
