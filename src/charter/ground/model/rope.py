"""Rotary position embeddings and their scalings (Su et al. 2021; the conventions of Llama checkpoints).

    rotate(x)[i] = x[i] cos(p w_i) - x[i + d/2] sin(p w_i)        for the first half, and its mirror for the second
    w_i = theta^(-2i/d), changed by the scaling: linear, dynamic (NTK), llama3, yarn (Peng et al. 2023)

A window is enlarged by s = window / context in one of two ways; config.json tells other programs which:

    base    theta s^(d / (d - 2)): the slowest pair turns s times as slowly, the fastest as before (Xiong et al. 2023
            set the base by hand; this is the NTK-aware power)
    yarn    slow pairs turn s times as slowly, fast ones as before, with a ramp between; cos and sin times 0.1 ln s + 1

The product p w is computed in double precision if the device has it. In float32 it is off by up to 1/128 of a radian at
position 200,000, and differently at each position, so that equal distances would not look equal.

Letters: T tokens, H heads, d head size.
"""

import math
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model.shape import Shape

Method = Literal["base", "yarn"]


def _llama3(inv_freq: Tensor, scaling: dict[str, Any]) -> Tensor:
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    original = scaling["original_max_position_embeddings"]
    wavelength = 2 * math.pi / inv_freq
    slow = torch.where(wavelength > original / low, inv_freq / factor, inv_freq)
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * slow / factor + smooth * slow
    medium = ~(wavelength < original / high) & ~(wavelength > original / low)
    return torch.where(medium, blended, slow)


def _mscale(scale: float, mscale: float = 1.0) -> float:
    return 1.0 if scale <= 1 else 0.1 * mscale * math.log(scale) + 1.0


def _yarn(shape: Shape, scaling: dict[str, Any]) -> tuple[Tensor, float]:
    dim, base = shape.head_dim, shape.rope_theta
    original = scaling["original_max_position_embeddings"]
    factor = scaling.get("factor") or shape.max_positions / original
    attention = scaling.get("attention_factor")
    if attention is None:
        mscale, mscale_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
        if mscale and mscale_all:
            attention = _mscale(factor, mscale) / _mscale(factor, mscale_all)
        else:
            attention = _mscale(factor)

    def correction(rotations: float) -> float:
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = correction(scaling.get("beta_fast") or 32), correction(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if low == high else high
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    powers = base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    keep = 1 - ramp
    return (1.0 / (factor * powers)) * (1 - keep) + (1.0 / powers) * keep, float(attention)


def frequencies(shape: Shape) -> tuple[Tensor, float]:
    """(inverse frequencies [d/2], factor on cos and sin), equal to transformers 5.24 up to `shape.context`.

    "dynamic" equals the unscaled frequencies up to `max_positions`. Past that its frequencies depend on the length of
    the text, which neither a cache nor a shared prompt can follow: so the context ends there.
    """
    scaling = shape.rope_scaling or {"rope_type": "default"}
    kind = scaling["rope_type"]
    if kind == "yarn":
        return _yarn(shape, scaling)
    inv_freq = 1.0 / (shape.rope_theta ** (torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim))
    if kind == "linear":
        inv_freq = inv_freq / scaling["factor"]
    if kind == "llama3":
        inv_freq = _llama3(inv_freq, scaling)
    return inv_freq, 1.0


def enlarge(shape: Shape, window: int, method: Method = "base", base: float | None = None) -> Shape:
    """The shape of the same weights for texts of `window` tokens. `base`: RoPE's base, instead of that of the rule.

    Raises CharterError if the window is no larger, or the scaling of the model's positions can't be enlarged.
    """
    if window <= shape.context:
        raise CharterError(
            f"a window of {window} is no larger than this model's context of {shape.context}; name a larger one"
        )
    if shape.sliding_window is not None:
        raise CharterError("a model with a sliding window can't be enlarged; start from one without")
    scaling = shape.rope_scaling or {}
    kind = scaling.get("rope_type", "default")
    if kind not in ("default", "yarn") or (kind == "yarn" and method != "yarn"):
        raise CharterError(
            f"positions of this model are scaled by {kind!r} already; {method!r} can't enlarge them further"
        )
    if method == "yarn":
        original = scaling.get("original_max_position_embeddings", shape.max_positions)
        new = {**scaling, "rope_type": "yarn", "original_max_position_embeddings": original}
        return replace(shape, max_positions=window, rope_scaling={**new, "factor": window / original})
    d = shape.head_dim
    theta = base or shape.rope_theta * (window / shape.context) ** (d / (d - 2) if d > 2 else 1.0)
    return replace(shape, max_positions=window, rope_theta=theta)


def tables(positions_T: Tensor, inv_freq: Tensor, factor: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(cos, signed sin), each [T, 1, d], for `rotate`. The first half of the sine carries the minus sign."""
    exact = torch.float32 if inv_freq.device.type == "mps" else torch.float64
    angles = positions_T[:, None].to(exact) * inv_freq.to(exact)
    cos, sin = angles.cos().mul_(factor).to(dtype), angles.sin().mul_(factor).to(dtype)
    cos_Td, sin_Td = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
    return cos_Td[:, None], sin_Td[:, None]


def rotate(x_THd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate every head of every token, by only three kernels: this matters for decoding token by token."""
    return torch.addcmul(x_THd * cos, x_THd.roll(x_THd.shape[-1] // 2, -1), sin)
