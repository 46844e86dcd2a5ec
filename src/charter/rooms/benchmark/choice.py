"""Choosing among options: log-probabilities of the letters behind the question, or a letter read in a sampled answer.

All questions of a chunk go to the scorer at once, so that a few-shot beginning is computed once for all that share it.
A server that can't score is asked for an answer, and the letter in it counts; so is any model where the protocol has
`max_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.generate.sampling import sampling_at
from charter.ground.judge.marks import likeliest
from charter.ground.text.answers import letter_of
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.question import LETTERS, Asked, Question, listed

VOTE_TOKENS = 16
LEAD = "Answer:"


def behind_examples(context: Context, asked: Sequence[Question], pool: Sequence[Question]) -> list[Asked]:
    """Questions with lettered options, all behind the same examples, which are drawn from a pool that isn't scored."""
    shots = [(listed(q), LETTERS[q.right[0]]) for q in context.examples(pool)]
    return [Asked(question, listed(question), LEAD, shots) for question in asked]


def choose(
    context: Context, asked: Sequence[Asked], options: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """One row a question: log-probability of each option's letter and the likeliest, or the letter of an answer.

    options: the texts that are scored instead of letters, the same for every question. Resumable.
    """
    scoring = "score" in context.assistant.capabilities and not context.protocol.max_tokens
    context.show(asked[0])

    def produce(part: Sequence[Asked], _: int) -> list[dict[str, Any]]:
        fitting = [a for a in part if context.fits(a, 2 if scoring else _vote_tokens(context))]
        found = iter(_scored(context, fitting, options) if scoring else _voted(context, fitting))
        kept = set(map(id, fitting))
        return [graded(a, next(found)) if id(a) in kept else graded(a, None, "too long") for a in part]

    return context.out.chunks(context.task, asked, context.chunk, produce, context.title)


def _scored(context: Context, asked: Sequence[Asked], options: Sequence[str] | None) -> list[list[float]]:
    form = context.protocol.form
    texts = [[f" {o}" for o in options or LETTERS[: len(a.question.options)]] for a in asked]
    return context.assistant.score([(a.prompt(form), t) for a, t in zip(asked, texts, strict=True)])


def _voted(context: Context, asked: Sequence[Asked]) -> list[list[float] | None]:
    """One-hot rows of the letters that sampled answers name; None where an answer names none."""
    sampling = sampling_at(context.protocol.decoding, _vote_tokens(context))
    prompts = [a.prompt(context.protocol.form) for a in asked]
    seeds = [context.seed("vote", a.question.id) for a in asked]
    found: list[list[float] | None] = []
    for a, completions in zip(asked, context.assistant.reply(prompts, sampling, 1, seeds), strict=True):
        text, count = completions[0].text, len(a.question.options)
        place = letter_of(f"{a.lead} {text}", count)  # which the reply goes on after
        if place is None:
            place = letter_of(text, count)
        found.append(None if place is None else [0.0 if n == place else -100.0 for n in range(count)])
    return found


def _vote_tokens(context: Context) -> int:
    return context.protocol.max_tokens or VOTE_TOKENS


def graded(asked: Asked, logprobs: Sequence[float] | None, why: str = "unparsed") -> dict[str, Any]:
    """The kept row of a choice; without log-probabilities `why` says what became of it."""
    question = asked.question
    row = {
        "id": question.cluster or question.id,
        "item": question.id,
        "group": question.group,
        "question": question.text,
        "options": list(question.options),
        "right": list(question.right),
        "logprobs": logprobs,
        "outcome": why,
    }
    return row | likeliest(row)
