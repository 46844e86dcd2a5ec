"""Context parallelism: the tokens of long documents are spread over the processes of a team, which attend together.

Each document is cut into 2 n chunks for n processes; process r holds chunks r and 2 n - 1 - r, so that under the causal
mask all have equal work. Everything but attention needs only a process's own tokens. Attention gathers the keys and
values of all processes, block by block (Dubey et al. 2024, arXiv 2407.21783, section 3.3.2). The backward pass gathers
them again and sums their gradients back to their processes: between the two a process keeps only its own rows. Ring
attention (Liu et al. 2023, arXiv 2310.01889) would never hold all keys of a block at once; with grouped queries they
are small beside the rest.

Documents are padded to a multiple of 2 n tokens at their end, where no real token sees the padding. Letters: n
processes of a team, T rows of this process, C tokens of a chunk, H query heads, K key heads, d head size, L keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.parallel import World, world
from charter.ground.model.layout import Layout


@dataclass(frozen=True, slots=True)
class Row:
    """A process's part of a row of documents: inputs, targets, and 1 for a real token, 0 for padding; [T] each."""

    inputs: Tensor
    targets: Tensor
    real: Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class Team:
    """This process's place in its team, and the team's place among the teams, which read different documents."""

    rank: int
    size: int
    among: World
    group: Any = None

    def row(self, inputs_T: Tensor, targets_T: Tensor, layout: Layout) -> Row:
        """This process's part of a row of documents; all processes of the team call it with the same row."""
        if self.size == 1:
            return Row(inputs_T, targets_T, torch.ones_like(targets_T, dtype=torch.float32), layout)
        device, lengths = inputs_T.device, [end - start for start, end in layout.segments]
        positions, sources, reals = [], [], []
        for first, length in zip(accumulate(lengths, initial=0), lengths, strict=False):
            chunk = chunk_of(length, self.size)
            at = torch.cat([torch.arange(chunk) + number * chunk for number in self.numbers])
            positions.append(at)
            sources.append(first + at.clamp(max=length - 1))
            reals.append(at < length)
        empty = torch.zeros(0, dtype=torch.int64)
        source = torch.cat([empty, *sources]).to(device)
        position = torch.cat([empty, *positions]).to(device)
        chunks = [chunk_of(length, self.size) for length in lengths for _ in range(2)]
        paths = tuple(((end - chunk, end),) for chunk, end in zip(chunks, accumulate(chunks), strict=True))
        real = torch.cat([empty.bool(), *reals]).to(device, torch.float32)
        spread = Layout(position, paths, Gathered(self, tuple(chunks[::2])))
        return Row(inputs_T[source], targets_T[source], real, spread)

    @property
    def numbers(self) -> tuple[int, int]:
        """The chunks of every document that this process holds."""
        return self.rank, 2 * self.size - 1 - self.rank


