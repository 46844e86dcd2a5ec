"""Damaged or wrong checkpoint folders end in one line that says what to do; a moved folder is the same
model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import (
    choose_padding,
    load_policy,
    load_preference,
    new_model,
    save_policy,
    save_preference,
)
from charter.ground.model.heads import ScoreHead, ValueHead
from charter.ground.model.layout import documents
from charter.ground.model.shape import NAMED, Shape, from_config, to_config
from charter.ground.settings.recognise import HARM_RATING, variant_of_folder
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

SHAPE = Shape(300, 32, 48, 2, 4, 2, 8, 64, tied=False)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["How much wood would a woodchuck chuck? " * 4], 300)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    save_policy(new_model(SHAPE, 0), tokenizer, tmp_path / "policy")
    return tmp_path / "policy"


def change_config(folder: Path, **changed: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def message(folder: Path) -> str:
    with pytest.raises(CharterError) as caught:
        load_policy(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_moved_folder_answers_the_same(folder: Path) -> None:
    ids = torch.arange(40)
    before = load_policy(folder)[0].hidden(ids, documents([40]))
    moved = folder.parent / "elsewhere"
    shutil.move(folder, moved)
    model, tokenizer = load_policy(moved)
    assert torch.equal(model.hidden(ids, documents([40])), before)
    assert str(folder) not in "".join(p.read_text() for p in moved.glob("*.json"))
    assert tokenizer.decode(tokenizer.encode("wood")) == "wood"


def test_truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "truncated or corrupt" in message(folder)
    weights.write_bytes(b"not a header")
    assert "truncated or corrupt" in message(folder)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in message(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "is a pickle, which is never loaded" in message(folder)


def test_missing_unexpected_and_misshapen_tensors(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    assert f"lacks 1 tensors that config.json asks for: {name}" in message(folder)
    save_file({**tensors, name: torch.zeros(3, 3)}, path)
    assert f"{name} is [3, 3], config.json asks for [48, 32]" in message(folder)
    save_file({**tensors, "extra": torch.zeros(1)}, path)
    assert "unexpected tensor extra" in message(folder)


def test_corrupt_and_foreign_configs(folder: Path) -> None:
    change_config(folder, model_type="gemma3")
    assert "'gemma3' is not supported; supported model types: llama, mistral, qwen2, qwen3" in message(folder)
    change_config(folder, model_type="")
    assert "config.json has no model_type; expected one of llama, mistral" in message(folder)
    change_config(folder, model_type="llama", hidden_act="gelu")
    assert "activation 'gelu'" in message(folder)
    change_config(folder, hidden_act="silu", rope_scaling={"rope_type": "longrope"})
    assert "RoPE type 'longrope'" in message(folder)
    change_config(folder, rope_scaling={"rope_type": "linear"})
    assert "lacks factor" in message(folder)
    change_config(folder, rope_scaling=None, hidden_size=None)
    assert "lacks hidden_size" in message(folder)
    (folder / "config.json").write_text("{")
    assert "config.json cannot be read" in message(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in message(folder)


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    kept = (folder / "tokenizer.json").read_text()
    for size in (600, SHAPE.vocab_size * 8 // 9):
        train_tokenizer([Path(__file__).read_text()], size).save(folder)
        assert "embeddings; use the tokenizer that belongs to this model" in message(folder)
    (folder / "tokenizer.json").write_text(kept)
    change_config(folder, eos_token_id=[300, 301])
    assert "ends with token 300, 301, which is no special token" in message(folder)


def test_policy_preference_and_rating_model_are_told_apart(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folders = {"policy": folder, "preference": tmp_path / "preference", "rating": tmp_path / "rating"}
    save_preference(new_model(SHAPE, 0), ScoreHead(32), tokenizer, folders["preference"])
    save_preference(new_model(SHAPE, 0), ScoreHead(32), tokenizer, folders["rating"], label=HARM_RATING)
    assert {variant: variant_of_folder(place) for variant, place in folders.items()} == {v: v for v in folders}
    for variant, place in folders.items():
        if variant != "policy":
            load_preference(place, variant=variant)
            called = f"is a {variant} model; expected a policy"
            assert called in message(place)
        for other in {"preference", "rating"} - {variant}:
            with pytest.raises(CharterError, match=f"is a {variant}.*; expected a {other} model"):
                load_preference(place, variant=other)


def test_sizes_of_configs() -> None:
    for shape in NAMED.values():
        assert from_config(to_config(shape)) == shape
    assert 0.9e6 < NAMED["tiny"].num_parameters < 1.1e6
    model = new_model(SHAPE, 0)
    assert sum(p.numel() for p in model.parameters()) == SHAPE.num_parameters
    mixed = {**to_config(SHAPE), "model_type": "qwen3", "use_sliding_window": True, "sliding_window": 8}
    kinds = ["sliding_attention", "full_attention"]
    with pytest.raises(CharterError, match="layer_types mixes"):
        from_config({**mixed, "layer_types": kinds})
    assert from_config({**mixed, "layer_types": kinds[::-1]}).context == 8
    assert from_config({**mixed, "max_window_layers": 2}).sliding_window is None


def test_padding_is_a_token_no_text_has(tokenizer: Tokenizer) -> None:
    assert choose_padding(tokenizer) == (tokenizer.special["<|pad|>"], "<|pad|>")
    assert tokenizer.special["<|pad|>"] not in tokenizer.encode("<|pad|> <|pad|>")


def test_heads() -> None:
    states = torch.randn(5, 32)
    assert torch.equal(ValueHead(32)(states), torch.zeros(5))
    assert torch.equal(ScoreHead(32, seed=1)(states), ScoreHead(32, seed=1)(states))
    assert ScoreHead(32)(states).shape == (5,)
