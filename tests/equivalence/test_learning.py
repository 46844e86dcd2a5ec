"""Learning: resumed = never stopped, whatever the cut = the same step, swapped pair = mirrored loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.loss import cross_entropy_sum, preference_loss
from charter.ground.learn.optimizer import adamw, parameters_of
from charter.ground.learn.schedule import lr_share
from charter.ground.learn.step import update
from charter.ground.text.packing import microbatches

STEPS = 7


class Net(nn.Module):
    """Two layers, one of them stored transposed, so that its strides aren't those of a fresh tensor."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(3, 4)
        self.turned = nn.Parameter(torch.randn(4, 5).T)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.first(x)) @ self.turned.T * self.scale


def _run(folder: Path, stop: int | None = None, seed: int = 0) -> tuple[Net, Saver]:
    model, value = Net(seed), nn.Linear(5, 1)
    torch.manual_seed(seed + 1)
    nn.init.normal_(value.weight)
    optimizer = adamw([(model.parameters(), 0.03), (value.parameters(), 0.3)], weight_decay=0.1)
    saver = Saver(folder, {"model": model, "value": value}, optimizer, every=1)
    done, _ = saver.load()
    for step in range(done, STEPS if stop is None else stop):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        value(model(x)).square().mean().backward()
        update(optimizer, lr_share(step, STEPS, 2, "cosine"), clip=0.5)
        saver.maybe(step + 1)
    return model, saver


@pytest.mark.parametrize("stops", [[3], [1, 2, 5], [6, 6]])
def test_a_resumed_run_is_bit_equal_to_one_never_stopped(tmp_path: Path, stops: list[int]) -> None:
    never, whole = _run(tmp_path / "never")
    for stop in stops:
        _run(tmp_path / "stopped", stop)
    # the last resume starts from other weights: all must come from the state
    resumed, saver = _run(tmp_path / "stopped", seed=9)
    for (name, a), (_, b) in zip(never.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    for p, q in zip(parameters_of(whole.optimizer), parameters_of(saver.optimizer), strict=True):
        a, b = whole.optimizer.state[p], saver.optimizer.state[q]
        assert all(torch.equal(a[key], b[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_the_file_of_a_state_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _run(tmp_path / name, 4)
    _run(tmp_path / "c", 2)
    _run(tmp_path / "c", 4)
    files = [(tmp_path / n / "step-00000004" / "rank-00000.safetensors").read_bytes() for n in "abc"]
    assert files[0] == files[1] == files[2]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 30))
def test_the_gradient_of_a_step_does_not_depend_on_the_cut(lengths: list[int], most: int) -> None:
    make = torch.Generator().manual_seed(len(lengths))
    rows = [
        (
            torch.randn(n, 4, generator=make),
            torch.randint(9, (n,), generator=make),
            torch.rand(n, generator=make),
        )
        for n in lengths
    ]
    head = torch.randn(9, 4, generator=make)

    def gradient(groups: list[list[int]]) -> torch.Tensor:
        weight = head.clone().requires_grad_()
        for group in groups:
            parts = (torch.cat([rows[i][part] for i in group]) for part in range(3))
            hidden, targets, weights = parts
            cross_entropy_sum(hidden, weight, targets, weights, chunk=4).backward()
        assert weight.grad is not None
        return weight.grad

    torch.testing.assert_close(
        gradient(microbatches(lengths, most)), gradient([list(range(len(rows)))]), rtol=1e-4, atol=1e-5
    )


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 1))
def test_swapping_the_pair_mirrors_the_preference_loss(chosen: float, rejected: float, p: float) -> None:
    a, b, label = (torch.tensor([v], dtype=torch.float64) for v in (chosen, rejected, p))
    torch.testing.assert_close(preference_loss(a, b, label), preference_loss(b, a, 1 - label))
