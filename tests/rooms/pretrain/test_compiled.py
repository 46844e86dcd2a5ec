"""Compiled blocks learn what plain ones do: traced whole, once for all blocks and rows; compiled for real in a slow
test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import toys
from charter.ground.learn.loss import cross_entropy_sum
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer
from charter.rooms.pretrain.learner import compile_blocks

ROWS = ([30, 21], [10, 10, 7], [51, 1])


def learn(model: Transformer, lengths: list[int]) -> dict[str, Tensor]:
    total = sum(lengths)
    ids = torch.randint(0, toys.SHAPE.vocab_size, (total + 1,), generator=torch.Generator().manual_seed(total))
    model.zero_grad(set_to_none=True)
    hidden = model.hidden(ids[:-1], documents(lengths))
    loss = cross_entropy_sum(hidden, model.head_weight(), ids[1:], torch.full((total,), 1 / total))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return gradients | {"loss": loss.detach()}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own look, which it mutes
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # inductor's own
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_blocks_learn_what_plain_ones_do(backend: str, recompute: bool) -> None:
    torch._dynamo.reset()
    model = toys.model()
    model.recompute = recompute
    expected = [learn(model, lengths) for lengths in ROWS]
    compile_blocks(model, backend)
    torch._dynamo.utils.counters.clear()
    for lengths, plain in zip(ROWS, expected, strict=True):
        gradients = learn(model, lengths)
        for name, value in plain.items():
            torch.testing.assert_close(
                gradients[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()), msg=name
            )
    stats = torch._dynamo.utils.counters["stats"]
    assert 2 <= stats["unique_graphs"] <= 4  # two halves, and again once at most for rows of another length
