"""Checkpoints in the Hugging Face layout, which stock transformers, vLLM and llama.cpp's converter read.

`config.json`, safetensors, `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`. A preference
model is a `...ForSequenceClassification` with one label, whose score belongs to the last token that is not
padding; its padding token is one that no text contains. Adapters are merged into what is saved; the model itself keeps
them. No pickle is ever read.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import DAMAGE
from charter.ground.model.folder import (
    SCORE,
    SHARD_BYTES,
    check_folder,
    damage_error,
    is_ignored,
    read_config,
    shard_plan,
    weight_files,
    write_index,
)
from charter.ground.model.generation import read_generation, write_generation
from charter.ground.model.heads import ScoreHead
from charter.ground.model.opening import random_weights
from charter.ground.model.shape import ARCHITECTURES, Shape, to_config
from charter.ground.model.transformer import Transformer
from charter.ground.text.tokenizer import Tokenizer

_NAMES = ("pad", "reserved", "unused", "empty")
_NEW = "<|pad|>"
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
LEAST_USED = 0.9  # of the embeddings: the rest only rounds their number up


def choose_padding(tokenizer: Tokenizer) -> tuple[int, str] | None:
    """(id, token) of a special token that neither user text nor the chat template can contain, None without one.

    The first choice is the tokenizer's own padding, if it is neither eos nor bos nor in the template. The second is
    another special token outside these: one with the name of a reserved token, else the last one. User text never
    becomes a special token, so a special token outside the template never occurs.
    """
    taken_ids = {tokenizer.eos_id, tokenizer.bos_id, tokenizer.special.get("<unk>")}
    free = {
        id: token for token, id in tokenizer.special.items() if id not in taken_ids and token not in tokenizer.template
    }
    if tokenizer.pad_id in free:
        return tokenizer.pad_id, free[tokenizer.pad_id]
    for name in _NAMES:
        for id, token in sorted(free.items()):
            if name in token.lower():
                return id, token
    return max(free.items()) if free else None


def set_padding(folder: Path, tokenizer: Tokenizer) -> int:
    """Make the saved tokenizer in `folder` pad with the chosen token, or with a new one after the vocabulary.

    Returns its id.
    """
    config_path, tokenizer_path = folder / "tokenizer_config.json", folder / "tokenizer.json"
    config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    padding = choose_padding(tokenizer)
    if padding is None:
        data = json.loads(tokenizer_path.read_text(encoding="utf-8"))
        padding = tokenizer.vocab_size, _find_unused(set(data["model"]["vocab"]) | set(tokenizer.special))
        data["added_tokens"].append({"id": padding[0], "content": padding[1], **_ADDED})
        tokenizer_path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    pad_id, config["pad_token"] = padding
    config_path.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return pad_id


def _find_unused(tokens: set[str]) -> str:
    name = _NEW
    while name in tokens:
        name = name.replace("pad", "_pad")
    return name


def load_policy(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """(model, tokenizer) of a folder in HF layout; weights of any float type become `dtype`.

    Raises CharterError for a missing or corrupt file, missing, unexpected or misshapen tensors, an
    unsupported architecture, a preference model, a malformed generation_config.json, or a tokenizer that can't be the
    model's own.
    """
    folder = Path(folder)
    shape = check_folder(folder)
    model = Transformer(shape, device, dtype)
    _fill(named_tensors(model), folder, shape.tied)
    model.generation = read_generation(folder)
    return model, _tokenizer(folder, shape)


def load_preference(
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    variant: str = "preference",
) -> tuple[Transformer, ScoreHead, Tokenizer]:
    """(decoder, score head, tokenizer) of a one-label `...ForSequenceClassification` folder, of a preference or a
    rating model. Errors: `load_policy`."""
    folder = Path(folder)
    shape = check_folder(folder, variant)
    model, head = Transformer(shape, device, dtype), ScoreHead(shape.hidden_size).to(device, dtype)
    _fill({**named_tensors(model), SCORE: head.weight.detach()}, folder, shape.tied)
    return model, head, _tokenizer(folder, shape)


def save_policy(
    model: Transformer, tokenizer: Tokenizer, folder: Path | str, shard_bytes: int = SHARD_BYTES, untied: bool = False
) -> None:
    """Write a `...ForCausalLM` checkpoint that stock transformers loads with equal logits; `untied` writes a head that
    is tied to the embeddings as a tensor of its own. All fields of the model's `generation` are written too."""
    folder = _make_folder(folder)
    ids = (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id)
    tensors, shape = named_tensors(model, merged=True), model.shape
    if untied and shape.tied:
        shape = replace(shape, tied=False)
        tensors["lm_head.weight"] = model.embed.detach().clone()
    _write_weights(tensors, folder, shard_bytes)
    _write_json(folder / "config.json", _set_dtype(to_config(shape, *ids), model.dtype))
    token_ids = dict(zip(("eos_token_id", "bos_token_id", "pad_token_id"), ids, strict=True))
    write_generation(folder, model.generation, token_ids)
    tokenizer.save(folder)


