"""A ragged row computes what each document computes alone, and a tree what its branches compute apart."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charter.ground.artifact.errors import CharterError
from charter.ground.model.attention import _attend_groups, _attend_paths
from charter.ground.model.checkpoint import new_model
from charter.ground.model.layout import Layout, documents, join, tree
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer

SHAPE = Shape(97, 32, 48, 2, 4, 2, 8, 256, qk_norm=True, family="qwen3", tied=False)


def model() -> Transformer:
    return new_model(SHAPE, 1)


def tokens(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed))


def gradients(model: Transformer, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("lengths", [[7], [5, 5, 5], [1, 40, 3, 41, 17, 3, 90], [100, 1]])
def test_ragged_row_is_each_document_alone(lengths: list[int]) -> None:
    decoder, row = model(), tokens(sum(lengths))
    weights = torch.randn(sum(lengths), 32, generator=torch.Generator().manual_seed(1))
    together = decoder.hidden(row, documents(lengths))
    alone = torch.cat([decoder.hidden(part, documents([len(part)])) for part in row.split(lengths)])
    assert torch.allclose(together, alone, atol=1e-5)
    for one, other in zip(
        gradients(decoder, (together * weights).sum()), gradients(decoder, (alone * weights).sum()), strict=True
    ):
        assert torch.allclose(one, other, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize(("prompt", "branches"), [(9, [4, 4]), (6, [30, 1, 7]), (60, [3, 5, 2]), (5, []), (40, [9])])
def test_tree_is_separate_documents(prompt: int, branches: list[int]) -> None:
    decoder = model()
    row = tokens(prompt + sum(branches))
    head, tails = row[:prompt], row[prompt:].split(branches) if branches else []
    weights = torch.randn(len(row), 32, generator=torch.Generator().manual_seed(1))
    together = decoder.hidden(row, tree(prompt, branches))
    if branches:
        whole = [torch.cat((head, tail)) for tail in tails]
        apart = decoder.hidden(torch.cat(whole), documents([len(part) for part in whole]))
        states = list(apart.split([len(part) for part in whole]))
        expected = torch.cat([states[0][:prompt], *(state[prompt:] for state in states)])
    else:
        expected = decoder.hidden(head, documents([prompt]))
    assert torch.allclose(together, expected, atol=1e-5)
    for one, other in zip(
        gradients(decoder, (together * weights).sum()), gradients(decoder, (expected * weights).sum()), strict=True
    ):
        assert torch.allclose(one, other, atol=2e-3, rtol=1e-4)


def test_joined_layouts_do_not_see_each_other() -> None:
    decoder = model()
    layouts = [documents([3, 20]), tree(50, [4, 30]), documents([8])]
    rows = [tokens(len(layout), seed) for seed, layout in enumerate(layouts)]
    together = decoder.hidden(torch.cat(rows), join(layouts))
    apart = torch.cat([decoder.hidden(row, layout) for row, layout in zip(rows, layouts, strict=True)])
    assert torch.allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize(
    "layout", [documents([10, 12, 15, 1, 60]), tree(60, [5, 9, 30]), join([tree(7, [3, 2]), documents([4])])]
)
def test_gathered_groups_equal_slices(layout: Layout) -> None:
    """What runs on a GPU against what runs on a CPU, with gradients."""
    generator = torch.Generator().manual_seed(0)
    qk = torch.randn(len(layout), 6, 8, generator=generator, requires_grad=True)
    v = torch.randn(len(layout), 2, 8, generator=generator, requires_grad=True)

    def kernel(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> tuple[Tensor, ...]:
        causal = visible is None
        return (F.scaled_dot_product_attention(q, k, v, visible, is_causal=causal, enable_gqa=True),)

    weights = torch.randn(len(layout), 4, 8, generator=generator)
    results = [_attend_paths(qk, v, layout, kernel)[0], _attend_groups(qk, v, layout.plan, kernel)[0]]
    assert torch.allclose(*results, atol=1e-6)
    grads = [torch.autograd.grad((result * weights).sum(), (qk, v)) for result in results]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_recomputed_gradients_are_equal() -> None:
    decoder, row, layout = model(), tokens(30), documents([10, 20])
    plain = gradients(decoder, decoder.hidden(row, layout).square().sum())
    decoder.recompute = True
    again = gradients(decoder, decoder.hidden(row, layout).square().sum())
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_gradients_equal_plain_products() -> None:
    """The oneDNN products against autograd's own, through finite weights of every kind."""
    decoder, row, layout = model(), tokens(12), documents([12])
    loss = decoder.hidden(row, layout).square().sum()
    grads = gradients(decoder, loss)
    with torch.no_grad():
        for parameter, grad in zip(decoder.parameters(), grads, strict=True):
            direction = torch.randn_like(parameter)
            expected = float((grad * direction).sum())
            parameter.add_(direction, alpha=1e-3)
            up = float(decoder.hidden(row, layout).square().sum())
            parameter.add_(direction, alpha=-2e-3)
            down = float(decoder.hidden(row, layout).square().sum())
            parameter.add_(direction, alpha=1e-3)
            assert (up - down) / 2e-3 == pytest.approx(expected, rel=5e-2, abs=5e-1)


def test_context_is_refused_in_one_line() -> None:
    with pytest.raises(CharterError, match="257 tokens is longer than this model's context of 256"):
        model().hidden(tokens(257), documents([257]))
    windowed = new_model(Shape(97, 32, 48, 1, 4, 2, 8, 256, family="mistral", sliding_window=20), 0)
    with pytest.raises(CharterError, match="context of 20"):
        windowed.hidden(tokens(21), documents([21]))


def test_a_layout_must_produce_every_token_once() -> None:
    for paths in (((0, 3),),), (((0, 3),), ((2, 4),)):
        with pytest.raises(ValueError, match="exactly one segment"):
            Layout(torch.arange(4), paths).segments
