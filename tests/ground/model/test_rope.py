"""Windows enlarged: what the frequencies become, equal to transformers, and angles that are right at 262,144."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.model.layout import documents
from charter.ground.model.rope import Method, enlarge, frequencies, rotate, tables
from charter.ground.model.shape import Shape, from_config, to_config
from toys import SHAPE, model, tokenizer

BASE = Shape(300, 64, 96, 1, 2, 2, 32, 1024)
FAR = torch.tensor([0, 1, 1023, 131_071, 200_000, 262_143])


def test_a_raised_base_slows_the_slowest_pair_by_the_factor_and_leaves_the_fastest() -> None:
    old, new = frequencies(BASE)[0], frequencies(enlarge(BASE, 16 * 1024))[0]
    assert new[0] == old[0] == 1.0
    assert old[-1] / new[-1] == pytest.approx(16.0, rel=1e-5)
    assert bool((new[1:] < old[1:]).all())
    assert enlarge(BASE, 2048, base=5e5).rope_theta == 5e5


def test_steps_end_where_one_step_does() -> None:
    for method in ("base", "yarn"):
        at_once, shape = enlarge(BASE, 262_144, method), BASE
        for window in (4096, 65536, 262_144):
            shape = enlarge(shape, window, method)
        assert shape.rope_scaling == at_once.rope_scaling
        assert shape.rope_theta == pytest.approx(at_once.rope_theta, rel=1e-9)
        assert shape.context == 262_144


def test_yarn_keeps_what_turns_often_and_slows_what_never_turns_once() -> None:
    shape = enlarge(BASE, 8 * 1024, "yarn")
    old, (new, factor) = frequencies(BASE)[0], frequencies(shape)
    turns = 1024 * old / (2 * math.pi)
    assert torch.equal(new[turns > 40], old[turns > 40])
    assert torch.allclose(new[turns < 0.5] * 8, old[turns < 0.5], rtol=1e-5)
    assert factor == pytest.approx(0.1 * math.log(8) + 1)


@pytest.mark.parametrize("method", ["base", "yarn"])
def test_transformers_reads_the_same_from_the_config(method: Method, tmp_path: Path) -> None:
    shape = enlarge(BASE, 262_144, method)
    config = to_config(shape)
    assert from_config(config) == shape
    theirs = LlamaRotaryEmbedding(AutoConfig.for_model(**config))
    ours, factor = frequencies(shape)
    assert torch.allclose(theirs.inv_freq, ours, rtol=1e-6, atol=0)
    assert theirs.attention_scaling == pytest.approx(factor)
    cos, _ = theirs(torch.zeros(1, 1), FAR[None])
    mine = tables(FAR, ours, factor, torch.float32)[0][:, 0]
    # theirs is a product in float32, off by up to half its last place: 1/128 at the farthest
    assert (cos[0] - mine).abs().max() <= 1 / 128 * factor
    assert torch.allclose(cos[0, :3], mine[:3], atol=1e-4)


def test_angles_are_right_at_any_position() -> None:
    inv_freq, _ = frequencies(enlarge(BASE, 262_144))
    cos, sin = tables(FAR, inv_freq, 1.0, torch.float32)
    for row, position in enumerate(FAR.tolist()):
        for pair, w in enumerate(inv_freq.tolist()):
            assert cos[row, 0, pair].item() == pytest.approx(math.cos(position * w), abs=1e-6)
            assert sin[row, 0, pair + 16].item() == pytest.approx(math.sin(position * w), abs=1e-6)


def test_equal_distances_look_equal_at_both_ends_of_the_window() -> None:
    shape = enlarge(BASE, 262_144)
    q, k = torch.randn(2, 32), torch.randn(2, 32)

    def score(far: int, distance: int) -> torch.Tensor:
        where = torch.tensor([far, far - distance])
        cos, sin = tables(where, *frequencies(shape), torch.float32)
        rotated = rotate(torch.stack((q, k)), cos, sin)
        return (rotated[0] * rotated[1]).sum(-1)

    assert torch.allclose(score(262_143, 777), score(1000, 777), atol=2e-5)


def test_what_cannot_be_enlarged_is_refused() -> None:
    for shape, window, method, words in (
        (BASE, 1024, "base", "no larger"),
        (replace(BASE, family="mistral", sliding_window=512), 4096, "base", "sliding window"),
        (replace(BASE, rope_scaling={"rope_type": "linear", "factor": 2.0}), 4096, "yarn", "'linear' already"),
        (enlarge(BASE, 2048, "yarn"), 4096, "base", "'yarn' already"),
    ):
        with pytest.raises(CharterError, match=words):
            enlarge(shape, window, method)  # type: ignore[arg-type]


def test_a_model_takes_other_positions_and_is_saved_with_them(tmp_path: Path) -> None:
    decoder = model()
    ids, far = torch.arange(40), documents([2000])
    near = decoder.hidden(ids, documents([40]))
    with pytest.raises(CharterError, match="context of 1024"):
        decoder.hidden(torch.zeros(2000, dtype=torch.int64), far)
    decoder.take_positions(enlarge(SHAPE, 4096, "yarn"))
    assert decoder.hidden(torch.zeros(2000, dtype=torch.int64), far).isfinite().all()
    assert not torch.allclose(decoder.hidden(ids, documents([40])), near)
    save_policy(decoder, tokenizer(), tmp_path / "out")
    again, _ = load_policy(tmp_path / "out")
    assert again.shape.rope_scaling == decoder.shape.rope_scaling and again.shape.context == 4096
    assert torch.equal(again.hidden(ids, documents([40])), decoder.hidden(ids, documents([40])))
    with pytest.raises(ValueError, match="other weights"):
        decoder.take_positions(replace(SHAPE, num_layers=3))
