"""Which weights of a model a stage moves: all, those of the upper layers, or adapters (Hu 2021)."""

from __future__ import annotations

from charter.ground.artifact.errors import CharterError
from charter.ground.model.lora import add_lora
from charter.ground.model.transformer import Transformer
from charter.ground.settings.frozen import Moved


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
