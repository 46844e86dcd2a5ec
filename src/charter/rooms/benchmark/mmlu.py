"""MMLU as the card has it: five worked examples with reasoning, an answer sampled at T=1, the letter read in it
(card section 4.3; Hendrycks 2021; Wei 2022).

The published development split has no reasoning. Rows of one's own that carry a `thought` are the examples of their
subject; elsewhere they are five questions of our own, the same for every subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.judge.marks import letter_read
from charter.ground.settings.sources import shipped
from charter.rooms.benchmark.answers import answer
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.mmlu_plain import by_subject, parse
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import LETTERS, Asked, Question, listed
from charter.rooms.benchmark.reading import DEV, TEST, has, parsed

PROTOCOL = Protocol(shots=5, max_tokens=320)
HEADER = "Answer these multiple choice questions. Think step by step, then end with: The answer is (X)."
LEAD = "Let's think step by step."
OURS = "mmlu_thoughts.train"

Shots = list[tuple[str, str]]


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split, a group each subject."""
    drawn = context.draw(parsed(context.source, TEST, parse))
    context.facts["examples"] = digest_text(canonical_json(_shots(context, drawn)))
    return drawn


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a sampled answer."""
    shots = _shots(context, asked)
    put = [Asked(q, listed(q, "({})"), LEAD, shots[q.group], HEADER) for q in asked]
    return answer(context, put, grade, stops=("\n\n",) if context.protocol.form == "text" else ())


def grade(asked: Asked, reply: str) -> dict[str, Any]:
    """Right where the letter that the answer names is the right one."""
    question = asked.question
    said = {"reply": reply, "options": list(question.options), "right": list(question.right)}
    return said | letter_read(said)


def _shots(context: Context, asked: Sequence[Question]) -> dict[str, Shots]:
    """The worked examples of every subject that is asked: those of the data where they show reasoning, else ours."""
    pool = by_subject(parsed(context.source, DEV, parse)) if has(context.source, DEV) else {}
    ours = parsed(shipped(OURS), DEV, parse)
    found = {}
    for subject in sorted({q.group for q in asked}):
        own = [q for q in pool.get(subject, []) if q.meta["thought"]]
        chosen = own if len(own) >= context.protocol.shots else ours
        shown = chosen[: context.protocol.shots]
        if len(shown) < context.protocol.shots:
            context.examples(chosen, f"{OURS}, the examples with reasoning,")  # says what is missing
        found[subject] = [
            (listed(q, "({})"), f"{q.meta['thought']} The answer is ({LETTERS[q.right[0]]}).") for q in shown
        ]
    return found
