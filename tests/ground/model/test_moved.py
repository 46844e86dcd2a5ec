"""Frozen layers: what they keep, what the others learn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.supervised import Row, accumulate, anchor
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.lora import choose_weights
from charter.ground.settings.frozen import Lora, Moved

ROWS = [
    Row(f"r{n}", [1, *range(5 + n, 12 + n)], [False, False, False, True, True, True, True, True], 1.0) for n in range(3)
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


def test_the_start_reads_what_frozen_layers_made_and_computes_none_of_them_itself(checkpoints: Path) -> None:
    prompts = [Row(f"p{n}", [1, 2, *range(30 + n, 36 + n)], [0] * 8, 1.0) for n in range(3)]
    learnt = [Row(f"l{n}", [1, *range(5 + n, 12 + n)], [0, 0, 0, 1, 1, 1, 1, 1], 1.0) for n in range(2)]
    rows = [prompts[0], *learnt[:1], *prompts[1:], *learnt[1:]]
    anchored = anchor(prompts)
    rows = [anchored[int(row.id[1:])] if row in prompts else row for row in rows]

    def step(shared: int, spoilt: bool) -> tuple[float, dict[str, torch.Tensor]]:
        model, _ = load_policy(checkpoints / "policy")
        start, _ = load_policy(checkpoints / "policy")
        choose_weights(model, Moved(frozen_layers=1), 0)
        with torch.no_grad():
            for parameter in model.blocks()[1].parameters():
                parameter.mul_(1.3)  # or there is nothing to be held back
            if spoilt:
                for parameter in start.blocks()[0].parameters():
                    parameter.fill_(torch.nan)
        loss, _ = accumulate(model, rows, 256, "float32", start=start, frozen=shared)
        return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    (alone, expected), (loss, gradients) = step(0, False), step(1, True)
    assert loss == pytest.approx(alone, abs=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4)


def test_a_layer_must_be_left_and_there_is_one_way_at_a_time(checkpoints: Path) -> None:
    model, _ = load_policy(checkpoints / "policy")
    layers = model.shape.num_layers
    with pytest.raises(CharterError, match=f"frozen_layers is {layers} and the model has {layers} layers"):
        choose_weights(model, Moved(frozen_layers=layers), 0)
    with pytest.raises(ValidationError, match="lora freezes all layers already"):
        Moved(lora=Lora(), frozen_layers=1)
