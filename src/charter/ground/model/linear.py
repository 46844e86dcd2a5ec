"""Matrix products of the decoder, the projections that own its weights, and the norm before every product.

    norm(x) = x / sqrt(mean(x^2) + eps) * weight        (Zhang & Sennrich 2019)

On a CPU in float32 the products go to oneDNN, forward and backward. MKL, torch's default, takes a slow path on AMD
processors (half the speed) and is equally fast on Intel's. For inference a weight is also repacked once per version
into oneDNN's blocked form, which is 1.3 to 2 times as fast again at 1 to 128 rows, and 1.6 to 1.9 times as fast once
more in bfloat16, if the settings ask for it. int8 has a file of its own.

Query, key and value share one matrix, and so do gate and up: one product each, in training and in inference, without
a second copy to keep equal. Letters: N rows, K inputs, M outputs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charter.ground.model.int8 import Int8Weight

Packed = Tensor | Int8Weight
_ONEDNN: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether to call oneDNN directly. Under autocast torch itself calls it in bfloat16, and compiled code chooses its
    own products."""
    exact = x.dtype is torch.float32 and weight.dtype is torch.float32 and x.device.type == "cpu"
    return _ONEDNN and exact and not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def product(x_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias -> [N, M], outside autograd. `weight` may be strided (a transpose)."""
    if x_NK.shape[0] and _onednn(x_NK, weight_MK):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x_NK, weight_MK, bias_M, "none", [], "")
        return result
    return F.linear(x_NK, weight_MK, bias_M)


class _Linear(torch.autograd.Function):
    """`product` with its two products backward: dx = g W, dW = g' x."""

    @staticmethod
    def forward(ctx: Any, x_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_NK, weight_MK)
        return product(x_NK, weight_MK, bias_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad_NM,) = grads
        x_NK, weight_MK = ctx.saved_tensors
        grad_NM = grad_NM.contiguous()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = product(grad_NM, weight_MK.t()) if needs_x else None
        grad_weight = product(grad_NM.t(), x_NK.t()) if needs_weight else None
        return grad_x, grad_weight, grad_NM.sum(0) if needs_bias else None


def linear(x_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias -> [N, M], differentiable once."""
    if not _onednn(x_NK, weight_MK):
        return F.linear(x_NK, weight_MK, bias_M)
    if torch.is_grad_enabled() and (x_NK.requires_grad or weight_MK.requires_grad):
        result: Tensor = _Linear.apply(x_NK, weight_MK, bias_M)  # type: ignore[no-untyped-call]
        return result
    return product(x_NK, weight_MK, bias_M)


def pack(weight_MK: Tensor, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """The weight in oneDNN's blocked form and in `dtype`, or None if that form does not exist (another device,
    or weights that are not float32). If oneDNN has no bfloat16 for this CPU, it is float32."""
    weight_MK = weight_MK.detach()
    if not _onednn(weight_MK, weight_MK):
        return None
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtype = torch.float32
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_MK.to(dtype), 32)
    return packed


def packed_product(x_NK: Tensor, packed_MK: Packed, bias_M: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias -> [N, M] in float32, outside autograd, by a packed weight in its own precision."""
    if isinstance(packed_MK, Int8Weight):
        y_NM = packed_MK.product(x_NK)
        return y_NM if bias_M is None else y_NM.add_(bias_M)
    narrow, bias_M = x_NK.to(packed_MK.dtype), None if bias_M is None else bias_M.to(packed_MK.dtype)
    # oneDNN sums a single row in another order. Doubled, it costs the same and has the same bits as in a batch.
    rows = narrow.expand(2, -1).contiguous() if len(narrow) == 1 else narrow
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, packed_MK, bias_M, "none", [], "")
    return result[: len(narrow)].to(x_NK.dtype)


