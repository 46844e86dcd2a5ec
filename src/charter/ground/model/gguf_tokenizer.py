"""The tokenizer that a GGUF file describes, written as `tokenizer.json` and `tokenizer_config.json`.

Byte-level BPE only (`tokenizer.ggml.model` "gpt2"). The file names its pre-tokenizer (how text is cut before
merging); the patterns are those of the models' own `tokenizer.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from charter.ground.artifact.errors import CharterError
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
    tokenizer = Tokenizer(
        BPE({token: i for i, token in enumerate(tokens)}, merges, ignore_merges=pre in _LLAMA3)
    )
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
    whole = [
        AddedToken(t, normalized=False, special=True)
        for t, k in zip(tokens, kinds, strict=True)
        if k == _CONTROL
    ]
    tokenizer.add_special_tokens(whole)
    plain = [
        AddedToken(t, normalized=False) for t, k in zip(tokens, kinds, strict=True) if k == _USER_DEFINED
    ]
    tokenizer.add_tokens(plain)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
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
