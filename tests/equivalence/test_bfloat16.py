"""bfloat16 on a CPU: close to float32, and resumed as exactly."""

from pathlib import Path

import pytest
import torch

import toys
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.step import autocast
from charter.ground.model.attention import attend
from charter.ground.model.layout import Layout, documents, join, tree
from charter.ground.model.linear import Projection, pack
from charter.ground.text.dialogue import user
from charter.rooms.finetune import run as finetune
from charter.rooms.finetune.settings import Settings

ROWS = [toys.dialogue(f"d{n}", f"What is number {n}?", f"It is the one after {n - 1}.") for n in range(12)]
SETTINGS = Settings(batch=3, lr=1e-3, save_every=1)


def test_hidden_states_are_close_and_not_the_same() -> None:
    model = toys.model(scale=2.0)
    ids = torch.arange(5, 45)
    exact = model.hidden(ids, documents([40])).detach()
    with autocast("cpu", "bfloat16"):
        rounded = model.hidden(ids, documents([40])).detach()
    gap = float((exact - rounded).norm() / exact.norm())
    assert 1e-4 < gap < 0.05


@pytest.mark.parametrize(
    "layout",
    [
        documents([70]),
        documents([40, 40, 40]),
        documents([1, 33, 90]),
        tree(60, [5, 9]),
        join([tree(12, [30, 31]), tree(80, [4, 3, 6])]),
        documents([600, 20]),
    ],
    ids=["one", "equal", "ragged", "few queries", "trees", "too long for plain products"],
)
def test_attention_learns_in_bfloat16_what_it_learns_in_float32(layout: Layout) -> None:
    """Outputs and gradients differ from the fused kernel's in float32 by rounding alone; a key that is seen too much
    or too little would be a gap many times as large."""
    draw = torch.Generator().manual_seed(3)
    qk, v = torch.randn(len(layout), 9, 16, generator=draw), torch.randn(len(layout), 3, 16, generator=draw)
    upstream = torch.randn(len(layout), 6 * 16, generator=draw)
    qk, v, upstream = (x.bfloat16().float() for x in (qk, v, upstream))  # rounding inside is what is compared
    results = {}
    for precision in ("float32", "bfloat16"):
        leaves = qk.clone().requires_grad_(), v.clone().requires_grad_()
        with autocast("cpu", precision):
            mixed = attend(*leaves, layout)
        mixed.backward(upstream.to(mixed.dtype))
        results[precision] = [mixed.detach(), *(leaf.grad for leaf in leaves)]
    for exact, rounded in zip(results["float32"], results["bfloat16"], strict=True):
        assert exact is not None and rounded is not None
        assert 1e-4 < float((exact - rounded).norm() / exact.norm()) < 0.006


def test_packed_weights_round_and_the_head_does_not() -> None:
    """Inference takes the packed weights: states are close to the exact ones, logits are exact products of them."""
    model, rounded = toys.model(scale=2.0), toys.model(scale=2.0)
    rounded.precision = "bfloat16"
    ids, layout = torch.arange(5, 45), documents([40])
    exact, _ = model.prefill(ids, layout)
    states, _ = rounded.prefill(ids, layout)
    assert 1e-4 < float((exact - states).norm() / exact.norm()) < 0.05
    assert torch.equal(states, rounded.prefill(ids, layout)[0])
    with torch.no_grad():
        assert torch.allclose(rounded.logits(states), states @ rounded.head_weight().T, atol=1e-4)


def test_a_bias_is_added_in_bfloat16_too() -> None:
    projection = Projection(8, {"q_proj": 16}, bias=True)
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    exact = projection(x).detach()
    projection.packed = pack(projection.effective(), torch.bfloat16)
    with torch.no_grad():
        assert torch.allclose(projection.infer(x), exact, rtol=0.02, atol=0.1)


def test_scores_of_a_grader_are_close_and_in_one_precision_equal(checkpoints: Path) -> None:
    items = [([user(f"What is number {n}?")], [f"It is {n}.", "Dunno."]) for n in range(4)]
    exact, first, second = (
        torch.tensor(PreferenceModel.open(checkpoints / "grader", precision=p).score(items))
        for p in ("float32", "bfloat16", "bfloat16")
    )
    assert torch.equal(first, second) and not torch.equal(first, exact)
    assert torch.allclose(first, exact, atol=0.1 * float(exact.std()))


def test_a_resumed_run_is_bit_equal_to_an_unbroken_one(checkpoints: Path, tmp_path: Path) -> None:
    rows = toys.rows_file(tmp_path / "rows.jsonl", ROWS)
    inputs = Inputs([toys.policy(checkpoints / "policy"), toys.given("dialogues", rows), toys.constitution()])

    def make_product(folder: Path, progress: toys.StoppingProgress | None = None, precision: str = "bfloat16") -> Path:
        out = toys.workspace(folder, progress=progress, precision=precision)
        finetune.run(SETTINGS, inputs, out)
        return out.path

    whole = make_product(tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        make_product(tmp_path / "broken", toys.StoppingProgress(2))
    assert toys.files_of(make_product(tmp_path / "broken")) == toys.files_of(whole)
    assert toys.files_of(make_product(tmp_path / "exact", precision="float32")) != toys.files_of(whole)
