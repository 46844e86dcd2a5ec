"""A tokenizer.json, read once for all tokenizers of the same words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from tokenizers import Tokenizer as Backend

from charter.ground.artifact.errors import CharterError

# Control tokens are sometimes registered as ordinary added tokens; these look like markup and are guarded
# too.
_MARKUP = re.compile(r"[<\[{(|｜].*[>\]})|｜]", re.DOTALL)


@dataclass
class Definition:
    """What the words of a tokenizer.json amount to. Reading them takes a third of a second: every tokenizer of the same
    words has the same one, and nothing changes it. `added`: its added tokens, those that are guarded marked special."""

    parsed: dict[str, Any]
    added: list[dict[str, Any]]
    first: Backend
    parsing: Backend

    @cached_property
    def following(self) -> Backend:
        """The tokenizer of pieces that aren't first: no space is put before them."""
        definition = json.loads(self.first.to_str())
        definition["pre_tokenizer"] = _never_prepend(definition.get("pre_tokenizer"))
        backend = Backend.from_str(json.dumps(definition))
        backend.encode_special_tokens = True
        return backend


@lru_cache(maxsize=4)
def read_definition(definition: str, names: tuple[tuple[str, str | None], ...]) -> Definition:
    """Raises CharterError for what the library can't read."""
    try:
        parsed = json.loads(definition)
        added = [dict(entry) for entry in parsed.get("added_tokens") or []]
        for entry in added:
            entry["special"] = _guarded(entry, dict(names))
        # offsets are cut by some post-processors, which serve only to add tokens: we never ask for that
        guarded = {
            **parsed,
            "added_tokens": added,
            "post_processor": None,
            "truncation": None,
            "padding": None,
        }
        first = Backend.from_str(json.dumps(guarded))
        first.encode_special_tokens = True
        parsing = Backend.from_str(json.dumps({**guarded, "added_tokens": parsed.get("added_tokens")}))
    except Exception as error:  # the library raises bare Exception
        raise CharterError(
            f"not a tokenizer.json: {error}; expected the tokenizers library's format"
        ) from None
    return Definition(parsed, added, first, parsing)


def _guarded(entry: Mapping[str, Any], names: Mapping[str, str | None]) -> bool:
    content = str(entry["content"])
    return bool(entry.get("special")) or content in names.values() or bool(_MARKUP.fullmatch(content))


def _never_prepend(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            k: "never" if k == "prepend_scheme" and v == "first" else _never_prepend(v)
            for k, v in part.items()
        }
    return [_never_prepend(item) for item in part] if isinstance(part, list) else part
