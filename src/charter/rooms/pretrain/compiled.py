"""Compiled blocks: norms, products, rotation and feed-forward of each block as fused kernels, attention left as it is.

A block is compiled in its two halves around attention, which looks at the layout of the row and so would be compiled
anew for each. The halves are compiled once, for rows of any length and for all blocks alike (regional compilation).
On GPUs this saves launches and passes over memory; on CPUs it changes nothing in the products, which are nearly all of
the work, and costs a minute at the start.
"""

from __future__ import annotations

import torch

from charter.ground.model.transformer import Transformer

HALVES = ("before", "after")


def compile_blocks(model: Transformer, backend: str = "inductor") -> None:
    """From now on the model learns by compiled blocks. Call it once weights are sharded; copies of the model that are
    made later would compute with this one's weights."""
    for block in model.blocks():
        for name in HALVES:
            half = getattr(block, name)
            setattr(block, name, torch.compile(half, dynamic=True, fullgraph=True, backend=backend))