def team(size: int) -> Team:
    """This process's team of `size`. All processes must call it together, once. Raises CharterError if they don't make
    whole teams."""
    here = world()
    if here.size % size:
        raise CharterError(
            f"{here.size} processes don't make teams of {size}; set parallel.context to a divisor of {here.size}"
        )
    group = None
    for number in range(here.size // size if size > 1 else 0):
        new_group = dist.new_group(list(range(number * size, (number + 1) * size)))
        group = new_group if number == here.rank // size else group
    among = World(here.rank // size, here.size // size, here.local_rank)
    return Team(here.rank % size, size, among, group)


def chunk_of(length: int, size: int) -> int:
    """Tokens of a chunk of a document."""
    return -(-length // (2 * size))


@dataclass(frozen=True, slots=True)
class Gathered:
    """Attention over documents; each process of a team holds two chunks of each. `chunks`: the C of each document."""

    team: Team
    chunks: tuple[int, ...]

    def forward(self, qk_THd: Tensor, v_TKd: Tensor) -> tuple[Tensor, Tensor]:
        """(output [T, H * d], log-sum-exp [T, H]) of rotated queries and keys [T, H + K, d] and values [T, K, d]."""
        heads = qk_THd.shape[1] - v_TKd.shape[1]
        both_nTKd = self._gather(torch.cat([qk_THd[:, heads:], v_TKd], 1))
        mixed = torch.empty_like(qk_THd[:, :heads])
        lse = mixed.new_empty(mixed.shape[:2], dtype=torch.promote_types(mixed.dtype, torch.float32))
        for at, chunk in self._documents():
            both_LKd = self._in_order(both_nTKd, at, chunk)
            for rows, end in self._mine(at, chunk):
                mixed[rows], lse[rows] = _attend(qk_THd[rows, :heads], both_LKd[:end])
        return mixed.flatten(1), lse

    def backward(
        self, grad: Tensor, qk_THd: Tensor, v_TKd: Tensor, mixed: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of queries and keys [T, H + K, d] and of values [T, K, d], the team's parts summed."""
        heads, keys = qk_THd.shape[1] - v_TKd.shape[1], v_TKd.shape[1]
        both_nTKd = self._gather(torch.cat([qk_THd[:, heads:], v_TKd], 1))
        grad_both = torch.zeros_like(both_nTKd, dtype=lse.dtype)
        grad_THd, mixed_THd = (x.view(-1, heads, v_TKd.shape[2]) for x in (grad, mixed))
        grad_qk, grad_v = torch.empty_like(qk_THd), torch.empty_like(v_TKd)
        for at, chunk in self._documents():
            both_LKd = self._in_order(both_nTKd, at, chunk)
            grad_LKd = torch.zeros_like(both_LKd, dtype=lse.dtype)
            for rows, end in self._mine(at, chunk):
                inputs = grad_THd[rows], qk_THd[rows, :heads], both_LKd[:end], mixed_THd[rows], lse[rows]
                grad_qk[rows, :heads], grad_keys = _attend_back(*inputs)
                grad_LKd[:end] += grad_keys
            self._return_grads(grad_both, grad_LKd, at, chunk)
        mine = grad_both.new_empty(grad_both.shape[1:])
        if len(mine):
            dist.reduce_scatter_single(mine, grad_both.flatten(0, 1), group=self.team.group)
        grad_qk[:, heads:], grad_v[:] = mine[:, :keys], mine[:, keys:]
        return grad_qk, grad_v

    def _gather(self, mine_TKd: Tensor) -> Tensor:
        """The rows of all processes, [n, T, ...]."""
        rows = mine_TKd.new_empty((self.team.size, *mine_TKd.shape))
        if len(mine_TKd):
            dist.all_gather_single(rows.flatten(0, 1), mine_TKd, group=self.team.group)
        return rows

    def _documents(self) -> Iterator[tuple[int, int]]:
        """(first row of this process, tokens of a chunk) of each document."""
        starts = accumulate((2 * chunk for chunk in self.chunks), initial=0)
        return zip(starts, self.chunks, strict=False)

    def _mine(self, at: int, chunk: int) -> Iterator[tuple[slice, int]]:
        """(rows, their end in the document) of this process's chunks."""
        for place, number in enumerate(self.team.numbers):
            start = at + place * chunk
            yield slice(start, start + chunk), (number + 1) * chunk

    def _places(self, at: int, chunk: int) -> Iterator[tuple[int, slice]]:
        """(process, rows) of the chunks of a document, in its order."""
        size = self.team.size
        for number in range(2 * size):
            start = at + (number >= size) * chunk
            yield min(number, 2 * size - 1 - number), slice(start, start + chunk)

    def _in_order(self, both_nTKd: Tensor, at: int, chunk: int) -> Tensor:
        """Keys and values of a document, [L, 2 K, d]."""
        return torch.cat([both_nTKd[rank, rows] for rank, rows in self._places(at, chunk)])

    def _return_grads(self, grad_nTKd: Tensor, grad_LKd: Tensor, at: int, chunk: int) -> None:
        """Puts the gradients of a document's keys and values into the rows of their processes."""
        for number, (rank, rows) in enumerate(self._places(at, chunk)):
            grad_nTKd[rank, rows] = grad_LKd[number * chunk : (number + 1) * chunk]


def _heads(row: Tensor) -> Tensor:
    """[n, H, d] -> [1, H, n, d], a view."""
    return row.transpose(0, 1)[None]


def _attend(q_CHd: Tensor, both_LKd: Tensor) -> tuple[Tensor, Tensor]:
    """The last C tokens of L attend to all up to themselves: (output [C, H, d], log-sum-exp [C, H])."""
    if q_CHd.device.type != "cpu":
        return _lower_right(q_CHd, both_LKd), q_CHd.new_zeros(q_CHd.shape[:2])
    q, k, v = _heads(q_CHd), *(_heads(x) for x in both_LKd.chunk(2, 1))
    before = k.shape[2] - q.shape[2]
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = flash(q, k[:, :, before:], v[:, :, before:], 0.0, True)
    if before:
        other, other_lse = flash(q, k[:, :, :before], v[:, :, :before], 0.0, False)
        share = torch.sigmoid(lse - other_lse)[..., None].to(out.dtype)
        out, lse = out * share + other * (1 - share), torch.logaddexp(lse, other_lse)
    return out[0].transpose(0, 1), lse[0].transpose(0, 1)


def _attend_back(
    grad_CHd: Tensor, q_CHd: Tensor, both_LKd: Tensor, mixed_CHd: Tensor, lse_CH: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the queries [C, H, d], and of keys and values [L, 2 K, d].

    The backward of each part of the keys uses the output and log-sum-exp of the whole: its softmax needs no more.
    """
    if q_CHd.device.type != "cpu":
        with torch.enable_grad():
            inputs = q_CHd.detach().requires_grad_(), both_LKd.detach().requires_grad_()
            to_q, to_both = torch.autograd.grad(_lower_right(*inputs), inputs, grad_CHd)
            return to_q, to_both
    q, k, v = _heads(q_CHd), *(_heads(x) for x in both_LKd.chunk(2, 1))
    shared = _heads(mixed_CHd), lse_CH.transpose(0, 1)[None]
    before = k.shape[2] - q.shape[2]
    grad_q, grad_both = torch.zeros_like(q_CHd), torch.empty_like(both_LKd)
    for part, causal in ((slice(before, None), True), (slice(0, before), False)):
        if part.stop == 0:
            continue
        dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            _heads(grad_CHd), q, k[:, :, part], v[:, :, part], *shared, 0.0, causal
        )
        grad_q += dq[0].transpose(0, 1)
        grad_both[part] = torch.cat([dk[0], dv[0]]).transpose(0, 1)
    return grad_q, grad_both


def _lower_right(q_CHd: Tensor, both_LKd: Tensor) -> Tensor:
    """The same by a kernel of torch's choice, on GPUs flash attention. Its causal mask ends at the last key."""
    q, k, v = _heads(q_CHd), *(_heads(x) for x in both_LKd.chunk(2, 1))
    mask: Any = causal_lower_right(q.shape[2], k.shape[2])
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=shared)[0].transpose(0, 1)
