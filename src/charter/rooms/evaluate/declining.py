"""Asks questions that may be declined: for an answer, a confidence, and an answer where the model may not decline.

Without log-probabilities the model states its confidence in a further turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from charter.ground.generate.sampling import sampling_at
from charter.ground.text.dialogue import Message, assistant, user
from charter.rooms.evaluate.asking import can_score, complete
from charter.rooms.evaluate.marks import TOO_LONG, describe_completion, describe_question
from charter.rooms.evaluate.task import Query, Row, Rows, Rule

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

FORCE = "Give an answer all the same, your best guess, in a few words."
HOW_LIKELY = "How likely is it that your answer is right? Reply with a number from 0 to 100 only."
NUMBER_TOKENS = 8


def answer_or_decline(context: Context, key: str, queries: Sequence[Query], marks: Rule) -> Rows:
    """A row a question: its answer, the confidence, the forced answer to what it declined, and their marks."""
    context.show(queries[0])

    def produce(part: Sequence[Query], _: int) -> Rows:
        rows = first_answers(context, part)
        asked = [(row, query) for row, query in zip(rows, part, strict=True) if row["stop"] != TOO_LONG]
        add_confidence(context, asked)
        for row in rows:
            row.update(marks(row))
        add_forced(context, [(row, query) for row, query in asked if row["declined"]])
        for row in rows:
            row.update(marks(row))
        return rows

    return context.out.chunks(key, queries, context.chunk, produce, context.title)


def first_answers(context: Context, queries: Sequence[Query]) -> Rows:
    """A row a question with its reply."""
    rows = []
    for query, completions in zip(queries, complete(context, queries), strict=True):
        question = query.question
        row: Row = describe_question(question) | {
            "accepted": list(question.accepted),
            "answerable": bool(question.meta.get("answerable", question.accepted)),
            **{key: value for key, value in question.meta.items() if key != "answerable"},
            "logprob": None,
            "stated": None,
            "forced": None,
            "threshold": None,
        }
        if completions is None:
            rows.append(row | {"sample": 0, "reply": "", "stop": TOO_LONG, "tokens": 0})
        else:
            rows.append(row | {"sample": 0} | describe_completion(completions[0]))
    return rows


def add_confidence(context: Context, asked: Sequence[tuple[Row, Query]]) -> None:
    """Adds the log-probability of each reply, or what the model says of it."""
    spoken = [(row, query.prompt("chat")) for row, query in asked if row["reply"].strip()]
    if spoken and can_score(context):
        scores = context.assistant.score([(prompt, [row["reply"]]) for row, prompt in spoken])
        for (row, _), (logprob,) in zip(spoken, scores, strict=True):
            row["logprob"] = logprob
        return
    replies = follow_up(context, [(row, prompt) for row, prompt in spoken], HOW_LIKELY, NUMBER_TOKENS)
    for (row, _), reply in zip(spoken, replies, strict=True):
        row["stated"] = reply


def add_forced(context: Context, declined: Sequence[tuple[Row, Query]]) -> None:
    """Adds the answers that the model gives where it may not decline."""
    items = [(row, query.prompt("chat")) for row, query in declined]
    for (row, _), reply in zip(
        items, follow_up(context, items, FORCE, context.protocol.max_tokens), strict=True
    ):
        row["forced"] = reply


def follow_up(context: Context, items: Sequence[tuple[Row, Any]], request: str, most: int) -> list[str]:
    """The reply to a further request behind each prompt and its reply; "" if it doesn't fit into the context."""
    prompts: list[list[Message]] = [
        [*prompt, assistant(row["reply"] or "..."), user(request)] for row, prompt in items
    ]
    fitting = [n for n, prompt in enumerate(prompts) if context.holds(prompt, most)]
    seeds = [context.seed("follow", request, items[n][0]["item"]) for n in fitting]
    sampling = sampling_at(context.protocol.decoding, most)
    replies = [""] * len(prompts)
    if fitting:
        each = context.assistant.reply([prompts[n] for n in fitting], sampling, 1, seeds)
        for n, completions in zip(fitting, each, strict=True):
            replies[n] = completions[0].text.strip()
    return replies
