"""The tokenizer: text to token ids, where text never becomes a special token because it spells one.

It wraps `tokenizer.json` (the tokenizers library) with what stands beside it in a checkpoint: the names of
the end, start and padding tokens, and the chat template.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import LONGEST_JSON, inside, parse_json
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.artifact.panics import sound
from charter.ground.text.definition import read_definition

Spans = list[tuple[int, int]]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TRAINED_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")

# Tokens that end a reply or a document in the supported families, whichever of them a checkpoint calls eos.
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<|end|>")
_NAMES = ("eos", "bos", "pad", "unk")
_LONG = 2000  # characters
_TEMPLATE = "chat_template.jinja"
# Settings of a checkpoint's tokenizer that change nothing here and are handed on when it is saved.
_HANDED_ON = ("model_max_length", "add_bos_token", "add_eos_token", "add_prefix_space", "padding_side")

# Byte-level vocabularies write every byte as a character that can be printed (Radford 2019).
_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(byte): byte for byte in _PRINTED} | {
    chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in _PRINTED)
}
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")  # a byte in other vocabularies


GAVE_UP = "the tokenizer of this model can't cut the text"


class Tokenizer:
    """Text to ids and back.

    special: every guarded token and its id: those marked special, those named as eos, bos or pad, and added
    tokens that look like markup (`<think>`). ends: ids at which a reply ends.
    """

    def __init__(self, definition: str, names: Mapping[str, str | None], template: str = "") -> None:
        """definition: text of tokenizer.json; names: tokens for "eos" and, if any, "bos", "pad", "unk"."""
        self.names: dict[str, str | None] = {name: names.get(name) for name in _NAMES}
        self._text = definition
        self._read = read = read_definition(definition, tuple(self.names.items()))
        self._backend, self._parsing, self._definition, added = (
            read.first,
            read.parsing,
            read.parsed,
            read.added,
        )
        self._spelled: dict[tuple[int, bool], bytes | None] = {}
        self._handed_on: dict[str, Any] = {}
        self.template = template
        self.special: dict[str, int] = {e["content"]: self._id(e["content"]) for e in added if e["special"]}
        self._flags = {e["content"]: (bool(e.get("lstrip")), bool(e.get("rstrip"))) for e in added}
        size = self._backend.get_vocab_size(with_added_tokens=True)
        self.vocab_size: int = max([size, *(i + 1 for i in self.special.values())])
        eos = self.names["eos"] or next((token for token in _ENDS if token in self.special), None)
        if eos is None:
            raise CharterError("the tokenizer names no end token; set eos_token in tokenizer_config.json")
        self.names["eos"] = eos
        self.eos_id: int = self._id(eos)
        self.bos_id: int | None = self._id(bos) if (bos := self.names["bos"]) else None
        self.pad_id: int = self._id(pad) if (pad := self.names["pad"]) else self.eos_id
        self.ends: frozenset[int] = frozenset(
            {self.eos_id, *(self.special[t] for t in _ENDS if t in self.special)}
        )
        unknown = self.special.get(self.names["unk"] or "")
        self._forbidden = frozenset(i for i in self.special.values() if i != unknown)
        self.special_pattern: re.Pattern[str] | None = self._pattern()

    @classmethod
    def from_json(
        cls,
        definition: str,
        *,
        eos: str | None = None,
        bos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        template: str = "",
    ) -> Tokenizer:
        """From the text of a tokenizer.json; without `eos` a well-known end token is looked for."""
        return cls(definition, {"eos": eos, "bos": bos, "pad": pad, "unk": unk}, template)

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """From a checkpoint folder: tokenizer.json, tokenizer_config.json, and chat_template.jinja if any."""
        folder = Path(folder)
        definition = _read(folder, "tokenizer.json")
        config = _read_object(folder, "tokenizer_config.json")
        config = {**_read_object(folder, "special_tokens_map.json"), **config}
        names = {name: _token_name(config.get(f"{name}_token")) for name in _NAMES}
        named = _template_of(config.get("chat_template"))
        template = _read(folder, _TEMPLATE) if os.path.lexists(folder / _TEMPLATE) else named
        tokenizer = cls(definition, names, template)
        tokenizer._handed_on = {key: config[key] for key in _HANDED_ON if key in config}
        return tokenizer

    def with_template(self, template: str) -> Tokenizer:
        """The same tokenizer with another chat template."""
        tokenizer = Tokenizer(self._text, self.names, template)
        tokenizer._handed_on = self._handed_on
        return tokenizer

    @property
    def definition(self) -> Mapping[str, Any]:
        """The content of tokenizer.json as it was given."""
        return self._definition

    @cached_property
    def digest(self) -> str:
        """Names how plain text is cut into ids: two tokenizers with one digest cut alike, whatever their templates."""
        parts = ("normalizer", "pre_tokenizer", "model")
        return digest_text(canonical_json([self._definition.get(part) for part in parts]))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never a special token whatever the text spells."""
        if len(text) < _LONG:
            return self.encode_spans(text)[0]
        ids: list[int] = self.encode_batch([text])[0].tolist()  # without spans in half the time
        return ids

    @cached_property
    def opening(self) -> list[int]:
        """Ids that transformers puts before plain text: the start token in some families, in others none. The
        post-processor of tokenizer.json decides, whatever `add_bos_token` says beside it."""
        plain = {**self._definition, "truncation": None, "padding": None}
        found = Backend.from_str(json.dumps(plain)).encode("a")
        before = takewhile(lambda pair: pair[1], zip(found.ids, found.special_tokens_mask, strict=True))
        return [token for token, _ in before]

    def encode_document(self, text: str) -> list[int]:
        """Ids of a text that stands alone, without a chat template, as transformers begins one."""
        return [*self.opening, *self.encode(text)]

    def special_spans(self, text: str) -> tuple[list[int], Spans]:
        """Ids of text in which spelled special tokens are those tokens (for a template's own text only), and the
        characters (start, end) that each covers."""
        found = _encoded(self._parsing, text)
        return found.ids, found.offsets

    def encode_spans(self, text: str, first: bool = True) -> tuple[list[int], Spans]:
        """As encode, with spans; `first` is false for a piece that follows a special token."""
        found = _encoded(self._backend if first else self._read.following, text)
        ids, spans = list(found.ids), list(found.offsets)
        for i, (token, (start, end)) in enumerate(zip(ids, spans, strict=True)):
            # a model whose vocabulary holds the special token may reach it without the table of added tokens
            if token in self._forbidden and end - start > 1:
                rest, rest_spans = self.encode_spans(text[start + 1 :], first=False)
                head, head_spans = self.encode_spans(text[start], first=first and start == 0)
                shifted = [(start + a, start + b) for a, b in head_spans]
                shifted += [(start + 1 + a, start + 1 + b) for a, b in rest_spans]
                return ids[:i] + head + rest, spans[:i] + shifted
        return ids, spans

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids that `encode` gives for each text, faster for many."""
        with sound(GAVE_UP):
            found = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        made = [np.array(one.ids, np.uint32) for one in found]
        forbidden = np.array(sorted(self._forbidden), np.uint32)
        return [
            np.array(self.encode_spans(text)[0], np.uint32) if np.isin(ids, forbidden).any() else ids
            for text, ids in zip(texts, made, strict=True)
        ]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        with sound(GAVE_UP):
            text: str = self._parsing.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def spelling(self, token: int, first: bool = False) -> bytes | None:
        """What a token adds to a text in UTF-8, maybe a part of a character; None for one that `decode` leaves out.

        `first`: as the first token of a text, of which some tokenizers cut a space.
        """
        if (token, first) not in self._spelled:
            self._spelled[token, first] = self._spell(token, first)
        return self._spelled[token, first]

    def _spell(self, token: int, first: bool) -> bytes | None:
        text: str | None = self._parsing.id_to_token(token)
        if text is None or token in self._left_out:
            return None
        if "ByteLevel" in self.decoders:
            known = all(char in _BYTES for char in text)
            return bytes(_BYTES[char] for char in text) if known else text.encode()
        alone = self.decode([token])
        if "ByteFallback" in self.decoders and _BYTE.fullmatch(text):
            return alone.encode() if first and alone.isascii() else bytes([int(text[3:5], 16)])
        if first:
            return alone.encode()
        before, word = self._word
        return self.decode([before, token])[len(word) :].encode()

    @cached_property
    def _left_out(self) -> frozenset[int]:
        added = self._parsing.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)

    @cached_property
    def decoders(self) -> frozenset[str]:
        """The kinds of decoder that this one consists of."""
        decoder = self._definition.get("decoder") or {}
        return frozenset(part["type"] for part in (decoder, *decoder.get("decoders", ())) if part)

    @cached_property
    def _word(self) -> tuple[int, str]:
        """Some token that is text by itself, and its text."""
        texts = ((token, self.decode([token])) for token in range(self.vocab_size))
        return next((token, text) for token, text in texts if text.strip() and "\ufffd" not in text)

    def strips(self, token: str) -> tuple[bool, bool]:
        """Whether a special token swallows the white space on its left and on its right."""
        return self._flags.get(token, (False, False))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json as transformers, vLLM and llama.cpp read them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        }
        config |= self._handed_on
        config |= {f"{name}_token": token for name, token in self.names.items() if token is not None}
        config.setdefault("pad_token", config["eos_token"])
        if self.template:
            config["chat_template"] = self.template
        _write(folder / "tokenizer.json", json.dumps(self._definition, ensure_ascii=False, indent=1))
        _write(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=1))
        # an older template beside the configuration would win over it
        (folder / _TEMPLATE).unlink(missing_ok=True)

    def _id(self, token: str) -> int:
        found: int | None = self._backend.token_to_id(token)
        if found is None:
            raise CharterError(
                f"the token {token!r} is named but not in the vocabulary; fix tokenizer_config.json"
            )
        return found

    def _pattern(self) -> re.Pattern[str] | None:
        spelled = sorted(self.special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, spelled))) if spelled else None


def _encoded(backend: Backend, text: str) -> Any:
    """What the library makes of a text; of a long one as of many, since it lets other threads go on meanwhile."""
    with sound(GAVE_UP):
        if len(text) < _LONG:
            return backend.encode(text, add_special_tokens=False)
        (found,) = backend.encode_batch([text], add_special_tokens=False)
        return found


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, spare: int = 0, opening: bool = False
) -> Tokenizer:
    """Train a byte-level BPE tokenizer with ChatML specials and template, for new small models.

    Source: byte-level BPE as in GPT-2 (Radford 2019). vocab_size counts the 256 bytes and the specials, `spare` of
    which are kept for later uses (<|reserved_0|> ...). With `opening`, <|endoftext|> stands before plain text.
    """
    specials = [*TRAINED_SPECIALS, *(f"<|reserved_{number}|>" for number in range(spare))]
    least = 256 + len(specials)
    if vocab_size < least:
        raise CharterError(
            f"a vocabulary of {vocab_size} is too small; bytes and special tokens take {least}"
        )
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    start = specials[0]
    backend.post_processor = (
        processors.TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, 0)]
        )
        if opening
        else processors.ByteLevel(trim_offsets=False)
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=specials,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer.from_json(
        backend.to_str(), eos="<|im_end|>", bos="<|endoftext|>", pad="<|pad|>", template=CHATML
    )


def _token_name(value: Any) -> str | None:
    """A token's text from a configuration: written plainly, or as an object with its content."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _template_of(value: Any) -> str:
    """The chat template of a configuration: text, or a list of named ones of which "default" counts."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)}
        value = named.get("default")
    return value if isinstance(value, str) else ""


def _read(folder: Path, name: str) -> str:
    path = folder / name
    try:
        found = inside(folder, name)
        if found.stat().st_size > LONGEST_JSON:
            raise ValueError(f"it has over {LONGEST_JSON // 2**20} MiB")
        return found.read_text("utf-8")
    except FileNotFoundError:
        raise CharterError(f"{path} does not exist; the folder must hold a tokenizer.json") from None
    except (OSError, ValueError) as error:
        raise CharterError(f"{path} cannot be read: {error}") from None


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    if not os.path.lexists(folder / name):
        return {}
    try:
        value = parse_json(_read(folder, name).encode())
    except ValueError as error:
        raise CharterError(f"{folder / name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CharterError(f"{folder / name} must hold a JSON object")
    return value


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", "utf-8")
