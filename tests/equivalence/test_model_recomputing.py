"""Long rows learn by the lean block: the same loss and gradients as the plain one, and far less kept for backward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from charter.ground.learn.loss import cross_entropy_sum
from charter.ground.model import recomputing
from charter.ground.model.layout import Layout, documents, tree
from charter.ground.model.lora import add_lora
from charter.ground.model.transformer import Block, Transformer
from toys import SHAPE, model

SHAPES = {
    "grouped": SHAPE,
    "alone": replace(SHAPE, num_kv_heads=4),
    "normed": replace(SHAPE, qk_norm=True, family="qwen3", head_dim=16),
    "biased": replace(SHAPE, qkv_bias=True, o_bias=True, tied=False),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputing, "PIECE", 7)
    monkeypatch.setattr(recomputing, "LONG", 4)


def learn_row(decoder: Transformer, layout: Layout, recompute: bool) -> tuple[float, dict[str, Tensor]]:
    decoder.recompute = recompute
    decoder.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 400, (len(layout),), generator=generator)
    targets = torch.randint(0, 400, (len(layout),), generator=generator)
    states = decoder.hidden(ids, layout)
    loss = cross_entropy_sum(states, decoder.head_weight(), targets, torch.full((len(ids),), 1 / len(ids)))
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("lengths", [[40], [5, 31, 1, 9]])
def test_equals_the_plain_block(name: str, lengths: list[int]) -> None:
    decoder, layout = model(shape=SHAPES[name], scale=4.0), documents(lengths)
    plain, wanted = learn_row(decoder, layout, False)
    loss, grads = learn_row(decoder, layout, True)
    assert loss == pytest.approx(plain, abs=1e-6)
    assert grads.keys() == wanted.keys()
    for key, grad in wanted.items():
        assert (grads[key] - grad).abs().max() <= 2e-6 * max(1.0, grad.abs().max().item()), key


def test_equals_it_with_adapters_over_frozen_weights() -> None:
    decoder, layout = model(), documents([33])
    add_lora(decoder, rank=2, alpha=4.0, seed=0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    (plain, wanted), (loss, grads) = learn_row(decoder, layout, False), learn_row(decoder, layout, True)
    assert loss == pytest.approx(plain, abs=1e-6)
    assert grads.keys() == wanted.keys()
    assert all(torch.allclose(grads[key], wanted[key], atol=2e-6) for key in wanted)


def test_equals_it_in_bfloat16_within_its_rounding() -> None:
    decoder, layout = model(scale=3.0), documents([40])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (plain, wanted), (loss, grads) = learn_row(decoder, layout, False), learn_row(decoder, layout, True)
    assert loss == pytest.approx(plain, abs=0.02)
    for key, grad in wanted.items():
        assert (grads[key] - grad).norm() <= 0.05 * grad.norm() + 1e-6, key


def test_gradients_of_a_block_by_finite_differences() -> None:
    block, layout = (model(shape=replace(SHAPE, hidden_size=8, head_dim=4)).blocks()[0].double(), documents([9]))
    angles = torch.rand(9, 1, 2, dtype=torch.float64)
    cos_sin = torch.cat((angles.cos(),) * 2, -1), torch.cat((-angles.sin(), angles.sin()), -1)
    x = torch.randn(9, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda args: recomputing.apply_block(block, args, cos_sin, layout), (x,))


def test_what_is_kept_is_the_input_and_the_output_of_attention() -> None:
    decoder, layout = model(), documents([512])
    decoder.recompute = True
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        decoder.hidden(torch.zeros(512, dtype=torch.int64), layout)
    floats = sum(kept.values()) / 4 / 512
    width, heads, d, layers = SHAPE.hidden_size, SHAPE.num_heads, SHAPE.head_dim, SHAPE.num_layers
    ends = 2 * width + 1 + 2  # the final norm keeps its input, that over its root, the root; the embedding its ids
    assert floats <= layers * (width + heads * d + heads) + ends


def test_other_layouts_and_short_documents_take_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    plain = Block.forward

    def watch(self: Block, *args: object) -> object:
        calls.append(args[3] if len(args) > 3 else None)
        return plain(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Block, "forward", watch)
    decoder = model()
    decoder.recompute = True
    for layout, long in ((tree(9, [4, 3]), False), (documents([3, 2]), False), (documents([12]), True)):
        calls.clear()
        decoder.hidden(torch.zeros(len(layout), dtype=torch.int64), layout)
        assert [call is not None for call in calls] == [long] * SHAPE.num_layers
