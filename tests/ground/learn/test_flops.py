"""Operations of a token counted by hand and by torch's own counter; the peak; the trapezoid of rates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from charter.ground.learn.flops import multiplying, per_token, work
from charter.ground.learn.optimizer import trapezoid
from charter.ground.model.shape import NAMED, Shape
from charter.rooms.pretrain.speed import measure_peak, peak

SHAPE = Shape(100, 16, 24, 3, 4, 2, 8, 64)


def test_weights_that_multiply_by_hand() -> None:
    # queries 16 x 32, keys and values 16 x 16 each, out 32 x 16, three of 16 x 24, and the head
    assert multiplying(SHAPE) == 3 * (512 + 256 + 256 + 512 + 3 * 384) + 1600
    norms = 3 * 2 * 16 + 16
    assert multiplying(SHAPE) == SHAPE.num_parameters - norms, "a tied head is counted once"
    assert multiplying(NAMED["smollm2-135m"]) == pytest.approx(134.5e6, rel=1e-3)


def test_a_documents_work_is_that_of_its_tokens() -> None:
    weights, attention = 6 * multiplying(SHAPE), 12 * 3 * 32
    assert per_token(SHAPE, 1) == weights + attention
    assert work(SHAPE, [3, 1]) == 4 * weights + attention * (1 + 2 + 3 + 1)
    assert work(SHAPE, []) == 0


def test_forward_is_a_third_of_it_by_torchs_own_count() -> None:
    """Of a stock decoder of the same shape, whose attention is counted without the causal mask."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        attn_implementation="eager",
    )
    model = transformers.LlamaForCausalLM(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(20)[None])
    counted = counter.get_total_flops()
    ours = 20 * per_token(SHAPE, 20) / 3
    assert counted == pytest.approx(ours, rel=0.02)


def test_a_machine_has_a_peak() -> None:
    assert measure_peak("cpu", torch.float32, 0.01) > 1e8
    assert peak("cpu", "float32") == peak("cpu", "float32"), "measured once"


def test_trapezoid_by_hand() -> None:
    shares = [trapezoid(step, 8, warmup=2, decay=3) for step in range(8)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])
    assert trapezoid(0, 1, 0, 1) == 0.5 and trapezoid(0, 1, 0, 0) == 1.0


@given(total=st.integers(1, 60), warmup=st.integers(0, 60), decay=st.integers(0, 60), step=st.integers(0, 59))
def test_trapezoid_is_never_zero_within_a_run_nor_above_the_peak(total, warmup, decay, step) -> None:  # type: ignore[no-untyped-def]
    if step < total:
        assert 0 < trapezoid(step, total, warmup, decay) <= 1
