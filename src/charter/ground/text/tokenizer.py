"""The tokenizer: text to token ids. Text that spells a special token never becomes one.

It wraps `tokenizer.json` (the tokenizers library) with the other tokenizer files of a checkpoint: the names of the
end, start and padding tokens, and the chat template.
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

from charter.ground.artifact.errors import CharterError, sound
from charter.ground.artifact.foreign import LONGEST_JSON, inside, parse_json
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.text.definition import read_definition

Spans = list[tuple[int, int]]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TRAINED_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")

# Tokens that end a reply or a document in the supported families, whichever one a checkpoint calls eos.
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<|end|>")
_NAMES = ("eos", "bos", "pad", "unk")
_LONG = 2000  # characters
_TEMPLATE = "chat_template.jinja"
# Settings of a checkpoint's tokenizer that have no effect here; `save` writes them back.
_HANDED_ON = ("model_max_length", "add_bos_token", "add_eos_token", "add_prefix_space", "padding_side")

# Byte-level vocabularies write every byte as a printable character (Radford 2019).
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
        self._shared = shared = read_definition(definition, tuple(self.names.items()))
        self._backend, self._parsing, self._definition, added = (
            shared.first,
            shared.parsing,
            shared.parsed,
            shared.added,
        )
        self._spellings: dict[tuple[int, bool], bytes | None] = {}
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
        self.ends: frozenset[int] = frozenset({self.eos_id, *(self.special[t] for t in _ENDS if t in self.special)})
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
        """From the text of a tokenizer.json; without `eos` it takes a well-known end token."""
        return cls(definition, {"eos": eos, "bos": bos, "pad": pad, "unk": unk}, template)

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """From a checkpoint folder: tokenizer.json, tokenizer_config.json, and chat_template.jinja if any."""
        folder = Path(folder)
        definition = _read(folder, "tokenizer.json")
        config = _read_object(folder, "tokenizer_config.json")
        config = {**_read_object(folder, "special_tokens_map.json"), **config}
        names = {name: _token_name(config.get(f"{name}_token")) for name in _NAMES}
        inline = _template_of(config.get("chat_template"))
        template = _read(folder, _TEMPLATE) if os.path.lexists(folder / _TEMPLATE) else inline
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
        """The content of tokenizer.json, unchanged."""
        return self._definition

    @cached_property
    def digest(self) -> str:
        """Digest of the rules that turn plain text into ids: two tokenizers with one digest encode alike, whatever
        their templates."""
        parts = ("normalizer", "pre_tokenizer", "model")
        return digest_text(canonical_json([self._definition.get(part) for part in parts]))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never a special token whatever the text spells."""
        if len(text) < _LONG:
            return self.encode_spans(text)[0]
        ids: list[int] = self.encode_batch([text])[0].tolist()  # without spans it takes half the time
        return ids

    @cached_property
    def opening(self) -> list[int]:
        """Ids that transformers puts before plain text: the start token in some families, none in others. The
        post-processor of tokenizer.json decides, whatever `add_bos_token` says."""
        plain = {**self._definition, "truncation": None, "padding": None}
        encoding = Backend.from_str(json.dumps(plain)).encode("a")
        before = takewhile(lambda pair: pair[1], zip(encoding.ids, encoding.special_tokens_mask, strict=True))
        return [token for token, _ in before]

    def encode_document(self, text: str) -> list[int]:
        """Ids of a whole text without a chat template, as transformers encodes it."""
        return [*self.opening, *self.encode(text)]

    def special_spans(self, text: str) -> tuple[list[int], Spans]:
        """Ids of text, and the characters (start, end) that each covers. Spelled special tokens become those tokens, so
        this is for a template's own text only."""
        encoding = _encode(self._parsing, text)
        return encoding.ids, encoding.offsets

    def encode_spans(self, text: str, first: bool = True) -> tuple[list[int], Spans]:
        """As encode, with spans; `first` is false for a piece that follows a special token."""
        encoding = _encode(self._backend if first else self._shared.following, text)
        ids, spans = list(encoding.ids), list(encoding.offsets)
        for i, (token, (start, end)) in enumerate(zip(ids, spans, strict=True)):
            # a vocabulary that holds the special token can produce it without the table of added tokens
            if token in self._forbidden and end - start > 1:
                rest, rest_spans = self.encode_spans(text[start + 1 :], first=False)
                head, head_spans = self.encode_spans(text[start], first=first and start == 0)
                shifted = [(start + a, start + b) for a, b in head_spans]
                shifted += [(start + 1 + a, start + 1 + b) for a, b in rest_spans]
                return ids[:i] + head + rest, spans[:i] + shifted
        return ids, spans

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids that `encode` returns for each text; faster for many texts."""
        with sound(GAVE_UP):
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        batch = [np.array(encoding.ids, np.uint32) for encoding in encodings]
        forbidden = np.array(sorted(self._forbidden), np.uint32)
        return [
            np.array(self.encode_spans(text)[0], np.uint32) if np.isin(ids, forbidden).any() else ids
            for text, ids in zip(texts, batch, strict=True)
        ]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; invalid UTF-8 becomes the replacement character."""
        with sound(GAVE_UP):
            text: str = self._parsing.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def spelling(self, token: int, first: bool = False) -> bytes | None:
        """The UTF-8 bytes that a token adds to a text, maybe part of a character; None if `decode` leaves it out.

        `first`: as the first token of a text, from which some tokenizers remove a space.
        """
        if (token, first) not in self._spellings:
            self._spellings[token, first] = self._spell(token, first)
        return self._spellings[token, first]

    def _spell(self, token: int, first: bool) -> bytes | None:
        text: str | None = self._parsing.id_to_token(token)
        if text is None or token in self._special_ids:
            return None
        if "ByteLevel" in self.decoders:
            spellable = all(char in _BYTES for char in text)
            return bytes(_BYTES[char] for char in text) if spellable else text.encode()
        alone = self.decode([token])
        if "ByteFallback" in self.decoders and _BYTE.fullmatch(text):
            return alone.encode() if first and alone.isascii() else bytes([int(text[3:5], 16)])
        if first:
            return alone.encode()
        before, word = self._word
        return self.decode([before, token])[len(word) :].encode()

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._parsing.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)

    @cached_property
    def decoders(self) -> frozenset[str]:
        """The kinds of decoders in the tokenizer's decoder."""
        decoder = self._definition.get("decoder") or {}
        return frozenset(part["type"] for part in (decoder, *decoder.get("decoders", ())) if part)

    @cached_property
    def _word(self) -> tuple[int, str]:
        """Some token that is text by itself, and its text."""
        texts = ((token, self.decode([token])) for token in range(self.vocab_size))
        return next((token, text) for token, text in texts if text.strip() and "\ufffd" not in text)

    def strips(self, token: str) -> tuple[bool, bool]:
        """Whether a special token absorbs the white space on its left and on its right."""
        return self._flags.get(token, (False, False))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json as transformers, vLLM and llama.cpp read them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        config |= self._handed_on
        config |= {f"{name}_token": token for name, token in self.names.items() if token is not None}
        config.setdefault("pad_token", config["eos_token"])
        if self.template:
            config["chat_template"] = self.template
        _write(folder / "tokenizer.json", json.dumps(self._definition, ensure_ascii=False, indent=1))
        _write(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=1))
        # an older template file would take precedence over the configuration
        (folder / _TEMPLATE).unlink(missing_ok=True)

    def _id(self, token: str) -> int:
        token_id: int | None = self._backend.token_to_id(token)
        if token_id is None:
            raise CharterError(f"the vocabulary lacks the named token {token!r}; fix tokenizer_config.json")
        return token_id

    def _pattern(self) -> re.Pattern[str] | None:
        spelled = sorted(self.special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, spelled))) if spelled else None


