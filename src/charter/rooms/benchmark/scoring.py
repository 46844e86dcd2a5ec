"""Log-probabilities of given texts behind prompts, for evaluations that nothing sampled can stand in for."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import Prompt
from charter.rooms.benchmark.context import Context

Found = list[float] | None


def can_score(context: Context) -> bool:
    """Whether the model under test gives log-probabilities of texts."""
    return "score" in context.assistant.capabilities


def need_scores(context: Context) -> None:
    """Refuses a model that only samples. Raises CharterError."""
    if not can_score(context):
        raise CharterError(
            f"{context.task} needs log-probabilities of given texts and {context.inputs.one('policy').name} only "
            "samples; leave it out of tasks"
        )


def scored(
    context: Context, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], key: str
) -> list[Found]:
    """Summed log-probability of each text behind its prompt, in nats; None where the context can't hold them.

    Resumable: saved by chunks under `key`.
    """
    pairs = list(zip(prompts, texts, strict=True))

    def produce(part: Sequence[tuple[Prompt, Sequence[str]]], _: int) -> list[Found]:
        fitting = [pair for pair in part if context.holds(pair[0], _longest(context, pair[1]))]
        found = iter(context.assistant.score(fitting))
        kept = set(map(id, fitting))
        return [next(found) if id(pair) in kept else None for pair in part]

    return context.out.chunks(key, pairs, context.settings.chunk, produce, context.title)


def _longest(context: Context, texts: Sequence[str]) -> int:
    if context.local is None:
        return 0
    return max(len(context.local.engine.tokenizer.encode(text)) for text in texts)
