"""Capability tax: bits per byte of held-out text, which no choice of tokenizer can flatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.evaluate.context import Context
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.scorer import score
from charter.ground.text.records import read_texts


def rows(context: Context) -> list[dict[str, Any]]:
    """Nats of every text after its first token, and its bytes; none for remote engines, which can't score.

    A text over the context is cut to it; its bytes are then those of the kept part.
    """
    if not isinstance(context.assistant, LocalAssistant):
        return []
    engine = context.assistant.engine
    texts = [t for i in context.inputs.many("text") for t in read_texts(i.folder)]
    texts = context.draw(texts, context.settings.counts.text, "text")

    def produce(part: Sequence[tuple[str, str]], _: int) -> list[dict[str, Any]]:
        ids = [engine.tokenizer.encode(text)[: engine.context] for _, text in part]
        found = score(engine.model, [(own[:1], [own[1:]]) for own in ids])
        return [
            {"id": name, "nats": -sum(logs[0]), "bytes": len(engine.tokenizer.decode(own).encode())}
            for (name, _), own, logs in zip(part, ids, found, strict=True)
        ]

    return context.out.chunks("text", texts, context.settings.chunk, produce, f"{context.settings.stage}: text")