def _encode(backend: Backend, text: str) -> Any:
    """The library's encoding of a text. A long text is encoded as a batch, which lets other threads run meanwhile."""
    with sound(GAVE_UP):
        if len(text) < _LONG:
            return backend.encode(text, add_special_tokens=False)
        (encoding,) = backend.encode_batch([text], add_special_tokens=False)
        return encoding


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, spare: int = 0, opening: bool = False) -> Tokenizer:
    """Train a byte-level BPE tokenizer with ChatML specials and template, for new small models.

    Source: byte-level BPE as in GPT-2 (Radford 2019). vocab_size counts the 256 bytes and the specials, of which
    `spare` are reserved for later uses (<|reserved_0|> ...). With `opening`, <|endoftext|> precedes plain text.
    """
    specials = [*TRAINED_SPECIALS, *(f"<|reserved_{number}|>" for number in range(spare))]
    least = 256 + len(specials)
    if vocab_size < least:
        raise CharterError(f"a vocabulary of {vocab_size} is too small; bytes and special tokens need {least}")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    start = specials[0]
    backend.post_processor = (
        processors.TemplateProcessing(single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, 0)])
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
    return Tokenizer.from_json(backend.to_str(), eos="<|im_end|>", bos="<|endoftext|>", pad="<|pad|>", template=CHATML)


def _token_name(value: Any) -> str | None:
    """A token's text from a configuration: a string, or an object with its content."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _template_of(value: Any) -> str:
    """The chat template of a configuration: a string, or the one named "default" in a list."""
    if isinstance(value, list):
        templates = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)}
        value = templates.get("default")
    return value if isinstance(value, str) else ""


def _read(folder: Path, name: str) -> str:
    path = folder / name
    try:
        file = inside(folder, name)
        if file.stat().st_size > LONGEST_JSON:
            raise ValueError(f"it has over {LONGEST_JSON // 2**20} MiB")
        return file.read_text("utf-8")
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
