"""Leave-one-out advantages: a reply is compared with the other replies to its prompt, so no critic is needed.

    A_i = R_i - 1/(k-1) Σ_{j≠i} R_j,    R_i = s_i - λ Σ_t KL_{i,t}    of k replies; one A for all tokens of a reply

The mean of the others depends on no action of reply i, so the policy gradient stays unbiased. If KL is charged by
token instead, a token counts only the KL from itself on, less the others' mean from that place on.

Sources: Kool 2019 (Buy 4 REINFORCE Samples, Get a Baseline for Free); Ahmadian 2024 (2402.14740), section 3.

Shape letters: N reply tokens of a round, laid end to end; K replies of one prompt; L tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

import torch
from torch import Tensor


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """Each reward less the mean of the others; exactly 0 if all are equal. Needs at least two."""
    return [fsum(reward - other for other in rewards) / (len(rewards) - 1) for reward in rewards]


def advantages_of_others(
    scores: Sequence[float], kl_N: Tensor, lengths: Sequence[int], replies: int, lam: float, per_token: bool
) -> Tensor:
    """Advantages [N] of rounds in which each `replies` successive replies share a prompt."""
    kl_by_reply = torch.split(kl_N, list(lengths))
    rows: list[Tensor] = []
    for start in range(0, len(scores), replies):
        indices = range(start, start + replies)
        charged = [0.0 if per_token else lam * float(kl_by_reply[i].double().sum()) for i in indices]
        advantages = leave_one_out([scores[i] - charge for i, charge in zip(indices, charged, strict=True)])
        for_reply = [torch.full_like(kl_by_reply[i], value) for i, value in zip(indices, advantages, strict=True)]
        if per_token:
            later = _kl_to_come([kl_by_reply[i] for i in indices])
            for_reply = [row - lam * kl_R[: len(row)] for row, kl_R in zip(for_reply, later, strict=True)]
        rows += for_reply
    return torch.cat(rows)


def _kl_to_come(kl_by_reply: Sequence[Tensor]) -> Tensor:
    """KL from each token on, less the others' mean from that place on, [K, L]; after a reply's end it is 0."""
    kl_KL = torch.nn.utils.rnn.pad_sequence(list(kl_by_reply), batch_first=True)
    later_KL = kl_KL.flip(1).cumsum(1).flip(1)
    return later_KL - (later_KL.sum(0) - later_KL) / (len(kl_by_reply) - 1)
