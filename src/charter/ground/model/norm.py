"""The norm before every product of the decoder.

norm(x) = x / sqrt(mean(x^2) + eps) * weight        (Zhang & Sennrich 2019)
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
