"""A block for long rows: for backward it keeps only its input and the output of attention.

Recomputing a whole block would attend twice, and attention is nearly all of the work in a long text. So the output of
attention is kept with its log-sum-exp (Dao et al. 2022). Its backward also needs queries, keys and values; those, the
norms and the feed-forward are computed again, PIECE tokens at a time. Memory is

    layers * T * (D + H d + H) kept, and about T * (3 D + 2 H d + 2 (H + 2 K) d) more in the backward of one block.

Letters: T tokens of the row, D width, H query heads, K key heads, d head size.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from charter.ground.model.layout import Layout, Segment

PIECE = 2048  # tokens whose norms and feed-forward are computed at once
LONG = 1024  # tokens of a document from which this pays
Tables = tuple[Tensor, Tensor]


class Halves(Protocol):
    """A block in two halves, before and after attention."""

    def before(self, x_TD: Tensor, cos_sin: Tables) -> tuple[Tensor, Tensor]:
        """Rotated queries and keys [T, H + K, d], values [T, K, d]."""
        ...

    def after(self, x_TD: Tensor, mixed: Tensor) -> Tensor:
        """[T, D] from the input and the output of attention, [T, H * d]."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters."""
        ...


def suits(layout: Layout, device: torch.device) -> bool:
    """Whether a row has only documents, one of them long, on a CPU: this code calls the CPU's kernel."""
    alone = all(len(path) == 1 for path in layout.paths)
    return device.type == "cpu" and alone and layout.longest > LONG


def apply_block(block: Halves, x_TD: Tensor, cos_sin: Tables, layout: Layout) -> Tensor:
    """The block's output for a row of documents, [T, D], differentiable once."""
    trainable = [p for p in block.parameters() if p.requires_grad]
    output: Tensor = _Lean.apply(block, cos_sin, layout, x_TD, *trainable)  # type: ignore[no-untyped-call]
    return output


class _Lean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Halves, cos_sin: Tables, layout: Layout, x_TD: Tensor, *trainable: Tensor) -> Tensor:
        qk, v = _project(block, x_TD, cos_sin)
        mixed, lse = layout.spread.forward(qk, v) if layout.spread else _attend(qk, v, layout.segments)
        del qk, v
        ctx.block, ctx.cos_sin, ctx.layout, ctx.computing = block, cos_sin, layout, _computing(x_TD)
        ctx.save_for_backward(x_TD, mixed, lse, *trainable)
        result = torch.empty_like(x_TD)
        for piece in _pieces(len(x_TD)):
            result[piece] = block.after(x_TD[piece], mixed[piece])
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad_TD,) = grads
        x_TD, mixed, lse, *trainable = ctx.saved_tensors
        sums: list[Tensor | None] = [None] * len(trainable)
        grad_x, grad_mixed = torch.empty_like(x_TD), torch.empty_like(mixed)
        with ctx.computing():
            for piece in _pieces(len(x_TD)):
                inputs = _leaf(x_TD[piece]), _leaf(mixed[piece])
                with torch.enable_grad():
                    output = ctx.block.after(*inputs)
                grad_x[piece], grad_mixed[piece] = _add_grads((output,), inputs, trainable, (grad_TD[piece],), sums)
            del grad_TD, grads
            qk, v = _project(ctx.block, x_TD, ctx.cos_sin)
            if (spread := ctx.layout.spread) is not None:
                grad_qk, grad_v = spread.backward(grad_mixed, qk, v, mixed, lse)
            else:
                grad_qk, grad_v = _attend_back(grad_mixed, qk, v, mixed, lse, ctx.layout.segments)
            del qk, v, grad_mixed, mixed
            for piece in _pieces(len(x_TD)):
                leaf = _leaf(x_TD[piece])
                with torch.enable_grad():
                    both = ctx.block.before(leaf, _cut(ctx.cos_sin, piece))
                (grad,) = _add_grads(both, (leaf,), trainable, (grad_qk[piece], grad_v[piece]), sums)
                grad_x[piece] += grad
        return None, None, None, grad_x, *sums


