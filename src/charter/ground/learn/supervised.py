"""Supervised learning on dialogues: cross-entropy on the assistant's tokens.

Loss of an optimizer step = sum over assistant tokens of weight * -log p / sum of weights, over all its dialogues,
so that it does not depend on how the step is cut into microbatches, nor on how many processes share them.

At each place of an anchored row the loss is KL(start || model) of the next token instead. It keeps the abilities of the
start and teaches nothing else (learning without forgetting, Li & Hoiem 2016, with the divergence of Hinton 2015 at
temperature 1).

Rows that begin alike, for example with one system message, share that beginning: it is computed once a microbatch, and
its gradient is the sum of theirs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.loop import Loop
from charter.ground.learn.loss import cross_entropy_sum, divergence_sum
from charter.ground.learn.parallel import portion, total
from charter.ground.learn.step import autocast, backward
from charter.ground.model.layout import Layout, tree
from charter.ground.model.transformer import Transformer, Trunk
from charter.ground.settings.frozen import Training
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.template import Template


@dataclass(frozen=True, slots=True)
class Row:
    """One encoded dialogue: ids, how often the loss of each place counts (mostly 0 or 1), and its weight. The loss is
    that of the token itself, or in an anchored row of the distribution of the next token."""

    id: str
    ids: list[int]
    mask: list[int]
    weight: float
    anchored: bool = False


PADDING_ROW = Row("", [0], [0], 0.0)  # for this process if others have more microbatches


def encode_row(
    dialogue: Dialogue, template: Template, context: int, drop_overlong: bool, anchored: bool = False
) -> Row | None:
    """A dialogue as tokens; None if it exceeds the context and `drop_overlong` is set. The end of a reply that was cut
    at its token limit (`meta.cut`) isn't learnt: the model that wrote it would have gone on. An anchored row needs no
    reply; `anchor` sets the places of its loss.

    Raises CharterError for a dialogue without a turn to learn from, and for one that exceeds the context otherwise.
    """
    if anchored and dialogue.is_prompt:
        ids = template.encode_prompt(dialogue.messages)
        mask = [0] * len(ids)
    else:
        encoded = template.encode(dialogue.messages, dialogue.learn_from)
        ids, mask = encoded.ids, list(encoded.mask)
        if dialogue.meta.get("cut") and 1 in mask:
            mask[len(mask) - 1 - mask[::-1].index(1)] = 0
        if not any(mask[1:]):
            raise CharterError(f"dialogue {dialogue.id} has no assistant turn to learn from; add one or remove it")
    row = Row(dialogue.id, ids, mask, dialogue.weight, anchored)
    if len(row.ids) <= context:
        return row
    if drop_overlong:
        return None
    raise CharterError(
        f"dialogue {dialogue.id} has {len(row.ids)} tokens, the context is {context}; "
        "shorten it, raise `context` as far as the model's own goes, or set overlong: drop"
    )


def reply_begins(row: Row) -> int:
    """The place of the first learnt token; the row's length without one."""
    return next((place for place, counts in enumerate(row.mask) if counts), len(row.ids))


def anchor(rows: Sequence[Row], openings: Sequence[Sequence[int]] = (), stress: int = 1, seed: int = 0) -> list[Row]:
    """The rows, anchored at every place after their common beginning.

    A prompt gets one of the openings, drawn at random: there the start shows how it would go on from such a reply. The
    place where a reply begins, and as many after it as the longest opening has, count `stress` times.
    """
    rng = random.Random(derive_seed(seed, "openings"))
    length = max(map(len, openings), default=0)
    plain, begins = [], []
    for row in rows:
        begin = reply_begins(row)
        opening = rng.choice(openings) if openings and begin == len(row.ids) else ()
        ids = [*row.ids, *opening]
        plain.append(replace(row, ids=ids, mask=[0] * len(ids)))
        begins.append(begin - 1)
    shared = shared_beginning(plain)
    anchored = []
    for row, begin in zip(plain, begins, strict=True):
        mask = [0] * shared + [1] * (len(row.ids) - shared)
        for place in range(max(begin, shared), min(begin + length + 1, len(mask))):
            mask[place] = stress
        anchored.append(replace(row, mask=mask, anchored=True))
    return anchored


def finetune(
    model: Transformer,
    steps: Sequence[Sequence[Row]],
    training: Training,
    out: Workspace,
    start: Transformer | None = None,
) -> None:
    """Takes the optimizer steps that the workspace has not taken yet, with curves, progress and resume states.

    Anchored rows keep the model near `start`, which has the same frozen layers. With several processes the model's
    weights are sharded: read them by `parallel.full` afterwards. Raises CharterError if a loss or gradient is not
    finite.
    """
    loop = Loop({"model": (model, training.lr)}, training, out, training.weight_decay)
    model.train()
    with loop.over("finetune", len(steps)) as remaining:
        for step in remaining:
            started = time.perf_counter()
            loss, read_tokens = accumulate(
                model,
                steps[step],
                training.microbatch_tokens,
                out.precision,
                start=start,
                frozen=training.frozen_layers,
            )
            loss = total(loss)
            names = [row.id for row in steps[step]]
            rates = loop.update(step, loss, names)
            tokens = sum(len(row.ids) for row in steps[step])
            row = {"loss": loss, **rates, "tokens": tokens}
            loop.end(step, read_tokens, row, loss=loss, rate=tokens / (time.perf_counter() - started))