def save_preference(
    model: Transformer,
    head: ScoreHead,
    tokenizer: Tokenizer,
    folder: Path | str,
    shard_bytes: int = SHARD_BYTES,
    label: str = "LABEL_0",
) -> int:
    """Write a one-label `...ForSequenceClassification` checkpoint; return its padding id, which no text
    contains. Its label tells a rating model (`recognise.HARM_RATING`) from a preference model.

    A stock classifier reads its score at the last token that is not padding. A padding token that also ends texts
    (SmolLM2 has pad = eos) would move it: `padding.set_padding` chooses another.
    """
    folder = _make_folder(folder)
    tokenizer.save(folder)
    pad_id = set_padding(folder, tokenizer)
    tensors = named_tensors(model, merged=True)
    tensors.pop("lm_head.weight", None)
    embeddings = tensors["model.embed_tokens.weight"]
    if pad_id >= embeddings.shape[0]:
        extra = embeddings.new_zeros(pad_id + 1 - embeddings.shape[0], embeddings.shape[1])
        tensors["model.embed_tokens.weight"] = torch.cat((embeddings, extra))
    tensors[SCORE] = head.weight.detach()
    shape = replace(model.shape, vocab_size=max(model.shape.vocab_size, pad_id + 1), tied=True)
    config = _set_dtype(to_config(shape, tokenizer.eos_id, tokenizer.bos_id, pad_id), model.dtype)
    config["architectures"] = [ARCHITECTURES[shape.family].replace("CausalLM", "SequenceClassification")]
    config |= {"num_labels": 1, "id2label": {"0": label}, "label2id": {label: 0}}
    _write_weights(tensors, folder, shard_bytes)
    _write_json(folder / "config.json", config)
    return pad_id


def new_model(shape: Shape, seed: int, device: torch.device | str = "cpu") -> Transformer:
    """A model with new random weights: those of `random:` references (see `opening.random_weights`)."""
    model = Transformer(shape, device)
    weights = random_weights(shape, seed)
    for name, tensor in named_tensors(model).items():
        tensor.copy_(torch.from_numpy(weights[name]))
    return model


def named_tensors(model: Transformer, merged: bool = False) -> dict[str, Tensor]:
    """The weights under their Hugging Face names, as views of the model's own (copies if an adapter is
    merged)."""
    result: dict[str, Tensor] = {"model.embed_tokens.weight": model.embed.detach()}
    for number, layer in enumerate(model.blocks()):
        prefix = f"model.layers.{number}"
        result[f"{prefix}.input_layernorm.weight"] = layer.attention_norm.weight.detach()
        result[f"{prefix}.post_attention_layernorm.weight"] = layer.mlp_norm.weight.detach()
        for group, projections in (("self_attn", (layer.qkv, layer.out)), ("mlp", (layer.gate_up, layer.down))):
            for projection in projections:
                weight = projection.effective() if merged else projection.weight.detach()
                for part, (start, size) in projection.parts.items():
                    result[f"{prefix}.{group}.{part}.weight"] = weight[start : start + size]
                    if projection.bias is not None:
                        result[f"{prefix}.{group}.{part}.bias"] = projection.bias.detach()[start : start + size]
        if layer.q_norm is not None and layer.k_norm is not None:
            result[f"{prefix}.self_attn.q_norm.weight"] = layer.q_norm.weight.detach()
            result[f"{prefix}.self_attn.k_norm.weight"] = layer.k_norm.weight.detach()
    result["model.norm.weight"] = model.norm.weight.detach()
    if model.head is not None:
        result["lm_head.weight"] = model.head.detach()
    return result


def _fill(targets: Mapping[str, Tensor], folder: Path, tied: bool) -> None:
    """Copy the tensors of a checked folder into the model's."""
    for path in weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (a safetensors handle is not iterable)
                    if not is_ignored(name, tied):
                        targets[name].copy_(file.get_tensor(name))
        except (*DAMAGE, RuntimeError, SafetensorError) as error:
            raise damage_error(path, error) from None


def _tokenizer(folder: Path, shape: Shape) -> Tokenizer:
    """The folder's tokenizer. Raises CharterError if it can't belong to the model: the number of embeddings is rounded
    up a little, never down, and the end token of config.json is a special token."""
    tokenizer = Tokenizer.from_folder(folder)
    if not LEAST_USED * shape.vocab_size <= tokenizer.vocab_size <= shape.vocab_size:
        raise CharterError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens but the model "
            f"has {shape.vocab_size} embeddings; use the tokenizer that belongs to this model"
        )
    eos_ids = read_config(folder).get("eos_token_id")
    ends = eos_ids if isinstance(eos_ids, list) else [] if eos_ids is None else [eos_ids]
    if ends and not any(end in ends for end in tokenizer.special.values()):
        raise CharterError(
            f"{folder / 'config.json'} says that a text ends with token {', '.join(map(str, ends))[:80]}, which is no "
            "special token of the tokenizer beside it; use the tokenizer that belongs to this model"
        )
    return tokenizer


def _write_weights(tensors: Mapping[str, Tensor], folder: Path, shard_bytes: int) -> None:
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    plan = shard_plan(sizes, shard_bytes)
    for file, names in plan.items():
        save_file({name: tensors[name].contiguous() for name in names}, folder / file, metadata={"format": "pt"})
    write_index(folder, plan, sizes)


def _set_dtype(config: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    name = str(dtype).removeprefix("torch.")
    return {**config, "dtype": name, "torch_dtype": name}


def _make_folder(folder: Path | str) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
