"""The gradient of one optimizer step: cross-entropy of every next token, in nats a token of the whole step.

Pieces stand side by side in flat rows without padding, and no token sees another piece's. How a step is cut into rows,
and which process reads which, changes only the order in which floats are added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from charter.ground.learn.context_parallel import Team
from charter.ground.learn.loss import cross_entropy_sum
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import share, total
from charter.ground.learn.step import autocast, backward
from charter.ground.model.layout import Layout, documents
from charter.ground.model.transformer import Transformer
from charter.rooms.pretrain.muon import muon
from charter.rooms.pretrain.order import Source, T, balance
from charter.rooms.pretrain.size import Derived
from charter.rooms.pretrain.size_settings import Learning


def optimizer_of(model: Transformer, plan: Derived, learning: Learning) -> torch.optim.Optimizer:
    """Muon or AdamW over the blocks' matrices, AdamW over all else."""
    if learning.optimizer == "muon":
        return muon(model, plan.matrix_lr, [(model.parameters(), plan.lr)], plan.weight_decay)
    matrices = [projection.weight for projection in model.projections()]
    matrix_ids = {id(matrix) for matrix in matrices}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in matrix_ids]
    return adamw([(matrices, plan.matrix_lr), (rest, plan.lr)], plan.weight_decay)


def accumulate(
    model: Transformer,
    pieces: Source[T],
    step: Sequence[T],
    microbatch_tokens: int,
    precision: str,
    own: Team,
) -> tuple[float, int]:
    """Accumulate the gradient of a step over the teams of processes that share its rows. Returns its loss in nats a
    token, and how many tokens this process learnt from."""
    lengths = [piece.length for piece in step]
    tokens, loss, own_tokens = sum(lengths), 0.0, 0
    for group in share(balance(lengths, own.size * microbatch_tokens, own.among.size), own.among):
        members = [step[i] for i in group or ()]
        row = own.row(*row_of(pieces, members, model.device))
        with autocast(str(model.device), precision):
            hidden_TD = model.hidden(row.inputs, row.layout)
            weights_T = row.real / tokens if members else torch.zeros_like(row.real)
            part = cross_entropy_sum(hidden_TD, model.head_weight(), row.targets, weights_T)
        loss += backward(part)
        own_tokens += int(row.real.sum()) if members else 0
    return total(loss), own_tokens


def row_of(pieces: Source[T], members: Sequence[T], device: torch.device) -> tuple[Tensor, Tensor, Layout]:
    """(inputs [T], targets [T], layout) of pieces side by side. Without members a row of one boundary, which a process
    reads if others still have text."""
    whole = [pieces.ids(piece) for piece in members] or [np.full(2, pieces.boundary)]
    inputs, targets = (np.concatenate([ids[cut] for ids in whole]) for cut in (slice(-1), slice(1, None)))
    layout = documents([len(ids) - 1 for ids in whole])
    return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device), layout.to(device)
