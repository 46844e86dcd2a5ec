"""Frozen layers: what they keep, what the others learn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.supervised import Row, accumulate
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.moved import choose_weights
from charter.ground.settings.frozen import Lora, Moved

ROWS = [
    Row(f"r{n}", [1, *range(5 + n, 12 + n)], [False, False, False, True, True, True, True, True], 1.0)
    for n in range(3)
]


def _gradients(folder: Path, frozen_layers: int) -> dict[str, torch.Tensor | None]:
    model, _ = load_policy(folder)
    choose_weights(model, Moved(frozen_layers=frozen_layers), 0)
    accumulate(model, ROWS, 256, "float32")
    return {name: p.grad for name, p in model.named_parameters()}


def test_upper_layers_learn_what_they_would_and_lower_ones_nothing(checkpoints: Path) -> None:
    whole, upper = _gradients(checkpoints / "policy", 0), _gradients(checkpoints / "policy", 1)
    still = {name for name, gradient in upper.items() if gradient is None}
    assert still == {n for n in whole if n == "embed" or n.startswith("layers.0.")}
    for name in whole.keys() - still:
        assert torch.equal(upper[name], whole[name]), name  # type: ignore[arg-type]


def test_a_layer_must_be_left_and_there_is_one_way_at_a_time(checkpoints: Path) -> None:
    model, _ = load_policy(checkpoints / "policy")
    layers = model.shape.num_layers
    with pytest.raises(CharterError, match=f"frozen_layers is {layers} and the model has {layers} layers"):
        choose_weights(model, Moved(frozen_layers=layers), 0)
    with pytest.raises(ValidationError, match="lora freezes all layers already"):
        Moved(lora=Lora(), frozen_layers=1)
