"""Capability tax: bits per byte of held-out text, which don't depend on the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.measure.metrics import OF_TEXT
from charter.ground.settings.room import Role
from charter.ground.text.records import check_distinct, read_texts
from charter.rooms.evaluate.task import SCORED, Context, Protocol, Rows, Task

# (id, text)
NamedText = tuple[str, str]


def questions(context: Context) -> list[NamedText]:
    """The drawn texts with their ids. Raises CharterError for a broken row or a repeated id."""
    texts = [text for source in context.sources for text in read_texts(source)]
    check_distinct("the texts", (name for name, _ in texts))
    return context.draw_of_role(texts)


def rows(context: Context, texts: Sequence[NamedText]) -> Rows:
    """Nats and bytes of every text after its first token, which is the start token if transformers puts one. No rows
    for servers, which can't score.

    A text that is longer than the context is cut to it.
    """
    if context.local is None:
        return []
    engine = context.local.engine

    def size(ids: Sequence[int]) -> int:
        return len(engine.tokenizer.decode(ids).encode())

    def produce(part: Sequence[NamedText], _: int) -> Rows:
        each = [engine.tokenizer.encode_document(text)[: engine.context] for _, text in part]
        logs = context.models.token_logprobs(each, 0)
        return [
            {"id": name, "nats": -sum(text_logprobs), "bytes": size(ids) - size(ids[:1])}
            for (name, _), ids, text_logprobs in zip(part, each, logs, strict=True)
        ]

    return context.out.chunks("text", texts, context.chunk, produce, f"{context.settings.stage}: text")


TASK = Task(
    name="text",
    title="Held-out text",
    questions=questions,
    rows=rows,
    metrics=OF_TEXT,
    role=Role(kind="text", many=True, default="shipped:text.heldout"),
    protocol=Protocol(form="text"),
    takes=SCORED,
    chunk=16,
    cost=(400, 0),
)
