"""Checks of a checkpoint folder without torch: headers that fit their files, and models that won't load."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, named_tensors, new_model
from charter.ground.model.folder import (
    INDEX,
    ModelSize,
    check_folder,
    read_header,
    read_size,
    tensor_sizes,
    weight_files,
)
from charter.ground.model.opening import random_weights
from charter.ground.model.shape import NAMED, Shape, to_config

SHAPES = [
    Shape(96, 32, 48, 2, 4, 2, 8, 64),
    Shape(96, 32, 48, 2, 4, 2, 8, 64, tied=False, qkv_bias=True, o_bias=True),
    Shape(96, 32, 48, 2, 4, 2, 16, 64, qk_norm=True, family="qwen3"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole policy of the first shape."""
    target = tmp_path / "model"
    target.mkdir()
    save_file(random_weights(SHAPES[0], 0), target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(to_config(SHAPES[0])))
    (target / "tokenizer.json").write_text("{}")
    return target


def configured(folder: Path, **changed: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tensors_told_without_torch_are_those_of_the_model(shape: Shape) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in named_tensors(new_model(shape, 0)).items()}
    assert tensor_sizes(shape) == expected


def test_new_weights_are_drawn_as_ever() -> None:
    weights = random_weights(NAMED["tiny"], 0)
    drawn = np.random.default_rng(0).standard_normal((2048, 128), dtype=np.float32) * np.float32(0.02)
    assert np.array_equal(weights["model.embed_tokens.weight"], drawn)
    deep = weights["model.layers.0.mlp.down_proj.weight"].std() / weights["model.layers.0.mlp.up_proj.weight"].std()
    assert 0.33 < deep < 0.38  # 1 / sqrt(2 * 4 layers)


def test_a_whole_model_passes_and_is_counted(folder: Path) -> None:
    assert check_folder(folder).vocab_size == 96
    assert read_size(folder) == ModelSize(check_folder(folder), SHAPES[0].num_parameters)


def _names(count: int) -> bytes:
    """A header of so many tensors without bytes."""
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"a{number}": one for number in range(count)}, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header


DAMAGE: list[tuple[bytes, str]] = [
    (bytes(range(200, 250)) * 20, "its header would be longer than the file"),
    (_names(300_000), "over 524,288 values"),
    (b"", "corrupt"),
    (b"\x08\x00\x00\x00\x00\x00\x00\x00[1, 2]  ", "corrupt"),
    (b"\x02\x00\x00\x00\x00\x00\x00\x00\xff\xfe", "corrupt"),
    (b"\x0a\x00\x00\x00\x00\x00\x00\x00" + b'{"a": 123}', "corrupt"),
]


@pytest.mark.parametrize(("data", "reason"), DAMAGE)
def test_damaged_weights_are_one_line(folder: Path, data: bytes, reason: str) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(CharterError, match=reason) as caught:
        read_header(folder / "model.safetensors")
    assert "truncated or corrupt" in str(caught.value) and "\n" not in str(caught.value)


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (lambda folder: configured(folder, model_type="gpt2"), "architecture 'gpt2' is not supported; supported model"),
    (cut, r"model\.safetensors is missing, truncated or corrupt \(it has \d+ bytes and its header asks for \d+\)"),
    (lambda folder: configured(folder, vocab_size=97), r"embed_tokens\.weight is \[96, 32\], .* asks for \[97, 32\]"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    (lambda folder: configured(folder, head_dim="wide"), "config.json holds a value that is no size"),
    (lambda folder: configured(folder, architectures=["LlamaForSequenceClassification"]), "is a preference model"),
]


@pytest.mark.parametrize(("harm", "message"), REFUSED)
def test_the_plan_and_the_loader_refuse_in_the_same_words(
    folder: Path, harm: Callable[[Path], None], message: str
) -> None:
    harm(folder)
    with pytest.raises(CharterError, match=message) as planned:
        check_folder(folder)
    with pytest.raises(CharterError, match=re.escape(str(planned.value))):
        load_policy(folder)


def test_a_plan_refuses_models_that_the_run_must_refuse(folder: Path) -> None:
    """The whole command, in a process that never loads torch."""

    def planned(model: str) -> tuple[int, str]:
        recipe = f"steps: [{{name: eval, room: evaluate, from: {{policy: '{model}', grader: pm}}}}, {PREFERENCE}]"
        (folder.parent / "recipe.yaml").write_text(recipe)
        code = (
            "import sys; from charter.cli.main import execute; "
            "code = execute(['plan', 'recipe.yaml']); assert 'torch' not in sys.modules; sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True, env=os.environ
        )
        return done.returncode, done.stderr

    assert planned("./model") == (0, "")
    (folder / "model.safetensors").write_bytes(bytes(range(200, 250)) * 20)
    code, err = planned("./model")
    assert code == 1 and "step eval: role policy: " in err and "its header would be longer" in err
    assert len(err.splitlines()) == 1
    code, err = planned("random:huge")
    assert code == 1 and "step eval: role policy: unknown shape 'huge' in random:huge; named shapes: tiny" in err


PREFERENCE = "{name: pm, room: preference, from: {policy: 'random:tiny', comparisons: 'shipped:comparisons.train'}}"


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hostname", "below/model.safetensors", "..", ""])
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CharterError, match="is no file of this folder"):
        weight_files(tmp_path)