class Adapter(nn.Module):
    """LoRA (Hu et al. 2021) of the parts of one projection: delta W_p = alpha / rank * B_p A_p, B_p zero at
    first.

    `parts`: the adapted parts and their (first output, outputs). The A of all parts are stacked: one product computes
    them.
    """

    def __init__(self, in_features: int, parts: Mapping[str, tuple[int, int]], rank: int, scale: float) -> None:
        super().__init__()
        self.rank, self.scale, self.active = rank, scale, True
        self.parts = dict(parts)
        self.down = nn.Parameter(torch.empty(rank * len(parts), in_features))
        self.up = nn.ParameterDict({name: torch.zeros(size, rank) for name, (_, size) in parts.items()})

    def add(self, x_NK: Tensor, y_NM: Tensor) -> Tensor:
        """y + scale * (x A') B', part by part."""
        low = linear(x_NK, self.down) * self.scale
        deltas, at = [], 0
        for i, (name, (start, size)) in enumerate(self.parts.items()):
            if start > at:
                deltas.append(low.new_zeros(low.shape[0], start - at))
            deltas.append(linear(low[:, i * self.rank : (i + 1) * self.rank].contiguous(), self.up[name]))
            at = start + size
        if at < y_NM.shape[1]:
            deltas.append(low.new_zeros(low.shape[0], y_NM.shape[1] - at))
        return y_NM + (torch.cat(deltas, 1) if len(deltas) > 1 else deltas[0])

    @torch.no_grad()
    def merge(self, weight_MK: Tensor) -> Tensor:
        """W + delta W, a new tensor."""
        result = weight_MK.detach().clone()
        for i, (name, (start, size)) in enumerate(self.parts.items()):
            delta = self.up[name] @ self.down[i * self.rank : (i + 1) * self.rank]
            result[start : start + size] += self.scale * delta
        return result


class Projection(nn.Module):
    """One weight matrix of the decoder: named parts (`q_proj`, `k_proj`, ...) stacked along its outputs."""

    def __init__(self, in_features: int, parts: Mapping[str, int], bias: bool = False) -> None:
        super().__init__()
        total = sum(parts.values())
        self.weight = nn.Parameter(torch.empty(total, in_features))
        self.bias = nn.Parameter(torch.empty(total)) if bias else None
        self.adapter: Adapter | None = None
        self.packed: Packed | None = None
        self.parts: dict[str, tuple[int, int]] = {}
        at = 0
        for name, size in parts.items():
            self.parts[name] = (at, size)
            at += size

    def forward(self, x_NK: Tensor) -> Tensor:
        """The exact product with the present weights, with gradients."""
        y_NM = linear(x_NK, self.weight, self.bias)
        if self.adapter is not None and self.adapter.active:
            y_NM = self.adapter.add(x_NK, y_NM)
        return y_NM

    def infer(self, x_NK: Tensor) -> Tensor:
        """The same product without gradients, by the packed weight if there is one (see `Transformer.fuse`)."""
        if self.packed is None:
            return self.forward(x_NK)
        return packed_product(x_NK, self.packed, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the packed weight, which cannot be copied."""
        return {**self.__dict__, "packed": None}

    def effective(self) -> Tensor:
        """The weight that `forward` multiplies with: the adapter is merged if it is on."""
        if self.adapter is not None and self.adapter.active:
            return self.adapter.merge(self.weight)
        return self.weight.detach()


class RmsNorm(nn.Module):
    """x / rms(x) * weight. `packed`: the weight for inference (see `PackedWeights`)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps
        self.packed: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Over the last dimension, in the type of `x`: queries and keys are bfloat16 if products are, and torch has no
        fused kernel for a weight of another type."""
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)

    def infer(self, x: Tensor) -> Tensor:
        """The same without gradients, with the packed weight if there is one.

        The root is that of |x|^2 + size * eps, so that a packed weight holds the root of the size as well.
        """
        if self.packed is None:
            return self.forward(x)
        weight, small = self.packed
        return (x * weight).div_(torch.hypot(torch.linalg.vector_norm(x, 2, -1, True), small))

    def pack(self, weight: Tensor) -> None:
        """Set the weight for inference."""
        size = weight.numel()
        self.packed = weight * size**0.5, torch.tensor((size * self.eps) ** 0.5)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the packed weight."""
        return {**self.__dict__, "packed": None}
