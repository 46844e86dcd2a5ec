"""Capability tax: bits per byte of held-out text, which no choice of tokenizer can flatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.scorer import score
from charter.ground.text.records import check_distinct, read_texts
from charter.rooms.evaluate.context import Context


def texts(context: Context) -> list[tuple[str, str]]:
    """The drawn texts with their ids. Raises CharterError for a broken row, or an id that stands twice."""
    found = [t for i in context.inputs.many("text") for t in read_texts(i.folder)]
    check_distinct("the texts", (name for name, _ in found))
    return context.draw(found, context.settings.counts.text, "text")


def rows(context: Context) -> list[dict[str, Any]]:
    """Nats and bytes of every text after its first token, which is the start token where transformers puts one; none
    for remote engines, which can't score.

    A text over the context is cut to it.
    """
    if not isinstance(context.assistant, LocalAssistant):
        return []
    engine = context.assistant.engine

    def produce(part: Sequence[tuple[str, str]], _: int) -> list[dict[str, Any]]:
        ids = [engine.tokenizer.encode_document(text)[: engine.context] for _, text in part]
        found = score(engine.model, [(own[:1], [own[1:]]) for own in ids])
        return [
            {"id": name, "nats": -sum(logs[0]), "bytes": _bytes(engine, own) - _bytes(engine, own[:1])}
            for (name, _), own, logs in zip(part, ids, found, strict=True)
        ]

    return context.out.chunks(
        "text", texts(context), context.settings.chunk, produce, f"{context.settings.stage}: text"
    )


def _bytes(engine: Engine, ids: Sequence[int]) -> int:
    return len(engine.tokenizer.decode(ids).encode())
