"""Scalar heads on the decoder's states: the preference model's score and the policy's value estimate.

Letters: N tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _exact(hidden_ND: Tensor, weight_1D: Tensor, bias_1: Tensor | None = None) -> Tensor:
    """[N] in the weight's own precision, also under autocast: one output costs nothing, and rounding harms it."""
    with torch.autocast(hidden_ND.device.type, enabled=False):
        scores_N1 = F.linear(hidden_ND.to(weight_1D.dtype), weight_1D, bias_1)
    return scores_N1[:, 0].clone()  # FSDP forbids a view as a module's output


class ScoreHead(nn.Module):
    """Linear D -> 1 without bias, as `...ForSequenceClassification` has it (a bias would cancel in comparisons).

    Zero at first: then all replies score alike and the first loss of a pair is log 2. With a seed it starts at
    N(0, 1 / (D + 1)), as in Stiennon 2020 (2009.01325): pairs must unlearn that noise, but ratings, which are no
    differences, are learnt sooner from it."""

    def __init__(self, hidden_size: int, seed: int | None = None) -> None:
        super().__init__()
        weight = torch.zeros(1, hidden_size)
        if seed is not None:
            noise = torch.randn(1, hidden_size, generator=torch.Generator().manual_seed(seed))
            weight = noise / (hidden_size + 1) ** 0.5
        self.weight = nn.Parameter(weight)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Scores [N] of states [N, D]."""
        return _exact(hidden_ND, self.weight)


class ValueHead(nn.Module):
    """Linear D -> 1, zero at first: the first advantages are the returns themselves."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, hidden_size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Values [N] of states [N, D]."""
        return _exact(hidden_ND, self.weight, self.bias)
