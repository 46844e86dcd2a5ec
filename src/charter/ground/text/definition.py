"""A tokenizer.json, parse_json once for all tokenizers that have the same text."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from tokenizers import Tokenizer as Backend

from charter.ground.artifact.errors import CharterError, sound
from charter.ground.artifact.foreign import line_of, parse_json

# Some models register control tokens as ordinary added tokens. Those that look like markup are guarded too.
_MARKUP = re.compile(r"[<\[{(|｜].*[>\]})|｜]", re.DOTALL)
MOST_TOKENS = 2**20  # in a vocabulary, and the most merges; the largest in use has a quarter
MOST_ADDED = 2**14  # added tokens: their cost grows with the square
MOST_PARTS = 200  # of normalizers and pre-tokenizers
MOST_GROWTH = 256  # times that a text may grow in UTF-8 before it is cut
_CHAINS = ("normalizers", "pretokenizers", "decoders", "processors")
_LONGEST_INSERT = 1000  # characters that one part inserts
# most times that a text grows in UTF-8
_GROWTH = {"NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11, "Lowercase": 2, "BertNormalizer": 12, "ByteLevel": 2}


@dataclass
class Definition:
    """A parsed tokenizer.json. Parsing takes a third of a second, so tokenizers of the same text share it; nothing
    changes it. `added`: the added tokens; the guarded ones are marked special."""

    parsed: dict[str, Any]
    added: list[dict[str, Any]]
    first: Backend
    parsing: Backend

    @cached_property
    def following(self) -> Backend:
        """The tokenizer for all pieces but the first: it puts no space before them."""
        definition = json.loads(self.first.to_str())
        definition["pre_tokenizer"] = _never_prepend(definition.get("pre_tokenizer"))
        try:
            with sound("not a tokenizer.json"):
                backend = Backend.from_str(json.dumps(definition))
        except CharterError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise CharterError(f"not a tokenizer.json: {line_of(error)}") from None
        backend.encode_special_tokens = True
        return backend


@lru_cache(maxsize=4)
def read_definition(definition: str, names: tuple[tuple[str, str | None], ...]) -> Definition:
    """Raises CharterError for what the library can't read."""
    try:
        fields = parse_json(definition.encode())
        _check_sizes(fields)
        added = [dict(entry) for entry in fields.get("added_tokens") or []]
        for entry in added:
            entry["special"] = _is_guarded(entry, dict(names))
        # Post-processors only add tokens, which we never ask for, and some of them change the offsets.
        guarded = {**fields, "added_tokens": added, "post_processor": None, "truncation": None, "padding": None}
        with sound("not a tokenizer.json"):
            first = Backend.from_str(json.dumps(guarded))
        first.encode_special_tokens = True
        parsing = Backend.from_str(json.dumps({**guarded, "added_tokens": fields.get("added_tokens")}))
    except CharterError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise CharterError(
            f"not a tokenizer.json: {line_of(error)}; expected the tokenizers library's format"
        ) from None
    return Definition(fields, added, first, parsing)


def _check_sizes(fields: Mapping[str, Any]) -> None:
    """Raises CharterError if a definition takes more memory, or lengthens texts more, than any in use."""
    model = fields.get("model") or {}
    counts = {
        "tokens": (len(model.get("vocab") or ()), MOST_TOKENS),
        "merges": (len(model.get("merges") or ()), MOST_TOKENS),
        "added tokens": (len(fields.get("added_tokens") or ()), MOST_ADDED),
    }
    for part_name, (count, most) in counts.items():
        if count > most:
            raise CharterError(f"this tokenizer.json has {count:,} {part_name}; at most {most:,} are read")
    for chains in (("normalizer", "pre_tokenizer"), ("decoder",), ("post_processor",)):
        parts = [part for chain in chains for part in _parts(fields.get(chain))]
        if len(parts) > MOST_PARTS:
            raise CharterError(f"a {chains[0]} of {len(parts):,} parts; at most {MOST_PARTS} are read")
        growth = 1
        for part in parts:
            growth *= _growth(part)
            if growth > MOST_GROWTH:
                raise CharterError(
                    f"the {chains[0]} of this tokenizer.json can make a text over {MOST_GROWTH} times longer; "
                    "remove the parts that lengthen it"
                )
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        _check_insert(model, name)


def _check_insert(part: Mapping[str, Any], name: str) -> str:
    """The text that a part inserts. Raises CharterError if it is too long."""
    text = str(part.get(name) or "")
    if len(text) > _LONGEST_INSERT:
        raise CharterError(f"{name} of this tokenizer.json has {len(text):,} characters; at most {_LONGEST_INSERT:,}")
    return text


def _parts(part: Any) -> list[dict[str, Any]]:
    """The parts of a normalizer, pre-tokenizer, decoder or post-processor, in order."""
    parts: list[dict[str, Any]] = []
    stack = [part]
    while stack:
        node = stack.pop()
        if not isinstance(node, dict):
            continue
        inner = next((node[key] for key in _CHAINS if key in node), None)
        if isinstance(inner, list):
            stack += reversed(inner)
        else:
            parts.append(node)
    return parts


def _growth(part: Mapping[str, Any]) -> int:
    """The most times that a part can lengthen a text. Raises CharterError if it inserts a long text."""
    kind = part.get("type")
    size = max(len(_check_insert(part, name).encode()) for name in ("content", "prepend", "replacement"))
    if kind == "TemplateProcessing":
        return max(1, len(part["single"]))
    if kind == "Replace":
        pattern = part.get("pattern")
        plain = pattern.get("String") if isinstance(pattern, dict) else None
        return max(1, -(-size // len(plain.encode())) if plain else 1 + size)
    if kind == "Precompiled":
        charsmap = base64.b64decode(part.get("precompiled_charsmap") or "")
        trie = int.from_bytes(charsmap[:4], "little")
        return max(1, *map(len, charsmap[4 + trie :].split(b"\0")))
    return max(_GROWTH.get(str(kind), 1), size if kind in ("Metaspace", "Prepend") else 1)


def _is_guarded(entry: Mapping[str, Any], names: Mapping[str, str | None]) -> bool:
    content = str(entry["content"])
    return bool(entry.get("special")) or content in names.values() or bool(_MARKUP.fullmatch(content))


def _never_prepend(part: Any) -> Any:
    if isinstance(part, dict):
        return {k: "never" if k == "prepend_scheme" and v == "first" else _never_prepend(v) for k, v in part.items()}
    return [_never_prepend(item) for item in part] if isinstance(part, list) else part
