"""Adapters written for others: the formula of PEFT over its files gives the weights that we merge."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, named_tensors, save_policy
from charter.ground.model.lora import add_lora, lora_parameters
from charter.rooms.rl.remote import save_adapter


def test_base_and_adapter_files_make_the_merged_weights(tmp_path: Path) -> None:
    model = toys.model()
    start = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    add_lora(model, rank=3, alpha=6.0, targets=("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"))
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    save_adapter(model, tmp_path, "start")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "start" and config["peft_type"] == "LORA"
    files = load_file(tmp_path / "adapter_model.safetensors")
    changed = 0
    for name, merged in named_tensors(model, merged=True).items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        weight = start[name]
        if f"{stem}.lora_A.weight" in files:
            low, high = files.pop(f"{stem}.lora_A.weight"), files.pop(f"{stem}.lora_B.weight")
            assert low.shape[0] == high.shape[1] == config["r"] == 3
            weight = weight + config["lora_alpha"] / config["r"] * high @ low
            changed += 1
        assert torch.allclose(merged, weight, atol=1e-5), name
    assert not files and changed == 5 * toys.SHAPE.num_layers


def test_a_model_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="has no adapters to write"):
        save_adapter(toys.model(), tmp_path)


def test_an_untied_copy_has_its_head_twice(tmp_path: Path) -> None:
    model = toys.model()
    save_policy(model, toys.tokenizer(), tmp_path, untied=True)
    copy, _ = load_policy(tmp_path)
    assert model.shape.tied and not copy.shape.tied and copy.head is not None
    assert torch.equal(copy.head, model.embed) and torch.equal(copy.embed, model.embed)
