"""Our decoder and stock transformers compute the same logits from the same files, both ways."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from charter.ground.model.checkpoint import load_policy, load_preference, new_model, save_policy, save_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.model.layout import documents
from charter.ground.model.lora import add_lora, lora_parameters
from charter.ground.model.shape import Shape
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

VOCABULARY = 300
SCALINGS = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "yarn-mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "mscale": 0.7,
        "mscale_all_dim": 1.2,
        "beta_fast": 16,
        "truncate": False,
    },
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["How much wood would a woodchuck chuck? " * 4], VOCABULARY)


def config(family: str, **changed: object) -> dict[str, object]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        **changed,
    }


def stock(family: str, **changed: object) -> torch.nn.Module:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config(family, **changed)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def ids(length: int = 100) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(2))


def difference(model: torch.nn.Module, other: torch.nn.Module, tokens: torch.Tensor) -> float:
    with torch.no_grad():
        ours = model.logits(model.hidden(tokens, documents([len(tokens)])))
        theirs = other(tokens[None]).logits[0]
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True, "num_key_value_heads": 4}),
        ("llama", {"num_key_value_heads": 1, "head_dim": 16}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 128, "tie_word_embeddings": True}),
        ("qwen2", {}),
        ("qwen2", {"tie_word_embeddings": True, "use_sliding_window": True, "max_window_layers": 1}),
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": True, "attention_bias": True, "head_dim": 16}),
        *(("llama", {"rope_scaling": scaling}) for scaling in SCALINGS.values()),
        ("qwen2", {"rope_scaling": SCALINGS["yarn"]}),
        ("qwen3", {"rope_scaling": SCALINGS["llama3"]}),
    ],
)
def test_equal_logits_both_ways(tmp_path: Path, tokenizer: Tokenizer, family: str, changed: dict[str, object]) -> None:
    theirs = stock(family, **changed)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    model, read = load_policy(tmp_path / "theirs")
    assert difference(model, theirs, ids()) < 1e-4
    save_policy(model, read, tmp_path / "ours")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    assert difference(model, again, ids()) < 1e-4
    assert again.config.architectures == theirs.config.architectures or not theirs.config.architectures
    assert again.generation_config.eos_token_id == tokenizer.eos_id
    reread, _ = load_policy(tmp_path / "ours")
    assert reread.shape == model.shape


@pytest.mark.parametrize("spelling", ["rope_theta", "rope_parameters"])
def test_both_spellings_of_rope(tmp_path: Path, tokenizer: Tokenizer, spelling: str) -> None:
    theirs = stock("llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e4})
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    if spelling == "rope_theta":
        old = written.pop("rope_parameters")
        written |= {"rope_theta": old["rope_theta"], "rope_scaling": {"type": "linear", "factor": old["factor"]}}
    path.write_text(json.dumps(written))
    assert difference(load_policy(tmp_path)[0], theirs, ids()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_checkpoints_load_as_float32(tmp_path: Path, tokenizer: Tokenizer, dtype: torch.dtype) -> None:
    stock("llama").to(dtype).save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer.save(tmp_path)
    model, _ = load_policy(tmp_path)
    assert model.dtype is torch.float32
    assert difference(model, theirs, ids()) < 1e-4


def test_stock_tokenizer_reads_ours(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_policy(new_model(Shape(VOCABULARY, 32, 48, 1, 4, 2, 8, 64), 0), tokenizer, tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    text = "How would 123 wood\n  chuck? é 🙂"
    assert read(text, add_special_tokens=False).input_ids == tokenizer.encode(text)
    assert read.chat_template == tokenizer.template
    assert (read.eos_token_id, read.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)


def test_shards_with_an_index(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = new_model(Shape(VOCABULARY, 32, 48, 2, 4, 2, 8, 64, tied=False), 3)
    save_policy(model, tokenizer, tmp_path, shard_bytes=30_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert difference(model, AutoModelForCausalLM.from_pretrained(tmp_path), ids(50)) < 1e-5
    assert difference(load_policy(tmp_path)[0], AutoModelForCausalLM.from_pretrained(tmp_path), ids(50)) < 1e-5


def test_merged_adapter_is_what_is_saved(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = new_model(Shape(VOCABULARY, 32, 48, 2, 4, 2, 8, 64), 3)
    add_lora(model, 4, 8.0, ("q_proj", "v_proj", "up_proj"))
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_policy(model, tokenizer, tmp_path)
    assert difference(model, AutoModelForCausalLM.from_pretrained(tmp_path), ids(50)) < 1e-5


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("reserve", [True, False])
def test_score_of_a_padded_batch_in_stock_transformers(
    tmp_path: Path, tokenizer: Tokenizer, family: str, reserve: bool
) -> None:
    if not reserve:  # pad = eos, as in SmolLM2, and no special token to spare: one is added
        specials = {"<|endoftext|>": "<|im_end|>", "<|pad|>": "<|im_end|>"}
        definition = json.loads(json.dumps(tokenizer._definition))
        definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] not in specials]
        tokenizer = Tokenizer(json.dumps(definition), {"eos": "<|im_end|>", "pad": "<|im_end|>"}, tokenizer.template)
    shape = Shape(tokenizer.vocab_size, 32, 48, 2, 4, 2, 8, 64, family=family, tied=False)
    shape = replace(shape, qkv_bias=family == "qwen2", qk_norm=family == "qwen3")
    model, head = new_model(shape, 4), ScoreHead(32, seed=5)
    pad_id = save_preference(model, head, tokenizer, tmp_path)
    assert pad_id == (tokenizer.special["<|pad|>"] if reserve else tokenizer.vocab_size)
    texts = ["How much wood<|im_end|>", "would a woodchuck chuck? would<|im_end|>", "a<|im_end|>"]
    rows = [tokenizer.special_spans(text)[0] for text in texts]
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert read.pad_token_id == pad_id
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    lengths = [len(row) for row in rows]
    ends = torch.tensor(lengths).cumsum(0) - 1
    with torch.no_grad():
        ours = head(model.hidden(torch.tensor([id for row in rows for id in row]), documents(lengths))[ends])
        for side in ("right", "left"):
            read.padding_side = side
            batch = read(texts, add_special_tokens=False, padding=True, return_tensors="pt")
            assert int((batch.input_ids == pad_id).sum()) > 0
            scores = theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, 0]
            assert torch.allclose(scores, ours, atol=1e-5)
    again, head_again, tokenizer_again = load_preference(tmp_path)
    assert tokenizer_again.pad_id == pad_id
    with torch.no_grad():
        reread = head_again(again.hidden(torch.tensor([id for row in rows for id in row]), documents(lengths))[ends])
    assert torch.equal(reread, ours)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "score.weight" in file.keys() and "lm_head.weight" not in file.keys()  # noqa: SIM118
