"""A checkpoint folder without torch: config.json, the headers of its weights, and how these are split into files.

A plan and the loader refuse a folder in the same words, because the loader calls these checks first. Weights are one
safetensors file, or numbered shards with an index if they are large.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import (
    DAMAGE,
    LONGEST_JSON,
    check_values,
    inside,
    line_of,
    parse_json,
    parse_json_file,
)
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.model.generation import read_generation
from charter.ground.model.shape import Shape, from_config
from charter.ground.settings.recognise import HARM_RATING, variant_of_config

SHARD_BYTES = 4_000_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SCORE = "score.weight"
# variant -> its name, and the description of a right folder
_NAMES = {
    "policy": ("a policy", "a policy (a ...ForCausalLM checkpoint)"),
    "preference": ("a preference model", "a preference model (a one-label ...ForSequenceClassification checkpoint)"),
    "rating": ("a rating model", f"a rating model (a ...ForSequenceClassification whose label is {HARM_RATING})"),
    "labeller": ("a labeller that reads principles", "a labeller (a step of the room `labeller`)"),
}
_HEAD = "lm_head.weight"
# bits of a number, by the name of its type
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_MOST_EXTENTS, _LARGEST = 8, 2**48
# of a header; a tensor takes six or more, and a thousand layers have some 14,000 tensors
_MOST_VALUES = 2**19
_BLOCK = 1 << 22  # bytes read at once
Sizes = dict[str, tuple[int, ...]]


def shard_plan(sizes: Mapping[str, int], limit: int = SHARD_BYTES) -> dict[str, list[str]]:
    """File name -> tensor names, in order, none over `limit` bytes unless one tensor alone is."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, 1)}


def write_index(folder: Path, plan: Mapping[str, list[str]], sizes: Mapping[str, int]) -> None:
    """Writes the index of the tensors in each shard; nothing for a single file."""
    if len(plan) == 1:
        return
    weight_map = {name: file for file, names in plan.items() for name in names}
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class ModelSize:
    """The shape of a model and its number of parameters; of a folder, the number in its files."""

    shape: Shape
    parameters: int


def check_folder(folder: Path, variant: str | None = "policy") -> Shape:
    """The shape of a folder that holds a whole model. Raises CharterError as `read_size` does."""
    return read_size(folder, variant).shape


def read_size(folder: Path, variant: str | None = "policy") -> ModelSize:
    """The size of a folder that holds a whole model: a policy, or for other variants a one-label classifier.

    Raises CharterError for a missing or damaged file, an unsupported architecture, a model of the other variant,
    missing, unexpected or misshapen tensors, and a policy's malformed generation_config.json.
    """
    config = read_config(folder)
    kind = variant_of_config(config)
    if variant is not None and kind != variant:
        raise CharterError(f"{folder} is {_NAMES[kind][0]}; expected {_NAMES[variant][1]}")
    classifier = kind != "policy"
    try:
        shape = from_config(config)
    except DAMAGE as error:
        raise CharterError(
            f"{folder / 'config.json'} holds a value that is no size ({line_of(error)}); restore the file"
        ) from None
    # a classifier's file has no language-model head
    shape = replace(shape, tied=True) if classifier else shape
    sizes = tensor_sizes(shape) | ({SCORE: (1, shape.hidden_size)} if classifier else {})
    parameters = _compare(sizes, folder, shape.tied)
    if not classifier:
        read_generation(folder)
    try:
        inside(folder, "tokenizer.json")
    except FileNotFoundError:
        raise CharterError(
            f"{folder} has no tokenizer.json; expected the tokenizer that belongs to this model"
        ) from None
    except OSError as error:
        raise CharterError(f"{folder / 'tokenizer.json'} cannot be read ({line_of(error)}); restore the file") from None
    return ModelSize(shape, parameters)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a checkpoint folder. Raises CharterError when it is missing or damaged."""
    try:
        config = parse_json_file(inside(folder, "config.json"))
    except FileNotFoundError:
        raise CharterError(
            f"{folder} has no config.json; expected a checkpoint folder in Hugging Face layout"
        ) from None
    except DAMAGE as error:
        raise CharterError(f"{folder / 'config.json'} cannot be read ({line_of(error)}); restore the file") from None
    if not isinstance(config, dict):
        raise CharterError(f"{folder / 'config.json'} is not a JSON object; restore the file")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by its index if it has one. Raises CharterError when there are none."""
    if os.path.lexists(folder / INDEX):
        try:
            names = set(parse_json_file(inside(folder, INDEX))["weight_map"].values())
            if elsewhere := [n for n in names if Path(n).name != n or n in ("", "..")]:
                raise ValueError(f"{elsewhere[0][:200]!r} is no file of this folder")
        except DAMAGE as error:
            raise CharterError(f"{folder / INDEX} cannot be read ({line_of(error)}); restore the file") from None
        return [_weights(folder, name) for name in sorted(names)]
    if os.path.lexists(folder / SINGLE):
        return [_weights(folder, SINGLE)]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    hint = f" ({pickles[0]} is a pickle, which is never loaded)" if pickles else ""
    raise CharterError(f"{folder} has no {SINGLE}{hint}; expected weights as safetensors")


