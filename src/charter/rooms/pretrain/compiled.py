"""Compiled blocks: norms, products, rotation and feed-forward of each block as fused kernels, attention left as it is.

A block is compiled in its two halves around attention, which depends on the layout of the row and would be recompiled
for each. The halves are compiled once, for rows of any length and for all blocks (regional compilation). On GPUs this
saves launches and passes over memory. On CPUs it doesn't speed up the products, which are nearly all of the work, and
costs a minute at the start.
"""

from __future__ import annotations

import torch

from charter.ground.model.transformer import Transformer

HALVES = ("before", "after")


def compile_blocks(model: Transformer, backend: str = "inductor") -> None:
    """Compile the blocks of a model in place. Call it after sharding; later copies of the model would compute with this
    one's weights."""
    for block in model.blocks():
        for name in HALVES:
            half = getattr(block, name)
            setattr(block, name, torch.compile(half, dynamic=True, fullgraph=True, backend=backend))
