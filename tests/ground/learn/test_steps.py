"""Optimizer groups, schedules, the guarded step and the cut into microbatches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.optimizer import adamw, lr_share, parameters_of
from charter.ground.learn.step import autocast, check_finite, update
from charter.ground.model.linear import linear
from charter.ground.text.packing import microbatches


class Small(nn.Module):
    """A matrix, a bias and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)


def test_weight_decay_is_for_matrices_alone() -> None:
    model = Small()
    optimizer = adamw([(model.parameters(), 0.01)], weight_decay=0.1)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays[id(model.linear.weight)] == 0.1
    assert {decays[id(p)] for p in (model.linear.bias, *model.norm.parameters())} == {0.0}


def test_each_group_keeps_its_own_peak_and_frozen_parameters_stay_out() -> None:
    policy, head = Small(), nn.Linear(2, 1)
    policy.norm.requires_grad_(False)
    optimizer = adamw([(policy.parameters(), 0.01), (head.parameters(), 0.5)])
    assert {g["peak"] for g in optimizer.param_groups} == {0.01, 0.5}
    moved = parameters_of(optimizer)
    assert len(moved) == 4 and not any(p is q for p in moved for q in policy.norm.parameters())
    (policy.linear(torch.ones(1, 3)).sum() + head(torch.ones(1, 2)).sum()).backward()
    update(optimizer, 0.25, clip=0.0)
    assert {(g["peak"], g["lr"]) for g in optimizer.param_groups} == {(0.01, 0.0025), (0.5, 0.125)}


def test_nothing_to_train_is_said_in_one_line() -> None:
    model = Small().requires_grad_(False)
    with pytest.raises(CharterError, match="nothing to train"):
        adamw([(model.parameters(), 0.01)])


def test_schedule_by_hand() -> None:
    assert [lr_share(s, 10, warmup=2) for s in (0, 1, 2, 9)] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    linear = [lr_share(s, 6, warmup=2, kind="linear") for s in range(6)]
    assert linear == pytest.approx([1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25])
    cosine = [lr_share(s, 4, kind="cosine") for s in range(4)]
    root = math.sqrt(0.5)
    assert cosine == pytest.approx([1.0, 0.5 + 0.5 * root, 0.5, 0.5 - 0.5 * root])


@given(
    step=st.integers(0, 60),
    total=st.integers(1, 50),
    warmup=st.integers(0, 60),
    kind=st.sampled_from(["constant", "linear", "cosine"]),
)
def test_schedule_is_never_zero_at_first_nor_above_the_peak(step, total, warmup, kind) -> None:  # type: ignore[no-untyped-def]
    assert 0 <= lr_share(step, total, warmup, kind) <= 1 + 1e-12
    assert lr_share(0, total, warmup, kind) > 0


def _with_gradient(values: list[float]) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    parameter = nn.Parameter(torch.zeros(len(values)))
    optimizer = adamw([([parameter], 0.1)])
    parameter.grad = torch.tensor(values)
    return parameter, optimizer


def test_update_clips_to_the_norm_and_clears(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter, optimizer = _with_gradient([3.0, 4.0])
    seen: list[torch.Tensor] = []
    step = optimizer.step
    monkeypatch.setattr(optimizer, "step", lambda: (seen.append(parameter.grad.clone()), step())[1])
    assert update(optimizer, 1.0, clip=1.0) == pytest.approx(5.0)
    torch.testing.assert_close(seen[0], torch.tensor([0.6, 0.8]))
    assert parameter.grad is None
    # Adam's first step is the rate against the gradient's sign
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.1, -0.1]))


def test_update_without_clipping_leaves_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter, optimizer = _with_gradient([3.0, 4.0])
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(optimizer, "step", lambda: seen.append(parameter.grad.clone()))
    assert update(optimizer, 1.0, clip=0.0) == pytest.approx(5.0)
    torch.testing.assert_close(seen[0], torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_update_refuses_what_is_not_finite(bad: float, clip: float) -> None:
    parameter, optimizer = _with_gradient([1.0, bad])
    norm = update(optimizer, 1.0, clip)
    assert not math.isfinite(norm)
    assert parameter.grad is None and not parameter.detach().any() and not optimizer.state
    parameter.grad = torch.ones(2)
    assert math.isfinite(update(optimizer, 1.0, clip))


def test_check_finite_names_step_and_documents() -> None:
    check_finite(1.0, "loss", 3, ["a"])
    with pytest.raises(CharterError) as caught:
        check_finite(float("nan"), "loss", 7, [f"doc-{i}" for i in range(9)])
    message = str(caught.value)
    assert "loss became nan at step 7" in message and "\n" not in message
    assert "doc-0" in message and "doc-7" in message and "doc-8" not in message and "..." in message
    with pytest.raises(CharterError, match="gradient norm became inf"):
        check_finite(math.inf, "gradient norm", 0, ["only"])


def test_autocast_only_where_asked() -> None:
    a = torch.ones(2, 2)
    with autocast("cpu", "float32"):
        assert (a @ a).dtype == torch.float32
    with autocast("cpu", "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
        assert linear(a, a).dtype == torch.bfloat16  # the decoder's own product too


def test_microbatches_by_hand() -> None:
    assert microbatches([3, 3, 5, 20, 1], 8) == [[0, 1], [2], [3], [4]]
    assert microbatches([], 8) == []
    assert microbatches([9], 8) == [[0]]
    assert microbatches([4, 4, 4], 8) == [[0, 1], [2]]


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 40))
def test_microbatches_keep_every_index_in_order_and_fit(lengths: list[int], most: int) -> None:
    groups = microbatches(lengths, most)
    assert [i for group in groups for i in group] == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in group) <= most or len(group) == 1 for group in groups)
