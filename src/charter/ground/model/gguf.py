"""GGUF files (llama.cpp) of llama, mistral, qwen2 and qwen3 models, converted to the Hugging Face layout. No torch.

The file holds weights (dequantised here to float32), and the shape and the tokenizer as metadata. llama.cpp interleaves
the halves of each query and key head of llama models for its own rotary order; that is undone here. Of tokenizers only
byte-level BPE is read (`tokenizer.ggml.model` "gpt2"). The file names its pre-tokenizer (how text is cut before
merging); the patterns are those of the models' own `tokenizer.json`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from charter.ground.artifact.errors import CharterError, sound
from charter.ground.artifact.foreign import DAMAGE, line_of
from charter.ground.model.folder import SHARD_BYTES, shard_plan, write_index
from charter.ground.model.generation import write_generation
from charter.ground.model.gguf_file import GgufFile, GgufTensor
from charter.ground.model.shape import Shape, from_config, to_config
from charter.ground.text.definition import MOST_ADDED, MOST_TOKENS

_CONTROL, _USER_DEFINED = 3, 4
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Pre-tokenizer name -> pattern; None: GPT-2's own. SmolLM cuts digits one by one first.
_PATTERNS = {
    "default": None,
    "gpt-2": None,
    "smollm": None,
    "llama-bpe": _WORDS + r"\p{N}{1,3}" + _REST,
    "llama3": _WORDS + r"\p{N}{1,3}" + _REST,
    "llama-v3": _WORDS + r"\p{N}{1,3}" + _REST,
    "qwen2": _WORDS + r"\p{N}" + _REST,
    "deepseek-r1-qwen": _WORDS + r"\p{N}" + _REST,
}
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
_QWEN = ("qwen2", "deepseek-r1-qwen")
_FAMILIES = {"llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GLOBAL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ROPE_FACTORS = "rope_freqs.weight"
Floats = NDArray[np.float32]


def special_ids(values: Mapping[str, Any]) -> dict[str, int | None]:
    """Ids of bos, eos, unk and pad, None for those that the file doesn't name."""
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {short: values.get(f"tokenizer.ggml.{long}_token_id") for short, long in names.items()}
    return {short: None if id is None else int(id) for short, id in ids.items()}


def write_tokenizer(values: Mapping[str, Any], folder: Path) -> None:
    """Write both tokenizer files. Raises CharterError for another kind of tokenizer or an unknown
    pre-tokenizer."""
    kind, pre = values.get("tokenizer.ggml.model"), str(values.get("tokenizer.ggml.pre", "default"))
    if kind != "gpt2":
        raise CharterError(
            f"GGUF tokenizer {kind!r} is not supported; expected byte-level BPE ('gpt2'): take the model's "
            "Hugging Face folder instead"
        )
    if pre not in _PATTERNS:
        raise CharterError(f"GGUF pre-tokenizer {pre!r} is not supported; supported: {', '.join(_PATTERNS)}")
    tokens: list[str] = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in values["tokenizer.ggml.merges"]]
    if max(len(tokens), len(merges)) > MOST_TOKENS:
        raise CharterError(f"the GGUF file has {len(tokens):,} tokens; at most {MOST_TOKENS:,} are read")
    kinds = list(values.get("tokenizer.ggml.token_type", [1] * len(tokens)))
    if sum(kind in (_CONTROL, _USER_DEFINED) for kind in kinds) > MOST_ADDED:
        raise CharterError(f"the GGUF file has over {MOST_ADDED:,} tokens beside its words; fewer are read")
    ids = special_ids(values)
    names = {short: None if id is None else tokens[id] for short, id in ids.items()}
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges, ignore_merges=pre in _LLAMA3))
    if pre in _QWEN:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    adds_bos = bool(values.get("tokenizer.ggml.add_bos_token", pre in _LLAMA3)) and ids["bos"] is not None
    if adds_bos:
        bos = names["bos"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(str(bos), ids["bos"])]
        )
    control_tokens = [
        AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL
    ]
    tokenizer.add_special_tokens(control_tokens)
    plain = [AddedToken(t, normalized=False) for t, k in zip(tokens, kinds, strict=True) if k == _USER_DEFINED]
    tokenizer.add_tokens(plain)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= {f"{short}_token": name for short, name in names.items() if name is not None}
    arch = values["general.architecture"]
    config |= {"add_bos_token": adds_bos, "add_prefix_space": False}
    config["model_max_length"] = int(values.get(f"{arch}.context_length", 2048))
    template = values.get("tokenizer.chat_template")
    if template:
        config["chat_template"] = template
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    pattern = _PATTERNS[pre]
    if pattern is not None:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        steps = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        return pre_tokenizers.Sequence(steps)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return words


def convert(
    path: Path | str, folder: Path | str, shard_bytes: int = SHARD_BYTES, generation: Mapping[str, Any] | None = None
) -> None:
    """Write the model of a GGUF file as a checkpoint folder; `generation`: fields of its generation_config.json.

    Raises CharterError for a file that is corrupt, of an unsupported architecture, tokenizer or number
    format.
    """
    path, folder = Path(path), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = _open(path)
    values, tensors = file.values, file.tensors
    try:
        with sound(f"{path} cannot be converted"):
            shape = from_config(_config(values, tensors))
            write_tokenizer(values, folder)
            _write_weights(tensors, shape, folder, shard_bytes)
    except (CharterError, OSError):  # of this disk
        raise
    except Exception as error:  # if numbers don't fit; the tokenizers library raises bare Exception
        raise CharterError(f"{path} cannot be converted: {type(error).__name__} {line_of(error)}") from None
    ids = special_ids(values)
    _write_json(folder / "config.json", to_config(shape, ids["eos"], ids["bos"], ids["pad"]))
    token_ids = {f"{name}_token_id": ids[name] for name in ("bos", "eos", "pad")}
    write_generation(folder, generation or {}, token_ids)


