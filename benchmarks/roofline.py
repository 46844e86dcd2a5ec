"""What a machine allows: floating-point operations that a task needs once, and how many a second its products reach.

Only matrix products and attention are counted, a multiplication and an addition as two. Norms, softmax, sampling and
all copying are not, so that no program can reach the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer
from charter.rooms.pretrain.speed import measure_peak


def reading(shape: Shape, places: Sequence[int]) -> float:
    """Operations to read tokens that stand at these places of their texts (from 0), without the head."""
    queries = shape.num_heads * shape.head_dim
    keys = shape.num_kv_heads * shape.head_dim
    weights = shape.hidden_size * (2 * queries + 2 * keys) + 3 * shape.hidden_size * shape.intermediate_size
    seen = sum(place + 1 for place in places)
    return 2.0 * shape.num_layers * (weights * len(places) + 2 * queries * seen)


def heading(shape: Shape, rows: int) -> float:
    """Operations to give rows of hidden states their logits."""
    return 2.0 * shape.vocab_size * shape.hidden_size * rows


def peak(size: int = 2048) -> float:
    """Operations a second of float32 products of square matrices, the faster of two libraries, at their best."""
    return measure_peak("cpu", torch.float32, 3.0, size)


def decoding(model: Transformer, rows: int) -> float:
    """Seconds of all products of one decoding step of so many texts, with this model's own packed weights."""
    model.fuse()
    states = [torch.rand(rows, p.weight.shape[1]) for p in model.projections()]
    last = torch.rand(rows, model.shape.hidden_size)

    def step() -> None:
        for projection, x in zip(model.projections(), states, strict=True):
            projection.infer(x)
        model.logits(last)

    return _best(step, 3.0)


@torch.inference_mode()
def _best(call: Callable[[], object], seconds: float) -> float:
    """The shortest of repeated calls."""
    call()
    found, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - started)
    return found