def _computing(x_TD: Tensor) -> Any:
    """A function that restores the present autocast in backward."""
    kind = x_TD.device.type
    on, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def again() -> AbstractContextManager[None]:
        return torch.autocast(kind, dtype=dtype, enabled=on, cache_enabled=False)

    return again


def _pieces(tokens: int) -> Iterator[slice]:
    return (slice(at, min(at + PIECE, tokens)) for at in range(0, tokens, PIECE))


def _cut(cos_sin: Tables, piece: slice) -> Tables:
    return cos_sin[0][piece], cos_sin[1][piece]


def _leaf(part: Tensor) -> Tensor:
    return part.detach().requires_grad_()


def _add_grads(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    trainable: Sequence[Tensor],
    grads: Sequence[Tensor],
    sums: list[Tensor | None],
) -> list[Tensor]:
    """Returns the gradients of the inputs, and adds those of the weights to their sums."""
    into = [grad.to(part.dtype) for grad, part in zip(grads, outputs, strict=True)]
    all_grads = torch.autograd.grad(outputs, [*inputs, *trainable], into, allow_unused=True)
    for place, grad in enumerate(all_grads[len(inputs) :]):
        if grad is not None:
            before = sums[place]
            sums[place] = grad if before is None else before.add_(grad)
    return [part for part in all_grads[: len(inputs)] if part is not None]


@torch.no_grad()
def _project(block: Halves, x_TD: Tensor, cos_sin: Tables) -> tuple[Tensor, Tensor]:
    """`before` of the whole row, piece by piece, in the type in which attention computes."""
    outputs: tuple[Tensor, Tensor] | None = None
    half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x_TD.dtype
    for piece in _pieces(len(x_TD)):
        parts = block.before(x_TD[piece], _cut(cos_sin, piece))
        if outputs is None:
            qk, v = (x_TD.new_empty((len(x_TD), *part.shape[1:]), dtype=half) for part in parts)
            outputs = qk, v
        for target, part in zip(outputs, parts, strict=True):
            target[piece] = part
    assert outputs is not None  # a long document has tokens
    return outputs


def _heads(row: Tensor) -> Tensor:
    """[n, H, d] -> [1, H, n, d], a view."""
    return row.transpose(0, 1)[None]


def _attend(qk_THd: Tensor, v_TKd: Tensor, segments: Sequence[Segment]) -> tuple[Tensor, Tensor]:
    """Causal attention inside every document: (output [T, H * d], log-sum-exp [T, H])."""
    heads = qk_THd.shape[1] - v_TKd.shape[1]
    mixed = v_TKd.new_empty((len(v_TKd), heads, v_TKd.shape[2]))
    lse = v_TKd.new_empty((len(v_TKd), heads), dtype=torch.promote_types(v_TKd.dtype, torch.float32))
    for start, end in segments:
        qk, v = qk_THd[start:end], v_TKd[start:end]
        out, own = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            _heads(qk[:, :heads]), _heads(qk[:, heads:]), _heads(v), 0.0, True
        )
        mixed[start:end], lse[start:end] = out[0].transpose(0, 1), own[0].transpose(0, 1)
    return mixed.flatten(1), lse


def _attend_back(
    grad: Tensor, qk_THd: Tensor, v_TKd: Tensor, mixed: Tensor, lse: Tensor, segments: Sequence[Segment]
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and keys [T, H + K, d] and of values [T, K, d]."""
    heads, shape = lse.shape[1], (*lse.shape, v_TKd.shape[2])
    grad_THd, mixed_THd = grad.view(shape), mixed.view(shape)
    grad_qk, grad_v = torch.empty_like(qk_THd), torch.empty_like(v_TKd)
    for start, end in segments:
        rows = slice(start, end)
        qk = qk_THd[rows]
        dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            _heads(grad_THd[rows]),
            _heads(qk[:, :heads]),
            _heads(qk[:, heads:]),
            _heads(v_TKd[rows]),
            _heads(mixed_THd[rows]),
            lse[rows].transpose(0, 1)[None],
            0.0,
            True,
        )
        grad_qk[rows, :heads], grad_qk[rows, heads:] = dq[0].transpose(0, 1), dk[0].transpose(0, 1)
        grad_v[rows] = dv[0].transpose(0, 1)
    return grad_qk, grad_v
