"""A padding token that no text contains, for preference models (files only, no torch)."""

import json
from pathlib import Path
from typing import Any

from charter.ground.text.tokenizer import Tokenizer

_NAMES = ("pad", "reserved", "unused", "empty")
_NEW = "<|pad|>"
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def choose_padding(tokenizer: Tokenizer) -> tuple[int, str] | None:
    """(id, token) of a special token that neither user text nor the chat template can contain, None without one.

    The first choice is the tokenizer's own padding, if it is neither eos nor bos nor in the template. The second is
    another special token outside these: one with the name of a reserved token, else the last one. User text never
    becomes a special token, so a special token outside the template never occurs.
    """
    used = {tokenizer.eos_id, tokenizer.bos_id, tokenizer.special.get("<unk>")}
    free = {
        id: token
        for token, id in tokenizer.special.items()
        if id not in used and token not in tokenizer.template
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
