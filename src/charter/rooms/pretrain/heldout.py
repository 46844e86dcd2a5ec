"""Bits per byte of text kept out of training, which no choice of tokenizer can flatter.

    bits per byte = nats of the text's tokens / ln 2 / bytes of the text in UTF-8

The boundary that ends a document is learnt but not counted here. A document over the context is read in pieces, as in
training, each without the text before it. Whole documents are taken in an order drawn once, while they fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.parallel import share, totals, world
from charter.ground.learn.step import autocast
from charter.ground.measure.counts import bits_by_part
from charter.ground.measure.intervals import interval
from charter.ground.measure.metrics import OF_TEXT
from charter.ground.measure.reporting import record
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.rooms.pretrain.learning import row_of
from charter.rooms.pretrain.order import Piece, Pieces, balance, permute

ROWS = "samples/text.jsonl"
Row = dict[str, Any]


def draw_documents(heldout: Pieces, tokens: int) -> list[tuple[int, int]]:
    """(corpus, document) of documents in random order that together hold at most `tokens` tokens. Documents that don't
    fit are skipped; if none fits, the shortest is taken. The order is the same in all runs, so they can be compared.
    """
    sizes = np.concatenate([part.lengths for part in heldout.parts]).astype(np.int64)
    first = np.cumsum([0, *(part.documents for part in heldout.parts)])
    order = permute(np.arange(len(sizes)), len(sizes), derive_seed(0, "heldout"))
    numbers: list[int] = []
    for number in order.tolist():
        if sizes[number] <= tokens:
            numbers.append(number)
            tokens -= int(sizes[number])
    numbers = numbers or [int(sizes.argmin())]
    parts = (np.searchsorted(first, numbers, "right") - 1).tolist()
    return [(part, number - int(first[part])) for part, number in zip(parts, numbers, strict=True)]


def describe_coverage(rows: Sequence[Row], heldout: Pieces) -> str:
    """A sentence that says how much of the held-out text was measured."""
    documents = sum(part.documents for part in heldout.parts)
    tokens = sum(part.tokens for part in heldout.parts)
    more = "; heldout.final_tokens bounds it" if len(rows) < documents else ""
    measured_tokens = sum(row["tokens"] for row in rows)
    return (
        f"measured on {len(rows):,} of {documents:,} held-out documents, {measured_tokens:,} of {tokens:,} tokens{more}"
    )


def measure(
    model: Transformer, heldout: Pieces, places: Sequence[tuple[int, int]], most: int, out: Workspace
) -> list[Row]:
    """A row per document: id, source, language, tokens, bytes, and the nats of its tokens."""
    owned = [(n, piece) for n, place in enumerate(places) for piece in heldout.of(*place)]
    nats = [0.0] * len(places)
    groups = balance([piece.length for _, piece in owned], most, world().size)
    for group in share(groups):
        members = [owned[i] for i in group or ()]
        for (n, piece), piece_nats in zip(members, _nats(model, heldout, [p for _, p in members], out), strict=True):
            last = piece.start + piece.length == heldout.whole(piece)
            nats[n] += float(piece_nats[: piece.length - last].sum())
    return [_row(heldout, *place, document_nats) for place, document_nats in zip(places, totals(nats), strict=True)]


@torch.no_grad()
def _nats(model: Transformer, heldout: Pieces, members: Sequence[Piece], out: Workspace) -> list[torch.Tensor]:
    """Nats of the targets of each piece, in double precision."""
    inputs_T, targets_T, layout = row_of(heldout, members, model.device)
    with autocast(out.device, out.precision):
        hidden_TD = model.hidden(inputs_T, layout)
        logs_T = token_logprobs(hidden_TD, model.head_weight(), targets_T)[0]
    if not members:
        return []
    return list((-logs_T).double().cpu().split_with_sizes([piece.length for piece in members]))


def _row(heldout: Pieces, part: int, document: int, nats: float) -> Row:
    shards = heldout.parts[part]
    return {
        "id": f"{part}-{document}",
        "source": shards.index.sources[int(shards.sources[document])],
        "language": shards.index.languages[int(shards.languages[document])],
        "tokens": int(shards.lengths[document]),
        "bytes": int(shards.text_bytes[document]),
        "nats": nats,
    }


def report(rows: Sequence[Row], out: Workspace) -> dict[str, float]:
    """Write the rows and record bits per byte, overall and of each part; returns those of the parts."""
    out.write_jsonl(ROWS, rows)
    record(out, OF_TEXT)
    counts: dict[str, float] = {}
    for name, table in bits_by_part(rows):
        low, high = interval(table)
        counts[name] = table.value
        out.metric(name, table.value, low=low, high=high, n=table.n, unit="bits/byte")
    return counts
