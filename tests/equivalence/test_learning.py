"""Learning: resumed = never stopped, whatever the cut = the same step, swapped pair = mirrored loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import toys
from charter.ground.learn import supervised
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.loss import cross_entropy_sum, preference_loss
from charter.ground.learn.optimizer import adamw, lr_share, parameters_of
from charter.ground.learn.step import update
from charter.ground.learn.supervised import Row, anchor, encode_row, shared_beginning
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer
from charter.ground.text.dialogue import Dialogue, assistant, user
from charter.ground.text.packing import microbatches
from charter.ground.text.template import Template

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
        (torch.randn(n, 4, generator=make), torch.randint(9, (n,), generator=make), torch.rand(n, generator=make))
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


def _step(rows: list[Row], most: int) -> tuple[float, int, torch.Tensor]:
    model = toys.model(3)
    loss, read = supervised.accumulate(model, rows, most, "float32")
    return loss, read, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("alike", [0, 1, 6])
def test_rows_that_begin_alike_learn_the_same_and_are_read_once(alike: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start = list(range(20, 20 + alike))
    tails = [([50, 51, 60, 61], 2), ([50, 52, 62], 2), ([53, 63, 64, 65, 66], 1)]
    rows = [
        Row(f"r{n}", start + tail, [0] * (alike + prompt_tokens) + [1] * (len(tail) - prompt_tokens), 1.0 + n)
        for n, (tail, prompt_tokens) in enumerate(tails)
    ]
    loss, read, gradient = _step(rows, 100)
    assert read == sum(len(row.ids) for row in rows) - 2 * alike
    monkeypatch.setattr(supervised, "shared_beginning", lambda rows: 0)
    alone, apart, expected = _step(rows, 100)
    assert apart == sum(len(row.ids) for row in rows)
    assert loss == pytest.approx(alone, rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("alike", [0, 1, 6])
@pytest.mark.parametrize("most", [8, 100])
@pytest.mark.parametrize(("openings", "stress"), [((), 1), (([60],), 3)])
def test_anchored_rows_cost_the_divergence_from_the_start_at_all_places_but_the_shared_ones(
    alike: int, most: int, openings: tuple[list[int], ...], stress: int
) -> None:
    shared = list(range(20, 20 + alike))
    prompts = [
        Row(f"a{n}", shared + tail, [0] * (alike + len(tail)), 1.0 + n) for n, tail in enumerate(([50, 51], [53]))
    ]
    held = anchor(prompts, openings, stress)
    learnt = Row("r", [*shared, 60, 61, 62], [0] * (alike + 1) + [1, 1], 2.0)
    model, start = toys.model(3), toys.model(4)
    loss, _ = supervised.accumulate(model, [*held, learnt], most, "float32", start=start)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    def log_probs(of: Transformer, ids: list[int]) -> torch.Tensor:
        hidden = of.hidden(torch.tensor(ids), documents([len(ids)]))
        return torch.log_softmax(of.logits(hidden), -1)

    model.zero_grad()
    total = 2.0 * 2 + sum(row.weight * sum(row.mask) for row in held)
    expected = torch.zeros(())
    for row in held:
        log_q, log_p = log_probs(model, row.ids), log_probs(start, row.ids).detach()
        counts = torch.tensor(row.mask)[:, None]
        assert not counts[: min(alike, len(row.ids) - 1)].any() and counts[-1]
        expected = expected + row.weight * (counts * log_p.exp() * (log_p - log_q)).sum()
    for at in (alike + 1, alike + 2):
        expected = expected - 2.0 * log_probs(model, learnt.ids)[at - 1, learnt.ids[at]]
    (expected / total).backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(float(expected.detach() / total), rel=1e-5)
    by_hand = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient, by_hand, rtol=1e-3, atol=1e-5 * float(by_hand.abs().max()))


def test_an_anchored_prompt_goes_on_as_a_learnt_reply_begins_and_counts_more_there() -> None:
    prompts = [Row("a", [7, 8, 50, 51], [0] * 4, 1.0), Row("b", [7, 8, 52], [0] * 3, 1.0)]
    answered = Row("c", [7, 8, 53, 54, 55], [0, 0, 0, 1, 1], 1.0)
    held = anchor([*prompts, answered], [[60]], 5)
    assert [row.ids for row in held] == [[7, 8, 50, 51, 60], [7, 8, 52, 60], [7, 8, 53, 54, 55]]
    assert [row.mask for row in held] == [[0, 0, 1, 5, 5], [0, 0, 5, 5], [0, 0, 5, 5, 1]]
    drawn = {row.ids[-1] for row in anchor(prompts * 20, [[60], [61]], seed=1)}
    assert drawn == {60, 61}


def test_anchored_rows_move_nothing_while_the_model_is_its_start() -> None:
    model = toys.model(3)
    rows = anchor([Row("a", [50, 51, 52, 53], [0, 0, 1, 1], 1.0)])
    loss, _ = supervised.accumulate(model, rows, 100, "float32", start=toys.model(3))
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert all(float(p.grad.abs().max()) < 1e-6 for p in model.parameters() if p.grad is not None)


def test_what_rows_share_ends_before_what_is_learnt_and_leaves_each_a_token() -> None:
    assert shared_beginning([Row("a", [1, 2, 3, 4], [0, 0, 1, 1], 1.0)] * 2) == 2
    assert shared_beginning([Row("a", [1, 2, 3], [0, 0, 0], 1.0), Row("b", [1, 2, 3, 4], [0, 0, 0, 1], 1.0)]) == 2
    assert shared_beginning([Row("a", [1, 2, 3, 4], [0, 0, 0, 1], 1.0)]) == 0


def test_of_a_cut_reply_the_end_of_its_turn_is_not_learnt() -> None:
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    whole = Dialogue("d", (user("How are you?"), assistant("Well, and")))
    cut = Dialogue("d", whole.messages, meta={"cut": True})
    learnt, without = encode_row(whole, template, 99, False), encode_row(cut, template, 99, False)
    assert learnt is not None and without is not None and learnt.ids == without.ids
    changed = [t for t in range(len(learnt.ids)) if learnt.mask[t] != without.mask[t]]
    assert [learnt.ids[t] for t in changed] == [template.end_id]
