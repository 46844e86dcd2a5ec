"""Loss by token position over long documents, with its fit L(t) = c0 + c t^-a (card section 4.2).

Every document is cut to one length, so that all positions are averages over the same documents. Positions form buckets
that double. If no document is as long as the window, `long.joined` joins those of a file in order. Falling loss at the
far end shows that the model uses the far context. If the losses give no law, the report has the reason in place of an
exponent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure import position
from charter.ground.measure.metric import EXPONENT
from charter.ground.measure.position import bucket_of
from charter.ground.settings.room import Role
from charter.rooms.evaluate.metrics import lower, neither
from charter.rooms.evaluate.reading import TEST, Row, read_split
from charter.rooms.evaluate.task import SCORED, Context, Protocol, Question, Rows, Task

SHORTEST = 256
# Tokens of a document from which on a chunk holds fewer documents.
CHUNK_TOKENS = 8192
JOINT = "\n\n"


def questions(context: Context) -> list[Question]:
    """Drawn documents that have the measured length: the longest that context and settings allow and a quarter of the
    documents have. It is that of the context, or a power of two.

    Raises CharterError for a model that can't score texts, and if fewer documents are long enough.
    """
    local = context.local
    if local is None:
        raise CharterError("position: a server can't score texts; leave position out of tasks for it")
    tokenizer, long = local.engine.tokenizer, context.settings.long
    documents = list({document.text: document for document in read_split(context.source, TEST, parse)}.values())
    most = min(long.positions, local.engine.context)
    sizes = {document.id: len(tokenizer.encode_document(document.text)) for document in documents}
    if long.joined:
        documents, sizes = join_documents(documents, sizes, most)
    for length in lengths(most):
        if 4 * sum(size >= length for size in sizes.values()) >= len(documents) > 0:
            break
    else:
        raise CharterError(
            f"position: a quarter of the documents of {context.source} must have {SHORTEST} tokens or more; give "
            "longer ones, or join them with long.joined"
        )
    context.facts["length"] = length
    if long.joined:
        context.facts["joined"] = True
    # nats are per token
    context.facts["tokenizer"] = tokenizer.digest
    return context.draw([document for document in documents if sizes[document.id] >= length])


def lengths(most: int) -> list[int]:
    """Lengths to try, the longest first: `most`, then powers of two."""
    powers = [2**k for k in range(most.bit_length()) if SHORTEST <= 2**k < most]
    return [most, *reversed(powers)] if most >= SHORTEST else []


def join_documents(
    documents: Sequence[Question], sizes: Mapping[str, int], length: int
) -> tuple[list[Question], dict[str, int]]:
    """Documents joined in order into texts of at least `length` tokens, and the tokens of each; the last may be
    shorter."""
    texts: list[Question] = []
    tokens: dict[str, int] = {}
    waiting: list[Question] = []
    for place, document in enumerate(documents, 1):
        waiting.append(document)
        size = sum(sizes[member.id] for member in waiting)
        if size >= length or place == len(documents):
            name = waiting[0].id if len(waiting) == 1 else f"{waiting[0].id} to {waiting[-1].id}"
            texts.append(Question(name, JOINT.join(member.text for member in waiting)))
            tokens[name] = size
            waiting = []
    return texts, tokens


def rows(context: Context, documents: list[Question]) -> Rows:
    """One row a document: nats and tokens of each bucket of positions."""
    local, length = context.local, context.facts["length"]
    # `questions` refuses servers
    assert local is not None
    engine = local.engine

    def produce(part: Sequence[Question], _: int) -> Rows:
        ids = [engine.tokenizer.encode_document(document.text)[:length] for document in part]
        logs = context.models.token_logprobs(ids, length)
        return [_row(document, document_logprobs) for document, document_logprobs in zip(part, logs, strict=True)]

    chunk = max(1, min(context.chunk, context.chunk * CHUNK_TOKENS // length))
    results = context.out.chunks(context.task.name, documents, chunk, produce, context.title)
    context.summary["card"] = {"exponent": position.CARD_EXPONENT, "constant": position.CARD_CONSTANT}
    if why := position.why_no_law(position.bucket_table(results, position.fit).sums.sum(axis=0)):
        context.absent(why, "position_exponent", "position_constant")
    return results


def _row(document: Question, logs: Sequence[float]) -> dict[str, Any]:
    """`logs`: log-probability of the tokens at positions 1, 2, ..."""
    nats: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for place, log in enumerate(logs, 1):
        key = str(bucket_of(place))
        nats[key] = nats.get(key, 0.0) - log
        tokens[key] = tokens.get(key, 0) + 1
    return {"id": document.id, "item": document.id, "group": "", "nats": nats, "tokens": tokens}


def parse(row: Row, name: str) -> list[Question]:
    """A document: text, and an id or a name; or a story of QuALITY."""
    text = str(row["text"] if "text" in row else row["article"])
    return [Question(str(row.get("id") or row.get("name") or row.get("article_id") or name), text)]


TASK = Task(
    name="position",
    title="Loss by position",
    group="Long documents",
    questions=questions,
    rows=rows,
    metrics=(
        *(
            lower(
                f"position_loss_{start}",
                position.loss_of(start),
                f"loss of tokens {start} to {2 * start - 1} of a document",
                unit="nats",
                kind="part",
            )
            for start in position.BUCKETS
        ),
        neither(
            "position_exponent",
            position.fit_table(position.fitted_exponent),
            "exponent of the power law of loss over position",
            unit=EXPONENT,
        ),
        lower(
            "position_constant",
            position.fit_table(position.fitted_constant),
            "loss that the power law of position falls to",
            unit="nats",
        ),
    ),
    role=Role(kind="questions", default="shipped:quality.heldout"),
    standard="data:pretrain/us_presidential_addresses",
    # the card's number of documents
    protocol=Protocol(form="text", temperature=0.0, max_tokens=0, limit=1000),
    takes=SCORED,
    cost=(4000, 0),
    version=8,
)