def _open(path: Path) -> GgufFile:
    try:
        return GgufFile.open(path)
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; expected a GGUF file") from None
    except DAMAGE as error:
        raise CharterError(f"{path} is not an intact GGUF file ({line_of(error)}); download it again") from None


def _config(values: Mapping[str, Any], tensors: Mapping[str, GgufTensor]) -> dict[str, Any]:
    arch = str(values["general.architecture"])
    if arch not in _FAMILIES:
        raise CharterError(f"GGUF architecture {arch!r} is not supported; supported: {', '.join(_FAMILIES)}")
    if values.get(f"{arch}.expert_count"):
        raise CharterError(f"GGUF file is a mixture of experts; supported: dense {', '.join(_FAMILIES)}")

    def key(name: str, default: Any = None) -> Any:
        value = values.get(f"{arch}.{name}", default)
        if value is None:
            raise CharterError(f"GGUF file lacks the metadata {arch}.{name}; it cannot be converted")
        return value

    width, heads = int(key("embedding_length")), int(key("attention.head_count"))
    head_dim = int(key("attention.key_length", width // heads))
    if int(key("rope.dimension_count", head_dim)) != head_dim:
        raise CharterError("GGUF file rotates a part of each head only; expected rope.dimension_count = head size")
    window = values.get(f"{arch}.attention.sliding_window")
    biased = "blk.0.attn_output.bias" in tensors
    return {
        "model_type": _FAMILIES[arch],
        "vocab_size": int(tensors["token_embd.weight"].extents[1]),
        "hidden_size": width,
        "intermediate_size": int(key("feed_forward_length")),
        "num_hidden_layers": int(key("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(key("attention.head_count_kv", heads)),
        "head_dim": head_dim,
        "max_position_embeddings": int(key("context_length")),
        "rms_norm_eps": float(key("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(key("rope.freq_base", 10_000.0)),
        "rope_scaling": _rope_scaling(values, arch, tensors, head_dim),
        "attention_bias": biased,
        "tie_word_embeddings": "output.weight" not in tensors,
        "sliding_window": int(window) if window else None,
        "use_sliding_window": bool(window),
        "max_window_layers": 0,
    }


def _rope_scaling(
    values: Mapping[str, Any], arch: str, tensors: Mapping[str, GgufTensor], head_dim: int
) -> dict[str, Any] | None:
    kind = values.get(f"{arch}.rope.scaling.type", "none")
    factor = values.get(f"{arch}.rope.scaling.factor")
    original = values.get(f"{arch}.rope.scaling.original_context_length")
    if _ROPE_FACTORS in tensors:
        base = float(values.get(f"{arch}.rope.freq_base", 10_000.0))
        return _llama3(np.asarray(tensors[_ROPE_FACTORS].data, np.float32), base, head_dim)
    if kind == "linear" and factor:
        return {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn" and factor:
        scaling = {"rope_type": "yarn", "factor": float(factor)}
        return scaling | ({"original_max_position_embeddings": int(original)} if original else {})
    if kind not in ("none", "linear", "yarn"):
        raise CharterError(f"GGUF RoPE scaling {kind!r} is not supported; supported: none, linear, yarn, llama3")
    return None


def _llama3(factors: Floats, base: float, head_dim: int) -> dict[str, Any]:
    """llama.cpp keeps only the divisors of the llama3 scaling: recover its settings and check them."""
    factor, low, high, original = float(factors.max()), 1.0, 4.0, 8192
    inv_freq = base ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    smooth = np.clip((original * inv_freq / (2 * np.pi) - low) / (high - low), 0, 1)
    expected = 1.0 / ((1 - smooth) / factor + smooth)
    if not np.allclose(expected, factors, rtol=1e-3):
        raise CharterError("GGUF file has RoPE factors other than Llama 3's (low 1, high 4, original context 8192)")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _hf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in _GLOBAL:
        return f"{_GLOBAL[stem]}.{kind}"
    parts = stem.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in _LAYER:
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{kind}"
    raise CharterError(f"GGUF file has the unexpected tensor {name}; it is not a plain decoder")


def _undo_interleave(weight: Floats, heads: int) -> Floats:
    """Reorder the rows of each head from llama.cpp's (pair, half) to (half, pair)."""
    halves = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _array(tensor: GgufTensor, shape: Shape) -> Floats:
    values: Floats = np.ascontiguousarray(dequantize(tensor.data, tensor.kind), dtype=np.float32)
    values = values.reshape(tuple(reversed(tensor.extents)))
    if shape.family in ("llama", "mistral") and ".attn_q." in tensor.name:
        return _undo_interleave(values, shape.num_heads)
    if shape.family in ("llama", "mistral") and ".attn_k." in tensor.name:
        return _undo_interleave(values, shape.num_kv_heads)
    return values


def _write_weights(tensors: Mapping[str, GgufTensor], shape: Shape, folder: Path, shard_bytes: int) -> None:
    """Write shard by shard, so that a large model is never whole in memory."""
    weights = {_hf_name(name): tensor for name, tensor in tensors.items() if name != _ROPE_FACTORS}
    sizes = {name: 4 * math.prod(tensor.extents) for name, tensor in weights.items()}
    plan = shard_plan(sizes, shard_bytes)
    for file, names in plan.items():
        save_file(dict(_convert(weights, names, shape)), folder / file, metadata={"format": "pt"})
    write_index(folder, plan, sizes)


def _convert(weights: Mapping[str, GgufTensor], names: list[str], shape: Shape) -> Iterator[tuple[str, Floats]]:
    for name in names:
        yield name, _array(weights[name], shape)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
