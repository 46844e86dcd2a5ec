"""Which weights of a model a stage moves: all, those of the upper layers, or low-rank adapters (Hu et al. 2021).

    W + alpha / rank * B A, with B zero at first

The adapted model with its adapters off is the reference model, so reinforcement learning needs no second copy. The
formula and the A and B of each part (`q_proj`, `gate_proj`, ...) are the usual ones, although the parts of one
projection are computed together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from charter.ground.artifact.errors import CharterError
from charter.ground.model.linear import Adapter
from charter.ground.model.transformer import Transformer
from charter.ground.settings.frozen import Moved

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add_lora(
    model: Transformer, rank: int, alpha: float, targets: Sequence[str] = TARGETS, seed: int = 0
) -> list[nn.Parameter]:
    """Give the target parts of every layer an adapter and freeze the rest; return the trainable parameters.

    Raises CharterError for an unknown target, a rank below 1 or a model that has adapters already.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise CharterError(f"LoRA targets {unknown or 'are empty'}; expected some of {', '.join(TARGETS)}")
    if rank < 1:
        raise CharterError(f"LoRA rank is {rank}; expected at least 1")
    if lora_parameters(model):
        raise CharterError("the model has adapters already; merge them first")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for projection in model.projections():
        parts = {name: place for name, place in projection.parts.items() if name in targets}
        if not parts:
            continue
        inputs = projection.weight.shape[1]
        adapter = Adapter(inputs, parts, rank, alpha / rank)
        with torch.no_grad():
            # Uniform within 1 / sqrt(inputs): the Kaiming bound of the original code.
            noise = torch.rand(adapter.down.shape, generator=generator)
            adapter.down.copy_((noise * 2 - 1) / math.sqrt(inputs))
        projection.adapter = adapter.to(device=model.device, dtype=model.dtype)
    return lora_parameters(model)


def lora_parameters(model: Transformer) -> list[nn.Parameter]:
    """The adapters' parameters, in layer order; [] without adapters."""
    adapters = [projection.adapter for projection in model.projections() if projection.adapter is not None]
    return [parameter for adapter in adapters for parameter in adapter.parameters()]


@contextmanager
def adapter_off(model: Transformer) -> Iterator[Transformer]:
    """Inside, the adapters are off: the model is the reference model. Without adapters it changes nothing."""
    adapters = [projection.adapter for projection in model.projections() if projection.adapter is not None]
    before = [adapter.active for adapter in adapters]
    for adapter in adapters:
        adapter.active = False
    try:
        yield model
    finally:
        for adapter, active in zip(adapters, before, strict=True):
            adapter.active = active


@torch.no_grad()
def merge_lora(model: Transformer) -> None:
    """Add the adapters to the weights and remove them; every parameter is trainable again."""
    for projection in model.projections():
        if projection.adapter is not None:
            projection.weight.copy_(projection.adapter.merge(projection.weight))
            projection.adapter = None
    model.requires_grad_(True)


def choose_weights(model: Transformer, moved: Moved, seed: int) -> None:
    """Freezes the weights that the settings don't move; `seed` is that of new adapters.

    Raises CharterError if no layer is left to learn.
    """
    if moved.lora:
        add_lora(model, moved.lora.rank, moved.lora.alpha, seed=seed)
        return
    layers = model.shape.num_layers
    if moved.frozen_layers >= layers:
        raise CharterError(
            f"frozen_layers is {moved.frozen_layers} and the model has {layers} layers; leave one or more to learn"
        )
    if moved.frozen_layers:
        model.embed.requires_grad_(False)
        for block in list(model.blocks())[: moved.frozen_layers]:
            block.requires_grad_(False)
