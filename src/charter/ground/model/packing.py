"""Weights repacked for inference, and how a change of the weights is noticed.

An optimizer step must never be followed by sampling from old weights. Version counters see most writes, but
fused optimizers do not count theirs, so values sampled from every weight are compared as well: 64 of each,
about a tenth of a millisecond for a hundred weights, once a prefill.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from charter.ground.model.linear import Projection, pack

_SAMPLES = 64


class PackedWeights:
    """The packed copies of all projections (kept in `Projection.packed`), in `dtype`, and of the head (`head`).

    The head stays float32: rounded logits would be another distribution to sample from.
    """

    def __init__(
        self, projections: Sequence[Projection], head_VD: Tensor, dtype: torch.dtype = torch.float32
    ) -> None:
        self._projections = projections
        self._watched = [Watch([head_VD]), Watch(_weights(projections))]
        self._adapters = self._adapter_state()
        self.head = pack(head_VD)
        for projection in projections:
            projection.packed = pack(projection.effective(), dtype)

    def fresh(self, head_VD: Tensor) -> bool:
        """Whether every weight is what was packed and the same adapters are on."""
        if self._adapters != self._adapter_state() or not self.head_fresh(head_VD):
            return False
        return self._watched[1].same(_weights(self._projections))

    def head_fresh(self, head_VD: Tensor) -> bool:
        """Whether the head is what was packed."""
        return self._watched[0].same([head_VD])

    def drop(self) -> None:
        """Free the packed copies."""
        self.head = None
        for projection in self._projections:
            projection.packed = None

    def _adapter_state(self) -> list[bool | None]:
        return [None if p.adapter is None else p.adapter.active for p in self._projections]


class Watch:
    """Version counters, addresses and sampled values of some weights at one time."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._state = _state(weights)
        # Views into the weights, which show later writes; valid while the addresses are the same.
        flat = [w.detach().reshape(-1) for w in weights]
        self._views = [w[:: max(1, w.numel() // _SAMPLES)] for w in flat]
        self._values = torch.cat(self._views)

    def same(self, weights: Sequence[Tensor]) -> bool:
        """Whether these are the same weights, unchanged."""
        return self._state == _state(weights) and torch.equal(self._values, torch.cat(self._views))


def _state(weights: Sequence[Tensor]) -> tuple[int, int, int]:
    return len(weights), sum(w._version for w in weights), sum(w.data_ptr() for w in weights)


def _weights(projections: Sequence[Projection]) -> list[Tensor]:
    result: list[Tensor] = []
    for projection in projections:
        result.append(projection.weight)
        if projection.adapter is not None:
            result += projection.adapter.parameters()
    return result
