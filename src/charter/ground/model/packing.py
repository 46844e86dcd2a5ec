"""Weights repacked for inference, and how changes of the weights are detected.

After an optimizer step no sample may come from old weights. Version counters see most writes, but fused optimizers
do not count theirs. So 64 values of every weight are compared too: about a tenth of a millisecond for a hundred
weights, once a prefill.

For int8: a few channels of the normed states are far larger than the rest, and rounding to their range would cost the
rest its digits. So, before rounding, each channel k of a norm is divided by h_k, and column k of the product behind it
is multiplied by h_k, which changes nothing in algebra (SmoothQuant, Xiao et al. 2023):
    h_k = sqrt(reach_k / max_m |W_mk|)    reach_k: the largest |state| of the channel over a few tokens
In a few layers the first token of a text becomes hundreds of times as large as the others, which all attend to it
(massive activations, Sun et al. 2024). In the products that create them, activations get two bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.model.int8 import BYTE, TWO_BYTES, Int8Weight
from charter.ground.model.linear import Packed, Projection, RmsNorm, pack

_SAMPLES = 64
_MASSIVE = 8.0


@dataclass(frozen=True)
class Site:
    """A product, the norm right before it, and the inputs of a few tokens: the largest size of each channel, and the
    largest token as a multiple of the median one."""

    projection: Projection
    norm: RmsNorm | None
    reach_K: Tensor
    largest: float


class PackedWeights:
    """The packed copies of all projections (kept in `Projection.packed`), in `precision`, and of the head (`head`).

    The head is more exact than the rest, because rounded logits would change the distribution of samples. It stays
    float32, or beside int8 it is int8 with activations of two bytes. `sites`: every projection, for int8.
    """

    def __init__(
        self, projections: Sequence[Projection], head_VD: Tensor, precision: str = "float32", sites: Sequence[Site] = ()
    ) -> None:
        self._projections, self._norms = projections, [site.norm for site in sites if site.norm is not None]
        self._watched = [Watch([head_VD]), Watch(self._weights())]
        self._adapters = self._adapter_state()
        self.head: Packed | None = None
        if precision == "int8":
            self.head = Int8Weight(head_VD.detach(), TWO_BYTES)
            for site in sites:
                _round(site)
            return
        self.head = pack(head_VD)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        for projection in projections:
            projection.packed = pack(projection.effective(), dtype)

    def fresh(self, head_VD: Tensor) -> bool:
        """Whether all weights and active adapters are the packed ones."""
        if self._adapters != self._adapter_state() or not self.head_fresh(head_VD):
            return False
        return self._watched[1].same(self._weights())

    def head_fresh(self, head_VD: Tensor) -> bool:
        """Whether the head is the packed one."""
        return self._watched[0].same([head_VD])

    def drop(self) -> None:
        """Free the packed copies."""
        self.head = None
        for projection in self._projections:
            projection.packed = None
        for norm in self._norms:
            norm.packed = None

    def _adapter_state(self) -> list[bool | None]:
        return [None if p.adapter is None else p.adapter.active for p in self._projections]

    def _weights(self) -> list[Tensor]:
        result: list[Tensor] = [norm.weight for norm in self._norms]
        for projection in self._projections:
            result.append(projection.weight)
            if projection.adapter is not None:
                result += projection.adapter.parameters()
        return result


def _round(site: Site) -> None:
    """Pack an int8 weight, and the norm before it, with the module's h_k between them (their mean logarithm is 0)."""
    weight, least = site.projection.effective(), torch.finfo(torch.float32).tiny ** 0.5
    if site.norm is not None:
        logs = (site.reach_K.clamp_min(least).log() - weight.abs().amax(0).clamp_min(least).log()) / 2
        h_K = (logs - logs.mean()).exp()
        site.norm.pack(site.norm.weight.detach() / h_K)
        weight = weight * h_K
    massive = site.norm is None and site.largest > _MASSIVE
    site.projection.packed = Int8Weight(weight, TWO_BYTES if massive else BYTE)


class Watch:
    """Version counters, addresses and sampled values of some weights at one time."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._state = _state(weights)
        # Views of the weights show later writes; they are valid while the addresses are the same.
        flat = [w.detach().reshape(-1) for w in weights]
        self._views = [w[:: max(1, w.numel() // _SAMPLES)] for w in flat]
        self._values = torch.cat(self._views)

    def same(self, weights: Sequence[Tensor]) -> bool:
        """Whether these are the same, unchanged weights."""
        return self._state == _state(weights) and torch.equal(self._values, torch.cat(self._views))


def _state(weights: Sequence[Tensor]) -> tuple[int, int, int]:
    return len(weights), sum(w._version for w in weights), sum(w.data_ptr() for w in weights)