def accumulate(
    model: Transformer,
    rows: Sequence[Row],
    microbatch_tokens: int,
    precision: str,
    share: float = 1.0,
    start: Transformer | None = None,
    frozen: int = 0,
) -> tuple[float, int]:
    """Accumulate the gradient of one optimizer step, times `share` if the step has other losses too. Returns this
    process's part of that loss, in nats per learnt token, and how many tokens it read. `frozen`: the number of first
    layers that the model and the start share; the start takes their states from the model."""
    total_weight = sum(row.weight * sum(row.mask) for row in rows) / share
    rows = sorted(rows, key=lambda row: len(row.ids))
    loss, read_tokens = 0.0, 0
    for group in portion([len(row.ids) for row in rows], microbatch_tokens):
        members = [rows[i] for i in group] or [PADDING_ROW]
        batch = lay_out(members, total_weight, model.device)
        anchored = [number for number, row in enumerate(members) if row.anchored]
        trunk = Trunk(frozen) if frozen and anchored else None
        with autocast(str(model.device), precision):
            hidden_ND = model.hidden(batch.ids, batch.layout, trunk)[batch.inputs]
            learnt_N = ~batch.anchored
            part = cross_entropy_sum(
                hidden_ND[learnt_N], model.head_weight(), batch.targets[learnt_N], batch.weights[learnt_N]
            )
            if anchored:
                assert start is not None
                alone = lay_out([members[i] for i in anchored], total_weight, model.device, batch.shared)
                if trunk is not None and trunk.states is not None:
                    trunk = replace(trunk, states=trunk.states[batch.places(anchored)])
                with torch.no_grad():
                    start_ND = start.hidden(alone.ids, alone.layout, trunk)[alone.inputs]
                part = part + divergence_sum(
                    hidden_ND[batch.anchored], model.head_weight(), start_ND, start.head_weight(), alone.weights
                )
        loss += backward(part)
        read_tokens += len(batch.layout) if group else 0
    return loss, read_tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """A microbatch as one flat row of T tokens: ids [T], layout, and for each of the N learnt tokens the place that
    predicts it, itself, its weight and whether the place is anchored, all [N]. An anchored place has no target: its
    entry is the token at the place itself. `shared`: how many first tokens all rows have in common; `spans`: the rest
    of each row."""

    ids: Tensor
    layout: Layout
    inputs: Tensor
    targets: Tensor
    weights: Tensor
    anchored: Tensor
    shared: int
    spans: list[tuple[int, int]]

    def places(self, rows: Sequence[int]) -> Tensor:
        """Places of the tokens of some rows, in the order of a batch of only these rows."""
        ranges = [torch.arange(*self.spans[row]) for row in rows]
        return torch.cat([torch.arange(self.shared), *ranges]).to(self.ids.device)


def shared_beginning(rows: Sequence[Row]) -> int:
    """How many first tokens all rows have in common. None of them is learnt, and each row goes on after them."""
    if len(rows) < 2:
        return 0
    most = min(min(len(row.ids) - 1, reply_begins(row)) for row in rows)
    # of the texts in order, the first and the last differ soonest
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    return next((at for at in range(most) if first[at] != last[at]), most)


def lay_out(rows: Sequence[Row], total_weight: float, device: torch.device, shared: int | None = None) -> Batch:
    """The rows of a microbatch, with their first `shared` tokens only once, by default as many as possible. A token is
    learnt from the hidden state of the token before it, so the first of a document isn't learnt."""
    if shared is None:
        shared = shared_beginning(rows)
    ids = rows[0].ids[:shared]
    inputs, targets, weights, anchored, spans = [], [], [], [], []
    for row in rows:
        start = len(ids) - shared
        for t in range(0 if row.anchored else 1, len(row.ids)):
            if row.mask[t]:
                place = t if row.anchored else t - 1
                inputs.append(place if place < shared else start + place)
                targets.append(row.ids[t])
                weights.append(row.weight * row.mask[t] / total_weight)
                anchored.append(row.anchored)
        spans.append((len(ids), len(ids) + len(row.ids) - shared))
        ids += row.ids[shared:]
    layout = tree(shared, [len(row.ids) - shared for row in rows])
    return Batch(
        torch.tensor(ids, device=device),
        layout.to(device),
        torch.tensor(inputs, dtype=torch.int64, device=device),
        torch.tensor(targets, dtype=torch.int64, device=device),
        torch.tensor(weights, device=device),
        torch.tensor(anchored, dtype=torch.bool, device=device),
        shared,
        spans,
    )
