"""A tokenizer.json, read once for all tokenizers of the same words."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from tokenizers import Tokenizer as Backend

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import line_of, parse_json
from charter.ground.artifact.panics import sound

# Control tokens are sometimes registered as ordinary added tokens; these look like markup and are guarded
# too.
_MARKUP = re.compile(r"[<\[{(|｜].*[>\]})|｜]", re.DOTALL)
MOST_TOKENS = 2**20  # of a vocabulary, and as many merges; the largest in use has a quarter of that
MOST_ADDED = 2**14  # whose time grows with their square
MOST_PARTS = 200  # of normalizers and pre-tokenizers
MOST_GROWTH = 256  # times that a text may get longer before it is cut, in UTF-8
_CHAINS = ("normalizers", "pretokenizers", "decoders", "processors")
_LONGEST_PUT = 1000  # characters that one part puts into a text
# how much longer in UTF-8 a text gets at most
_GROWTH = {"NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11, "Lowercase": 2, "BertNormalizer": 12, "ByteLevel": 2}


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
        read = parse_json(definition.encode())
        _check_sizes(read)
        added = [dict(entry) for entry in read.get("added_tokens") or []]
        for entry in added:
            entry["special"] = _guarded(entry, dict(names))
        # offsets are cut by some post-processors, which serve only to add tokens: we never ask for that
        guarded = {
            **read,
            "added_tokens": added,
            "post_processor": None,
            "truncation": None,
            "padding": None,
        }
        with sound("not a tokenizer.json"):
            first = Backend.from_str(json.dumps(guarded))
        first.encode_special_tokens = True
        parsing = Backend.from_str(json.dumps({**guarded, "added_tokens": read.get("added_tokens")}))
    except CharterError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise CharterError(
            f"not a tokenizer.json: {line_of(error)}; expected the tokenizers library's format"
        ) from None
    return Definition(read, added, first, parsing)


def _check_sizes(read: Mapping[str, Any]) -> None:
    """Raises CharterError for a definition that takes more memory or makes texts longer than any in use does."""
    model = read.get("model") or {}
    counts = {
        "tokens": (len(model.get("vocab") or ()), MOST_TOKENS),
        "merges": (len(model.get("merges") or ()), MOST_TOKENS),
        "added tokens": (len(read.get("added_tokens") or ()), MOST_ADDED),
    }
    for what, (count, most) in counts.items():
        if count > most:
            raise CharterError(f"this tokenizer.json has {count:,} {what}; at most {most:,} are read")
    for chains in (("normalizer", "pre_tokenizer"), ("decoder",), ("post_processor",)):
        parts = [part for chain in chains for part in _parts(read.get(chain))]
        if len(parts) > MOST_PARTS:
            raise CharterError(f"a {chains[0]} of {len(parts):,} parts; at most {MOST_PARTS} are read")
        growth = 1
        for part in parts:
            growth *= _growth(part)
            if growth > MOST_GROWTH:
                raise CharterError(
                    f"the {chains[0]} of this tokenizer.json can make a text over {MOST_GROWTH} times longer; take "
                    "those parts out that grow it"
                )
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        _check_put(model, name)


def _check_put(part: Mapping[str, Any], name: str) -> str:
    """A text that a part puts into others. Raises CharterError where it is long."""
    put = str(part.get(name) or "")
    if len(put) > _LONGEST_PUT:
        raise CharterError(
            f"{name} of this tokenizer.json has {len(put):,} characters; at most {_LONGEST_PUT:,}"
        )
    return put


def _parts(part: Any) -> list[dict[str, Any]]:
    """What a normalizer, pre-tokenizer, decoder or post-processor consists of, in order."""
    found: list[dict[str, Any]] = []
    left = [part]
    while left:
        one = left.pop()
        if not isinstance(one, dict):
            continue
        inner = next((one[key] for key in _CHAINS if key in one), None)
        if isinstance(inner, list):
            left += reversed(inner)
        else:
            found.append(one)
    return found


def _growth(part: Mapping[str, Any]) -> int:
    """How many times longer a part makes a text at most. Raises CharterError for one that puts a long text in."""
    kind = part.get("type")
    size = max(len(_check_put(part, name).encode()) for name in ("content", "prepend", "replacement"))
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
