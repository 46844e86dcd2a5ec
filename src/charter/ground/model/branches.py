"""Prompts and their replies as one flat row, and the rows that predict the replies' tokens.

Letters: T tokens of the row, N reply tokens among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.model.layout import Layout, join, tree


@dataclass(frozen=True, slots=True)
class Batch:
    """Flat row of some prompts: ids [T], layout, and for each reply token its predicting row [N] and its id [N]."""

    ids: Tensor
    layout: Layout
    predicts: Tensor
    targets: Tensor


def branches(prompts: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], device: torch.device | str) -> Batch:
    """Prompts once, replies as branches; the prompt's last token predicts a reply's first."""
    ids: list[int] = []
    predicts: list[int] = []
    targets: list[int] = []
    for prompt, replies in prompts:
        ids += prompt
        last = len(ids) - 1
        for reply in replies:
            start = len(ids)
            predicts += [last, *range(start, start + len(reply) - 1)]
            targets += reply
            ids += reply
    layout = join([tree(len(prompt), [len(reply) for reply in replies]) for prompt, replies in prompts])
    ids_T, predicts_N, targets_N = (
        torch.tensor(row, dtype=torch.int64, device=device) for row in (ids, predicts, targets)
    )
    return Batch(ids_T, layout.to(device), predicts_N, targets_N)
