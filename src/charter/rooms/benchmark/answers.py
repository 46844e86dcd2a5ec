"""Free answers: sampled, kept with what was read in them, and graded one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from charter.ground.generate.engine import Completion
from charter.ground.generate.sampling import sampling_at
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.question import Asked

Grade = Callable[[Asked, str], dict[str, Any]]


def answer(
    context: Context, asked: Sequence[Asked], grade: Grade, stops: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """One row a sample, with what `grade` reads in the answer (`correct`, `outcome` ...). Resumable.

    A question that the context can't hold is kept with the outcome "too long".
    """
    protocol = context.protocol
    context.show(asked[0])
    sampling = sampling_at(protocol.decoding, protocol.max_tokens, stops)

    def produce(part: Sequence[Asked], _: int) -> list[dict[str, Any]]:
        fitting = [a for a in part if context.fits(a, protocol.max_tokens)]
        seeds = [context.seed("answer", a.question.id) for a in fitting]
        prompts = [a.prompt(protocol.form) for a in fitting]
        found = context.assistant.reply(prompts, sampling, protocol.samples, seeds)
        completions = {id(a): entry for a, entry in zip(fitting, found, strict=True)}
        return [row for a in part for row in _rows(a, completions.get(id(a)), grade)]

    return context.out.chunks(context.task, asked, context.chunk, produce, context.title)


def _rows(asked: Asked, completions: Sequence[Completion] | None, grade: Grade) -> list[dict[str, Any]]:
    question = asked.question
    known = {
        "id": question.cluster or question.id,
        "item": question.id,
        "group": question.group,
        "question": question.text,
    }
    if completions is None:
        return [
            {**known, "sample": 0, "reply": "", "stop": "too long", "correct": 0.0, "outcome": "too long"}
        ]
    return [
        {
            **known,
            "sample": k,
            "reply": c.text,
            "stop": c.stop,
            "tokens": len(c.ids) or len(c.text.split()),
            **grade(asked, c.text),
        }
        for k, c in enumerate(completions)
    ]
