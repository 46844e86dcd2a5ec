"""Loss by token position over long documents, with its fit L(t) = c0 + c t^-a (card section 4.2).

Every document is cut to one length, so that all positions are averages over the same ones; positions are gathered in
buckets that double. Falling loss at the far end is the evidence that the far context is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.benchmark.context import Context
from charter.benchmark.protocol import Protocol
from charter.benchmark.question import Question
from charter.benchmark.reading import TEST, Row, parsed
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.scorer import score
from charter.ground.measure.position import bucket_of

PROTOCOL = Protocol(form="text", temperature=0.0, max_tokens=0)
LONGEST, SHORTEST = 8192, 256


def questions(context: Context) -> list[Question]:
    """Drawn documents of the longest length, a power of two, that the context holds and a quarter of them has.

    Raises CharterError for a model that can't score texts, or where no document is long enough.
    """
    local = context.local
    if local is None:
        raise CharterError("position: a server can't score texts; leave position out of tasks for it")
    found = list({document.text: document for document in parsed(context.source, TEST, parse)}.values())
    sizes = {document.id: len(local.engine.tokenizer.encode_document(document.text)) for document in found}
    length = LONGEST
    while length > local.engine.context or 4 * sum(size >= length for size in sizes.values()) < len(found):
        length //= 2
        if length < SHORTEST:
            raise CharterError(
                f"position: a quarter of the documents of {context.source} must have {SHORTEST} tokens or more; give "
                "longer ones"
            )
    context.facts["length"] = length
    context.facts["tokenizer"] = local.engine.tokenizer.digest  # nats are per token
    return context.draw([document for document in found if sizes[document.id] >= length])


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a document: nats and tokens of each bucket of positions."""
    local, length = context.local, context.facts["length"]
    assert local is not None  # `questions` refuses servers
    engine = local.engine

    def produce(part: Sequence[Question], _: int) -> list[dict[str, Any]]:
        ids = [engine.tokenizer.encode_document(document.text)[:length] for document in part]
        found = score(engine.model, [(own[:1], [own[1:]]) for own in ids])
        return [_row(document, logs[0]) for document, logs in zip(part, found, strict=True)]

    return context.out.chunks(context.task, asked, context.chunk, produce, context.title)


def _row(document: Question, logs: Sequence[float]) -> dict[str, Any]:
    """`logs`: log-probability of the tokens at positions 1, 2, ..."""
    nats: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for position, log in enumerate(logs, 1):
        key = str(bucket_of(position))
        nats[key] = nats.get(key, 0.0) - log
        tokens[key] = tokens.get(key, 0) + 1
    return {"id": document.id, "item": document.id, "group": "", "nats": nats, "tokens": tokens}


def parse(row: Row, name: str) -> list[Question]:
    """A document: text, and an id or a name; or a story of QuALITY."""
    text = str(row["text"] if "text" in row else row["article"])
    return [Question(str(row.get("id") or row.get("name") or row.get("article_id") or name), text)]
