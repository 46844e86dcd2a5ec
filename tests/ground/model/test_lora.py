"""Adapters: off is the reference, merged is on, and only they learn."""

import pytest
import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import new_model
from charter.ground.model.layout import documents
from charter.ground.model.lora import TARGETS, adapter_off, add_lora, lora_parameters, merge_lora
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer

SHAPE = Shape(97, 32, 48, 2, 4, 2, 8, 64)
IDS = torch.arange(20)


def states(model: Transformer) -> Tensor:
    return model.hidden(IDS, documents([20]))


def adapted(targets: tuple[str, ...] = TARGETS) -> tuple[Transformer, Tensor]:
    model = new_model(SHAPE, 0)
    before = states(model).detach()
    add_lora(model, 3, 6.0, targets)
    assert torch.equal(states(model), before)
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return model, before


@pytest.mark.parametrize("targets", [TARGETS, ("q_proj", "v_proj"), ("k_proj",), ("up_proj",), ("o_proj",)])
def test_off_is_the_reference_and_merged_is_on(targets: tuple[str, ...]) -> None:
    model, before = adapted(targets)
    on = states(model).detach()
    assert not torch.allclose(on, before, atol=1e-3)
    with adapter_off(model):
        assert torch.equal(states(model), before)
        with adapter_off(model):
            assert torch.equal(states(model), before)
    assert torch.equal(states(model), on)
    merge_lora(model)
    assert torch.allclose(states(model), on, atol=1e-5)
    assert not lora_parameters(model) and all(p.requires_grad for p in model.parameters())


def test_the_formula_of_one_part() -> None:
    """delta = alpha / rank * B A on the rows of the part, nothing elsewhere."""
    model, _ = adapted(("k_proj",))
    projection = model.blocks()[0].qkv
    adapter = projection.adapter
    assert adapter is not None and list(adapter.up) == ["k_proj"]
    delta = projection.effective() - projection.weight
    assert torch.allclose(delta[32:48], 2.0 * adapter.up["k_proj"] @ adapter.down, atol=1e-6)
    assert not delta[:32].any() and not delta[48:].any()


def test_only_the_adapters_learn() -> None:
    model, _ = adapted()
    states(model).square().sum().backward()
    trainable = {id(p) for p in lora_parameters(model)}
    for parameter in model.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trainable)
    assert len(trainable) == 2 * (4 + 7)


def test_gradients_equal_those_of_the_merged_weights() -> None:
    model, _ = adapted(("q_proj", "v_proj"))
    weights = torch.randn(20, 32, generator=torch.Generator().manual_seed(2))
    (states(model) * weights).sum().backward()
    merged = new_model(SHAPE, 0)
    for projection, source in zip(merged.projections(), model.projections(), strict=True):
        projection.weight.data = source.effective()
    (states(merged) * weights).sum().backward()
    adapter, full = model.blocks()[1].qkv.adapter, merged.blocks()[1].qkv.weight.grad
    assert adapter is not None and full is not None
    for i, (name, rows) in enumerate({"q_proj": slice(0, 32), "v_proj": slice(48, 64)}.items()):
        down = adapter.down[3 * i : 3 * i + 3]
        assert torch.allclose(adapter.up[name].grad, 2.0 * full[rows] @ down.T, atol=1e-3)
        assert torch.allclose(adapter.down.grad[3 * i : 3 * i + 3], 2.0 * adapter.up[name].T @ full[rows], atol=1e-3)


def test_refusals() -> None:
    model, _ = adapted()
    with pytest.raises(CharterError, match="adapters already"):
        add_lora(model, 2, 2.0)
    with pytest.raises(CharterError, match="expected some of q_proj"):
        add_lora(new_model(SHAPE, 0), 2, 2.0, ("query",))
    with pytest.raises(CharterError, match="rank is 0"):
        add_lora(new_model(SHAPE, 0), 0, 2.0)
