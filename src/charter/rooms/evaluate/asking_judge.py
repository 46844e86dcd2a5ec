"""Questions to the judge: an engine that reads a text and answers with a number or a letter.

Its answers are kept as they are, and marks read them (`judge_answers.py`), so that a report can be verified without the
judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import local_of
from charter.ground.generate.sampling import sampling_at
from charter.ground.model.generation import Decoding
from charter.ground.text.dialogue import Message, user

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context


@dataclass(frozen=True, slots=True)
class Asking:
    """How the judge answers: its temperature, samples of a question, and tokens of each."""

    temperature: float = 0.0
    samples: int = 1
    max_tokens: int = 12


def ask(
    context: Context, name: str, questions: Sequence[tuple[str, str]], how: Asking = Asking()
) -> list[list[str]]:
    """The judge's answers to each question (id, text), "" for one that doesn't fit into its context. `name` tells one
    round of questions of a task from another. Raises CharterError without a judge."""
    judge = context.models.judge
    if judge is None:
        raise CharterError(
            f"{context.task.name} needs the role judge: a model that judges the replies in words"
        )
    local = local_of(judge)
    sampling = sampling_at(Decoding(how.temperature), how.max_tokens)

    def produce(part: Sequence[tuple[str, str]], _: int) -> list[list[str]]:
        prompts: list[list[Message]] = [[user(text)] for _, text in part]
        fits = [
            local is None or len(local.encode(prompt)) + how.max_tokens <= local.engine.context
            for prompt in prompts
        ]
        seeds = [context.seed("judge", name, id) for id, _ in part]
        asked = [n for n, fit in enumerate(fits) if fit]
        replies = judge.reply([prompts[n] for n in asked], sampling, how.samples, [seeds[n] for n in asked])
        by_place = dict(zip(asked, replies, strict=True))
        return [
            [c.text.strip() for c in by_place[n]] if n in by_place else [""] * how.samples
            for n in range(len(part))
        ]

    size = max(1, context.answers_together // how.samples)
    return context.out.chunks(f"{context.task.name}_{name}", questions, size, produce, context.title)