def _weights(folder: Path, name: str) -> Path:
    try:
        return inside(folder, name)
    except (OSError, ValueError) as error:
        raise damage_error(folder / name, error) from None


def read_header(path: Path) -> Sizes:
    """Tensor name -> extents, of a safetensors file that is no pipe or device.

    The file starts with the length of its header (8 bytes, little endian), then the header as JSON, then the
    tensors, side by side; the header says where each begins and ends. Raises CharterError if the file isn't whole, or
    the extents of a tensor don't fit its bytes.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, LONGEST_JSON):
                raise ValueError("its header would be longer than the file, or than any in use")
            header = file.read(length)
        check_values(header, _MOST_VALUES)
        entries = parse_json(header)
        tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        if end != size:
            raise ValueError(f"it has {size} bytes and its header asks for {end}")
        _check_spans(tensors)
        return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except DAMAGE as error:
        raise damage_error(path, error) from None


def digest_weights(folder: Path) -> str:
    """SHA-256 of the tensors by name: the same for the same weights, in whatever files and place. Raises CharterError
    as `read_header` does."""
    digests: dict[str, list[str]] = {}
    for path in weight_files(folder):
        read_header(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = dict(parse_json(file.read(length)))
            entries.pop("__metadata__", None)
            for name, entry in sorted(entries.items(), key=lambda item: int(item[1]["data_offsets"][0])):
                start, end = entry["data_offsets"]
                digest = hashlib.sha256()
                for at in range(start, end, _BLOCK):
                    digest.update(file.read(min(_BLOCK, end - at)))
                digests[name] = [entry["dtype"], digest.hexdigest()]
    return digest_text(canonical_json(digests))


def _check_spans(tensors: Mapping[str, Any]) -> None:
    """Raises ValueError unless the tensors lie side by side and the extents of each fit its bytes."""
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        (start, end), extents = entry["data_offsets"], entry["shape"]
        numbers = [start, end, *extents]
        if len(extents) > _MOST_EXTENTS or not all(type(n) is int and 0 <= n < _LARGEST for n in numbers):
            raise ValueError(f"{name[:200]} has extents that are no sizes")
        if start != at or 8 * (end - start) != math.prod(extents) * _BITS[entry["dtype"]]:
            raise ValueError(f"{name[:200]} does not have the bytes that its extents take")
        at = end


def damage_error(path: Path, error: Exception) -> CharterError:
    """The error for a file of weights that can't be read."""
    return CharterError(f"{path} is missing, truncated or corrupt ({line_of(error)}); restore it")


def is_ignored(name: str, tied: bool) -> bool:
    """Whether a tensor is ignored: a head equal to the embeddings, or frequencies that are computed."""
    return (tied and name == _HEAD) or name.endswith("rotary_emb.inv_freq")


def tensor_sizes(shape: Shape) -> Sizes:
    """Hugging Face name -> extents of every weight of a decoder, in the order in which new weights are drawn."""
    width, inner, d = shape.hidden_size, shape.intermediate_size, shape.head_dim
    queries, keys = shape.num_heads * d, shape.num_kv_heads * d
    result: Sizes = {"model.embed_tokens.weight": (shape.vocab_size, width)}
    for number in range(shape.num_layers):
        at = f"model.layers.{number}"
        for name, size in {"q": queries, "k": keys, "v": keys}.items():
            result[f"{at}.self_attn.{name}_proj.weight"] = (size, width)
            if shape.qkv_bias:
                result[f"{at}.self_attn.{name}_proj.bias"] = (size,)
        result[f"{at}.self_attn.o_proj.weight"] = (width, queries)
        if shape.o_bias:
            result[f"{at}.self_attn.o_proj.bias"] = (width,)
        if shape.qk_norm:
            result[f"{at}.self_attn.q_norm.weight"] = (d,)
            result[f"{at}.self_attn.k_norm.weight"] = (d,)
        result[f"{at}.mlp.gate_proj.weight"] = (inner, width)
        result[f"{at}.mlp.up_proj.weight"] = (inner, width)
        result[f"{at}.mlp.down_proj.weight"] = (width, inner)
        result[f"{at}.input_layernorm.weight"] = (width,)
        result[f"{at}.post_attention_layernorm.weight"] = (width,)
    result["model.norm.weight"] = (width,)
    if not shape.tied:
        result[_HEAD] = (shape.vocab_size, width)
    return result


def _compare(sizes: Mapping[str, tuple[int, ...]], folder: Path, tied: bool) -> int:
    """Checks that the files hold each tensor once, with the right extents, and no others. Returns how many numbers they
    hold."""
    missing, numbers = dict(sizes), 0
    for path in weight_files(folder):
        for name, extents in read_header(path).items():
            numbers += math.prod(extents)
            if is_ignored(name, tied):
                continue
            if name not in missing:
                raise CharterError(f"{path} has the unexpected tensor {name}; it does not fit config.json")
            expected = missing.pop(name)
            if extents != expected:
                raise CharterError(f"{path}: {name} is {list(extents)}, config.json asks for {list(expected)}")
    if missing:
        some = ", ".join(list(missing)[:3]) + (", ..." if len(missing) > 3 else "")
        raise CharterError(f"{folder} lacks {len(missing)} tensors that config.json asks for: {some}")
    return numbers
