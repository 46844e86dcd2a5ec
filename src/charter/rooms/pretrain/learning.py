"""The gradient of one optimizer step, and its optimizers: Muon for the blocks' matrices, AdamW for all else.

The loss is the cross-entropy of every next token, in nats a token of the whole step. Pieces stand side by side in flat
rows without padding, and no token sees another piece's. How a step is cut into rows, and which process reads which,
changes only the order in which floats are added.

Muon is momentum whose direction is made orthogonal (Jordan 2024):

    m <- b m + g;  u = g + b m (Nesterov);  W <- W (1 - lr decay) - lr sqrt(max(1, rows / columns)) orthogonal(u)

`orthogonal` moves all singular values of u to about 1 by five steps of a Newton-Schulz iteration. The parts of a fused
projection (query, key and value; gate and up) are matrices of their own, each made orthogonal by itself. Embeddings,
the head, norms and biases stay AdamW's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.loss import cross_entropy_sum
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import World, share, total, whole, world
from charter.ground.learn.step import autocast, backward
from charter.ground.model.layout import Layout, documents
from charter.ground.model.transformer import Transformer
from charter.rooms.pretrain.context_parallel import Team
from charter.rooms.pretrain.order import Source, T, balance
from charter.rooms.pretrain.size import Derived, Learning

STEPS = 5
# of the odd polynomial a s + b s^3 + c s^5 whose iteration brings singular values in (0, 1] near 1: the slope at 0 is
# as large as it can be, at the price of values that end between about 0.7 and 1.2
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonal(matrix_RC: Tensor, steps: int = STEPS) -> Tensor:
    """The matrix with all singular values brought near 1, and their directions kept: about U V' of U S V'.

    On a GPU the iteration runs in bfloat16, whose rounding it corrects; on a CPU in float32.
    """
    x = matrix_RC.bfloat16() if matrix_RC.device.type == "cuda" else matrix_RC.float()
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.t()
        x = torch.addmm(x, torch.addmm(square, square, square, beta=B, alpha=C), x, beta=A)
    return (x.t() if tall else x).to(matrix_RC.dtype)


def own_rows(matrix_RC: Tensor, like: Tensor) -> Tensor:
    """This process's rows of a matrix that all processes have, sharded like `like`."""
    if not isinstance(like, DTensor):
        return matrix_RC
    return distribute_tensor(matrix_RC, like.device_mesh, like.placements, src_data_rank=None)


class Muon(torch.optim.Optimizer):
    """Muon over groups of matrices with equal parts; `parts` of a group: the rows of each part of a matrix."""

    def __init__(self, groups: Sequence[dict[str, Any]], momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient.

        Sharded matrices are gathered for Newton-Schulz, as many at a time as there are processes. Each process makes
        one orthogonal and broadcasts it, and each takes its own rows. The momentum stays sharded.
        """
        moved = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        sharded = any(isinstance(parameter, DTensor) for _, parameter in moved)
        here = world() if sharded else World()
        for at in range(0, len(moved), here.size):
            some = moved[at : at + here.size]
            updates = [whole(self._direction(parameter, group["momentum"])) for group, parameter in some]
            if here.rank < len(some):
                parts = updates[here.rank].split_with_sizes(some[here.rank][0]["parts"])
                updates[here.rank] = torch.cat([_scale(part) for part in parts])
            for maker, ((group, parameter), update) in enumerate(zip(some, updates, strict=True)):
                if sharded:
                    dist.broadcast(update, maker)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(own_rows(update, parameter), alpha=group["lr"])

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Add the gradient to the momentum; returns the Nesterov direction."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"].mul_(momentum).add_(gradient)
        return gradient.add(average, alpha=momentum)


def _scale(part_RC: Tensor) -> Tensor:
    rows, columns = part_RC.shape
    return orthogonal(part_RC).mul_(max(1.0, rows / columns) ** 0.5)


class Joined(torch.optim.Optimizer):
    """Several optimizers as one: their groups side by side, one state, one step."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        # groups are shared dictionaries; the state must be shared too
        for part in parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step each optimizer."""
        for part in self.parts:
            part.step()


def muon(
    model: Transformer,
    lr: float,
    rates: Sequence[tuple[Iterable[nn.Parameter], float]],
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Muon at peak rate `lr` over the projections of a decoder, AdamW over everything else.

    rates: (parameters, peak rate) of AdamW's groups; projections among them are left out. Raises CharterError for a
    model with adapters, since their two thin factors are not the matrix that Muon updates.
    """
    groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for projection in model.projections():
        if projection.adapter is not None:
            raise CharterError("Muon trains whole weights, not adapters; leave out `lora` or use adamw")
        sizes = tuple(size for _, size in projection.parts.values())
        groups.setdefault(sizes, []).append(projection.weight)
    matrices = [{"params": members, "parts": list(sizes), "peak": lr, "lr": lr} for sizes, members in groups.items()]
    matrix_ids = {id(parameter) for members in groups.values() for parameter in members}
    other_groups = [([p for p in parameters if id(p) not in matrix_ids], peak) for parameters, peak in rates]
    return Joined((Muon(matrices, weight_decay=weight_decay), adamw(other_groups, weight_decay, betas)))


def optimizer_of(model: Transformer, plan: Derived, learning: Learning) -> torch.optim.Optimizer:
    """Muon or AdamW over the blocks' matrices, AdamW over all else."""
    if learning.optimizer == "muon":
        return muon(model, plan.matrix_lr, [(model.parameters(), plan.lr)], plan.weight_decay)
    matrices = [projection.weight for projection in model.projections()]
    matrix_ids = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in matrix_ids]
    return adamw([(matrices, plan.matrix_lr), (others, plan.lr)], plan.weight_decay)


def accumulate(
    model: Transformer, pieces: Source[T], step: Sequence[T], microbatch_tokens: int, precision: str, team: Team
) -> tuple[float, int]:
    """Accumulate the gradient of a step over the teams of processes that share its rows. Returns its loss in nats a
    token, and how many tokens this process learnt from."""
    lengths = [piece.length for piece in step]
    tokens, loss, own_tokens = sum(lengths), 0.0, 0
    for group in share(balance(lengths, team.size * microbatch_tokens, team.among.size), team.among):
        members = [step[i] for i in group or ()]
        row = team.row(*row_of(pieces, members, model.device))
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
    ids_of_pieces = [pieces.ids(piece) for piece in members] or [np.full(2, pieces.boundary)]
    inputs, targets = (np.concatenate([ids[cut] for ids in ids_of_pieces]) for cut in (slice(-1), slice(1, None)))
    layout = documents([len(ids) - 1 for ids in ids_of_pieces])
    return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device), layout.to(device)
