"""Muon: the iteration against a textbook one and the singular value decomposition, a step worked by hand, parts, state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.step import update
from charter.ground.model.lora import add_lora
from charter.rooms.pretrain.learning import A, B, C, Muon, muon, orthogonal


def textbook(matrix: Tensor, steps: int = 5) -> Tensor:
    """The iteration as it is written down: X <- a X + (b S + c S S) X with S = X X', on the wide side."""
    x = matrix.double()
    if x.shape[0] > x.shape[1]:
        return textbook(x.t(), steps).t()
    x = x / torch.linalg.matrix_norm(x)
    for _ in range(steps):
        s = x @ x.t()
        x = A * x + (B * s + C * s @ s) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 8), (6, 24), (24, 6), (1, 5)])
def test_orthogonal_is_the_textbooks_and_keeps_the_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    orthogonalised = orthogonal(matrix)
    torch.testing.assert_close(orthogonalised.double(), textbook(matrix), atol=2e-4, rtol=2e-4)
    values = torch.linalg.svdvals(orthogonalised)
    assert values.min() > 0.6 and values.max() < 1.25
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.t() @ orthogonalised @ right.t()
    assert (turned - turned.diag().diag()).abs().max() < 2e-3, "singular vectors stay"


def test_a_matrix_of_one_number_goes_the_way_of_the_polynomial() -> None:
    value = 1.0
    for _ in range(5):
        value = A * value + B * value**3 + C * value**5
    assert orthogonal(torch.tensor([[7.0]])).item() == pytest.approx(value, abs=1e-4)
    assert orthogonal(torch.tensor([[-7.0]])).item() == pytest.approx(-value, abs=1e-4)
    assert orthogonal(torch.zeros(3, 4)).abs().max() == 0


def test_two_steps_by_hand_with_momentum_parts_and_decay() -> None:
    """Rows 0-1 and rows 2-5 are two matrices: each is made orthogonal by itself, the tall one grows by sqrt(rows /
    columns)."""
    start = torch.arange(12.0).reshape(6, 2) / 10
    weight = nn.Parameter(start.clone())
    optimizer = Muon([{"params": [weight], "parts": [2, 4], "lr": 0.1}], momentum=0.5, weight_decay=0.2)
    draw = torch.Generator().manual_seed(3)
    gradients = [torch.randn(6, 2, generator=draw) for _ in range(2)]
    expected, kept = start.double(), torch.zeros(6, 2, dtype=torch.float64)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        kept = 0.5 * kept + gradient.double()
        move = gradient.double() + 0.5 * kept
        parts = torch.cat([textbook(move[:2]), 2**0.5 * textbook(move[2:])])
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * parts
    torch.testing.assert_close(weight.detach().double(), expected, atol=1e-4, rtol=1e-4)


def test_a_decoder_gives_its_projections_to_muon_and_all_else_to_adamw() -> None:
    model = toys.model()
    optimizer = muon(model, 0.02, [(model.parameters(), 1e-3)], weight_decay=0.1)
    by_peak: dict[float, set[int]] = {}
    for group in optimizer.param_groups:
        by_peak.setdefault(group["peak"], set()).update(id(p) for p in group["params"])
    assert by_peak[0.02] == {id(p.weight) for p in model.projections()}
    assert by_peak[1e-3] == {id(p) for p in model.parameters()} - by_peak[0.02]
    cuts = {tuple(g["parts"]) for g in optimizer.param_groups if "parts" in g}
    assert cuts == {(32, 16, 16), (32,), (48, 48)}, "query, key and value; out and down; gate and up"


def test_adapters_are_refused_in_one_line() -> None:
    model = toys.model()
    add_lora(model, 2, 4.0, seed=0)
    with pytest.raises(CharterError, match="whole weights, not adapters"):
        muon(model, 0.02, [(model.parameters(), 1e-3)])


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        draw = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        update(optimizer, 0.5 + 0.1 * number, clip=1.0)


def test_a_state_that_was_saved_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def make_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = toys.model()
        return model, muon(model, 0.02, [(model.parameters(), 1e-3)], weight_decay=0.1)

    model, optimizer = make_optimizer()
    _steps(model, optimizer, range(3))
    Saver(tmp_path, {"model": model}, optimizer).save(3, {})
    _steps(model, optimizer, range(3, 5))
    again, resumed = make_optimizer()
    assert Saver(tmp_path, {"model": again}, resumed).load()[0] == 3
    _steps(again, resumed, range(3, 5))
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name
