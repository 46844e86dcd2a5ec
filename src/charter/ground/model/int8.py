"""Products of int8 weights on a CPU, for inference: activations rounded row by row, sums exact in integers.

    W_mk ~ c_m Q_mk       c_m = max_k |W_mk| / 127, Q in -127..127
    x_k ~ s (u_k - z)
    y_m = s c_m (sum_k u_k Q_mk - z sum_k Q_mk)

BYTE         s = (hi - lo) / 255, z = round(-lo / s), u = round(x / s + z) in 0..255,
             lo = min(0, min_k x_k), hi = max(0, max_k x_k)
TWO_BYTES    s = max_k |x_k| / 32767, z = 32768, u = round(x / s) + z in 1..65535: two rows of the same product

Each row has its own s and z, and integer sums are exact in any order: no row depends on those beside it.

A single row in one byte goes to torch's dynamic product instead, which does all of the above in one call: with one row
the calls cost most. It must round in the same way, to the bit; this is checked before its first use.

Letters: N rows, K inputs, M outputs.
"""

import warnings
from functools import cache

import torch
from torch import Tensor

BYTE, TWO_BYTES = 255, 65535
_TINY = torch.finfo(torch.float32).tiny
_FINEST = 6.1e-5  # the smallest step of a byte in the dynamic product
_MIDDLE = 2**15


class Int8Weight:
    """A weight as int8, packed; activations are rounded to `levels` (BYTE or TWO_BYTES)."""

    def __init__(self, weight_MK: Tensor, levels: int = BYTE) -> None:
        self.levels = levels
        self.scale_M = weight_MK.abs().amax(1).div_(127).clamp_min_(_TINY)
        rounded = (weight_MK / self.scale_M[:, None]).round_().to(torch.int8)
        self.sum_M = rounded.sum(1, dtype=torch.float32)
        self._packed: Tensor = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._ones, self._zeros = (torch.ones_like(self.scale_M), torch.zeros_like(self.scale_M, dtype=torch.int))
        self._single = _dynamic(rounded, self.scale_M) if levels == BYTE and single_row_agrees() else None

    def product(self, x_NK: Tensor) -> Tensor:
        """x @ weight.T -> [N, M] in float32, up to the rounding of both."""
        n, k = x_NK.shape
        if n == 1 and self._single is not None:
            result: Tensor = torch.ops.quantized.linear_dynamic(x_NK, self._single, False)
            return result
        if not n:
            return x_NK.new_empty(0, len(self.scale_M))
        if self.levels == BYTE:
            u_NK, step_N1, zero_N1 = round_rows(x_NK)
            sums_NM = self.sums(u_NK.to(torch.uint8)).addcmul_(zero_N1, self.sum_M, value=-1)
        else:
            u_NK, step_N1 = round_widely(x_NK)
            low_high = u_NK.to(torch.uint16).view(torch.uint8).view(n, k, 2).permute(2, 0, 1)
            both = self.sums(low_high.reshape(2 * n, k))
            sums_NM = torch.add(both[:n], both[n:], alpha=256).sub_(self.sum_M, alpha=_MIDDLE)
        return sums_NM.mul_(step_N1 * self.scale_M)

    def sums(self, u_NK: Tensor) -> Tensor:
        """sum_k u Q of bytes u -> [N, M], integers as float32."""
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            u_NK, 1.0, 0, self._packed, self._ones, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return result


def round_rows(x_NK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(u [N, K], s [N, 1], z [N, 1]) of a byte, as float32; step by step as the dynamic product."""
    low = x_NK.amin(-1, keepdim=True).clamp_max_(0)
    natural = (x_NK.amax(-1, keepdim=True).clamp_min_(0).double() - low).div_(BYTE).float()
    zero = low.double().div_(natural.clamp_min_(_TINY)).neg_().round_().float()
    step = natural.clamp_min_(_FINEST)
    return torch.addcmul(zero, x_NK, step.reciprocal()).round_().clamp_(0, BYTE), step, zero


def round_widely(x_NK: Tensor) -> tuple[Tensor, Tensor]:
    """(u [N, K], s [N, 1]) of two bytes, as float32."""
    step = torch.linalg.vector_norm(x_NK, torch.inf, -1, True).div_(_MIDDLE - 1).clamp_min_(_TINY)
    return (x_NK / step).round_().add_(_MIDDLE), step


def _dynamic(rounded_MK: Tensor, scale_M: Tensor) -> torch.ScriptObject:
    """The weight in the form of the dynamic product."""
    with warnings.catch_warnings():
        # torch plans to drop such tensors; then one row takes more calls
        warnings.simplefilter("ignore")
        weight = torch._make_per_channel_quantized_tensor(
            rounded_MK, scale_M.double(), torch.zeros(len(scale_M), dtype=torch.long), 0
        )
        result: torch.ScriptObject = torch.ops.quantized.linear_prepack(weight, None)
    return result


@cache
def multiplies_int8() -> bool:
    """Whether torch multiplies int8 here, and exactly: processors without instructions for it add pairs of products in
    16 bits, which overflow."""
    try:
        sums = Int8Weight(torch.full((16, 64), 127.0), TWO_BYTES).sums(torch.full((2, 64), 255, dtype=torch.uint8))
    except (AttributeError, RuntimeError):
        return False
    return bool((sums == 255 * 127 * 64).all())


@cache
def single_row_agrees() -> bool:
    """Whether torch's dynamic product of one row exists here and gives the same bits as the product of several rows."""
    draw = torch.Generator().manual_seed(0)
    rounded = torch.randint(-127, 128, (48, 64), generator=draw).to(torch.int8)
    x = torch.randn(16, 64, generator=draw) * torch.logspace(-4, 2, 16)[:, None]
    scale = torch.rand(48, generator=draw) + 0.5
    u, step, zero = round_rows(x)
    sums = (u.double() - zero) @ rounded.double().t()
    try:
        single = _dynamic(rounded, scale)
        rows = [torch.ops.quantized.linear_dynamic(row, single, False) for row in torch.split(x, 1)]
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(torch.cat(rows), sums.float() * (step * scale))
