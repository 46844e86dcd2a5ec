"""Folders, GGUF files, tokenizers, templates and data as somebody makes them who wants their reader to hang, to fill the
memory, to open other files or to end with a traceback. The same each time."""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard
from pyarrow import parquet
from safetensors.numpy import save_file

from charter.ground.model.opening import random_weights
from charter.ground.model.shape import Shape, to_config
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

SHAPE = Shape(320, 16, 24, 2, 2, 1, 8, 64)
COUNT = 240
WEIGHTS, CONFIG, TOKENIZER, BESIDE = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
Make = Callable[[Path], Path]  # in a folder that is theirs; what is to be read


@dataclass(frozen=True)
class Case:
    """`refused`: it must be; False: it must be read; None: either, as long as it ends. `quick`: of the fast suite."""

    name: str
    make: Make
    refused: bool | None = True
    quick: bool = False


def later(build: Callable[[], Make]) -> Make:
    """A case that is built when it is asked for: large ones take seconds, which every collection of tests would pay."""
    return lambda folder: build()(folder)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return train_tokenizer(["How much wood would a woodchuck chuck? 12345 don't " * 4], SHAPE.vocab_size)


def whole(folder: Path) -> Path:
    """A folder that loads."""
    tokens = tokenizer()
    tokens.save(folder)
    save_file(random_weights(Shape(**{**SHAPE.__dict__, "vocab_size": tokens.vocab_size}), 0), folder / WEIGHTS)
    shape = Shape(**{**SHAPE.__dict__, "vocab_size": tokens.vocab_size})
    (folder / CONFIG).write_text(json.dumps(to_config(shape, tokens.eos_id, tokens.bos_id, tokens.pad_id)))
    return folder


def changed(file: str, **values: Any) -> Make:
    """A folder in which one JSON file has other values."""

    def make(at: Path) -> Path:
        path = whole(at) / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return at

    return make


def written(file: str, content: bytes | str) -> Make:
    """A folder in which one file has this content."""

    def make(at: Path) -> Path:
        (whole(at) / file).write_bytes(content.encode() if isinstance(content, str) else content)
        return at

    return make


def piped(file: str) -> Make:
    """A folder in which a pipe stands for a file."""

    def make(at: Path) -> Path:
        (whole(at) / file).unlink(missing_ok=True)
        os.mkfifo(at / file)
        return at

    return make


def linked(file: str, to: str | None = None) -> Make:
    """A folder in which a link stands for a file: to a whole one outside, or to `to`."""

    def make(at: Path) -> Path:
        inner, outer = at / "inner", at / "outer"
        inner.mkdir()
        outer.mkdir()
        whole(inner)
        whole(outer)
        (outer / "chat_template.jinja").write_text("{{ messages }}")
        (outer / "generation_config.json").write_text("{}")
        (inner / file).unlink(missing_ok=True)
        (inner / file).symlink_to(to or outer / file)
        return inner

    return make


def indexed(name: Any) -> Make:
    """A folder whose index names one file."""

    def make(at: Path) -> Path:
        inner = at / "inner"
        inner.mkdir()
        whole(inner)
        shutil.copy(inner / WEIGHTS, at / WEIGHTS)
        index = {"weight_map": {"model.norm.weight": str(at / WEIGHTS) if name is None else name}}
        (inner / "model.safetensors.index.json").write_text(json.dumps(index))
        return inner

    return make


def header(entries: Any, length: int | None = None, data: int = 0) -> bytes:
    """A safetensors file with this header and that many bytes of data."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


def tokenized(**parts: Any) -> Make:
    """A folder whose tokenizer.json has other parts."""
    return changed(TOKENIZER, **parts)


def _doubling(times: int) -> dict[str, Any]:
    return _chain("Sequence", "normalizers", {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}, times)


def _chain(kind: str, key: str, part: dict[str, Any], times: int) -> dict[str, Any]:
    return {"type": kind, key: [part] * times}


def _nested(times: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "NFC"}
    for _ in range(times):
        part = {"type": "Sequence", "normalizers": [part]}
    return part


def _model(**values: Any) -> dict[str, Any]:
    return {**json.loads(tokenizer()._text)["model"], **values}


def _added(count: int) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": 300 + i, "content": f"<{i}>", **flags} for i in range(count)]


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_value(value: Any) -> bytes:
    """A value with its type, as the format has it; bytes are taken as they are."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<Iq", 11, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    texts = all(isinstance(one, str) for one in value)
    entries = b"".join(_text(one) if texts else struct.pack("<i", one) for one in value)
    return struct.pack("<IIQ", 9, 8 if texts else 5, len(value)) + entries


def gguf(
    values: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int, int]] | None = None, **said: int
) -> bytes:
    """A GGUF file; a tensor is its extents, its type and its offset. `said`: keys, count, version, data."""
    tensors = tensors or {}
    content = b"GGUF" + struct.pack(
        "<IQQ", said.get("version", 3), said.get("count", len(tensors)), said.get("keys", len(values))
    )
    for key, value in values.items():
        content += _text(key) + gguf_value(value)
    for name, (extents, kind, offset) in tensors.items():
        content += _text(name) + struct.pack(f"<I{len(extents)}Q", len(extents), *extents)
        content += struct.pack("<IQ", kind, offset)
    return content + bytes(-len(content) % 32) + bytes(said.get("data", 2**16))


def metadata(**changed: Any) -> dict[str, Any]:
    """What a GGUF file of a tiny llama says; None takes a key out."""
    tokens = tokenizer()
    model = json.loads(tokens._text)["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    values = {
        "general.architecture": "llama",
        "llama.context_length": 64,
        "llama.embedding_length": 16,
        "llama.block_count": 2,
        "llama.feed_forward_length": 24,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": 8,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.token_type": [3 if word in tokens.special else 1 for word in words],
        "tokenizer.ggml.eos_token_id": tokens.eos_id,
    }
    values |= {key.replace("__", "."): value for key, value in changed.items()}
    return {key: value for key, value in values.items() if value is not None}


def file(name: str, content: Callable[[], bytes] | bytes) -> Make:
    """A file alone."""

    def make(at: Path) -> Path:
        (at / name).write_bytes(content if isinstance(content, bytes) else content())
        return at / name

    return make


def _lay_out() -> dict[str, tuple[tuple[int, ...], int, int]]:
    """The tensors of a tiny llama, all zeros, one behind the other."""
    layer = {"attn_norm": (16,), "attn_q": (16, 16), "attn_k": (16, 8), "attn_v": (16, 8), "attn_output": (16, 16)}
    layer |= {"ffn_norm": (16,), "ffn_gate": (16, 24), "ffn_up": (16, 24), "ffn_down": (24, 16)}
    sizes: dict[str, tuple[int, ...]] = {"token_embd.weight": (16, tokenizer().vocab_size), "output_norm.weight": (16,)}
    sizes |= {f"blk.{n}.{name}.weight": extents for n in range(2) for name, extents in layer.items()}
    tensors, at = {}, 0
    for name, extents in sizes.items():
        tensors[name] = (extents, 0, at)
        at += 4 * math.prod(extents)
    return tensors


def _gguf_of(tensors: dict[str, tuple[tuple[int, ...], int, int]] | None = None, **changed: Any) -> Make:
    said = {key: changed.pop(key) for key in ("keys", "count", "version", "data") if key in changed}
    return file("m.gguf", lambda: gguf(metadata(**changed), _lay_out() if tensors is None else tensors, **said))


def _piped_file(name: str) -> Make:
    def make(at: Path) -> Path:
        os.mkfifo(at / name)
        return at / name

    return make


def _linked_file(name: str, to: str) -> Make:
    def make(at: Path) -> Path:
        (at / name).symlink_to(to)
        return at / name

    return make


def _folders() -> Iterator[Case]:
    yield Case("a whole folder", whole, refused=False, quick=True)
    for name in (CONFIG, WEIGHTS, TOKENIZER, BESIDE, "generation_config.json", "model.safetensors.index.json"):
        yield Case(f"pipe {name}", piped(name), quick=True)
    for name in ("special_tokens_map.json", "chat_template.jinja"):
        yield Case(f"pipe {name}", piped(name))
    for name in (CONFIG, WEIGHTS, TOKENIZER, BESIDE, "generation_config.json", "chat_template.jinja"):
        yield Case(f"link {name}", linked(name), quick=name == WEIGHTS)
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        yield Case(f"device {name}", linked(name, "/dev/zero"))
        yield Case(f"link to itself {name}", linked(name, name))
    for name in ("../model.safetensors", None, "..", "", "a/b", "\0", "x" * 300, 7, ["a"], "missing.safetensors"):
        yield Case(f"index {str(name)[:24]!r}", indexed(name), quick=name in ("../model.safetensors", None))
    sizes: dict[str, tuple[Any, ...]] = {
        "num_hidden_layers": (10**8, 4 * 10**6, 2**31, 0, -1, 10**400),
        "max_position_embeddings": (-1, 0, 10**12),
        "rope_theta": (-5, 0.5, float("nan"), float("inf"), "x"),
        "rms_norm_eps": (float("nan"), -1, 0, "x", None),
        "vocab_size": (10**9, 0, -320),
        "hidden_size": (0, -16, 2**40, True),
        "num_attention_heads": (0, -2, 3, 10**18),
        "num_key_value_heads": (-1, 10**9, [1]),
        "head_dim": (7, -8, 10**9, "wide"),
        "model_type": ("x" * 10**6, ["llama"], None),
        "rope_scaling": ("x", {"rope_type": "yarn", "factor": 0}, {"rope_type": "linear", "factor": "2"}),
        "eos_token_id": ([{}], 10**9),
    }
    llama3 = {"rope_type": "llama3", "factor": 8, "high_freq_factor": 4}
    sizes["rope_scaling"] += (
        {**llama3, "low_freq_factor": 0},
        {**llama3, "low_freq_factor": 4},
        {"rope_type": "yarn", "factor": float("nan")},
        {"rope_type": ["yarn"]},
        {"rope_type": "dynamic", "factor": 10**400},
    )
    for key, values in sizes.items():
        for value in values:
            quick = (key, str(value)) in (("num_hidden_layers", str(10**8)), ("rope_theta", "-5"))
            yield Case(f"{key} {str(value)[:80]}", changed(CONFIG, **{key: value}), quick=quick)
    window = partial(changed, CONFIG, model_type="mistral")
    yield Case("window -1", window(sliding_window=-1), quick=True)
    yield Case("window 10^12", window(sliding_window=10**12))
    yield Case("deep config", written(CONFIG, "[" * 10**6))
    yield Case("many values", written(CONFIG, b"[" + b"[]," * 8_000_000 + b"[]]"))
    yield Case("config of utf-16", written(CONFIG, "{}".encode("utf-16")))
    yield Case("top_p 10^400", written("generation_config.json", '{"top_p": 1' + "0" * 400 + "}"))
    yield Case("deep generation", written("generation_config.json", '{"a":' * 10**5))


def _headers() -> Iterator[Case]:
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    lies: dict[str, Callable[[], bytes]] = {
        "a header of 2^63": lambda: header(one, 2**63),
        "a header of 2^31": lambda: header(one, 2**31),
        "huge extents, no bytes": lambda: header(
            {"model.embed_tokens.weight": {**one, "shape": [10**9, 10**9], "data_offsets": [0, 0]}}
        ),
        "extents of 4,000 digits": lambda: header(
            (
                '{"a": {"dtype": "F32", "data_offsets": [0, 0], "shape": [' + ",".join(["9" * 4000] * 5000) + "]}}"
            ).encode()
        ),
        "overlapping": lambda: header({"a": one, "b": one}, data=16),
        "a gap": lambda: header({"a": one, "b": {**one, "data_offsets": [20, 36]}}, data=36),
        "backwards": lambda: header({"a": {**one, "data_offsets": [16, 0]}}),
        "an unknown type": lambda: header({"a": {**one, "dtype": "F33"}}, data=16),
        "a type that is a list": lambda: header({"a": {**one, "dtype": []}}, data=16),
        "negative": lambda: header({"a": {**one, "shape": [-4]}}, data=16),
        "a list": lambda: header([one]),
        "deep": lambda: header(b'{"a":' * 10**5),
        "200,000 names": lambda: header(
            {f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(200_000)}, data=200_000
        ),
        "many values": lambda: header(b'{"a":[' + b"[]," * 8_000_000 + b"[]]}"),
    }
    for name, content in lies.items():
        yield Case(
            f"weights: {name}",
            later(lambda make=content: written(WEIGHTS, make())),
            quick=name == "huge extents, no bytes",
        )


def _tokenizers() -> Iterator[Case]:
    yield Case("normalizer that doubles 28 times", tokenized(normalizer=_doubling(28)), quick=True)
    regex = {"type": "Replace", "pattern": {"Regex": "(?=.)"}, "content": "x" * 900}
    yield Case("normalizer of two regexes", tokenized(normalizer=_chain("Sequence", "normalizers", regex, 2)))
    yield Case("prepend of a million", tokenized(normalizer={"type": "Prepend", "prepend": "x" * 10**6}))
    grown = {"type": "Replace", "pattern": {"String": "a"}, "content": "\ufdfa"}
    sequence = {"type": "Sequence", "normalizers": [grown, {"type": "NFKD"}] * 9}
    yield Case("nine times U+FDFA", tokenized(normalizer=sequence))
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    yield Case("28 byte levels", tokenized(pre_tokenizer=_chain("Sequence", "pretokenizers", bytes_, 28)))
    two = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    yield Case("decoder that doubles", tokenized(decoder=_chain("Sequence", "decoders", two, 28)))
    twice = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [twice, twice], "pair": [twice], "special_tokens": {}}
    yield Case("28 templates", tokenized(post_processor=_chain("Sequence", "processors", template, 28)))
    charsmap = base64.b64encode(struct.pack("<I", 4) + bytes(4) + b"x" * 10**6 + b"\0").decode()
    yield Case(
        "a character for a million", tokenized(normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap})
    )
    yield Case("120 nested normalizers", tokenized(normalizer=_nested(50)), refused=None)
    yield Case("5,000 nested normalizers", written(TOKENIZER, '{"normalizer":' * 5000))
    yield Case("100,000 added tokens", later(lambda: tokenized(added_tokens=_added(100_000))))
    yield Case("16,000 added tokens", later(lambda: tokenized(added_tokens=_added(16_000))))
    yield Case("200,000 added tokens", later(lambda: tokenized(added_tokens=_added(200_000))))
    yield Case(
        "two million tokens",
        later(lambda: tokenized(model=_model(vocab={f"t{i}": i for i in range(2_000_000)}, merges=[]))),
    )
    yield Case("a suffix of a million", tokenized(model=_model(end_of_word_suffix="x" * 10**6)))
    yield Case("ids of 2^32 - 1", tokenized(added_tokens=[{**_added(1)[0], "id": 2**32 - 1}]))
    yield Case(
        "a pattern that never ends",
        tokenized(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
        ),
        refused=None,
    )
    yield Case(
        "padding of 10^9",
        tokenized(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        ),
        refused=None,
    )
    for name, value in {"a list": [], "a number": 7, "added": {"added_tokens": [[1]]}, "model": {"model": 3}}.items():
        yield Case(f"tokenizer: {name}", written(TOKENIZER, json.dumps(value)))
    yield Case("tokenizer of 50 MB", written(TOKENIZER, b'{"a":"' + b"x" * 50_000_000 + b'"}'))
    yield Case("deep beside", written(BESIDE, '{"a":' * 10**5))


def _templates() -> Iterator[Case]:
    texts = {
        "three loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "doubling": "{% set ns = namespace(t='aaaa') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
        "times": "{{ 'a' * 10**10 }}",
        "center": "{{ 'a'.center(10**9) }}",
        "percent": "{{ '%999999999d' % 1 }}",
        "format": "{{ '{:999999999}'.format(1) }}",
        "indent": "{{ {'a': 1} | tojson(indent=10**9) }}",
        "class": "{{ ''.__class__.__mro__ }}",
        "macro": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "brackets": "{{ " + "(" * 20_000 + ")" * 20_000 + " }}",
        "sums": "{{ 1" + "+1" * 20_000 + " }}",
        "ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
        "digits": "{{ 10 ** 10 ** 10 }}",
        "dates": "{{ strftime_now('%999999999Y') }}",
        "a megabyte": "{{ a }}" * 200_000,
        "30 KB of loops": "{% for a in b %}{% endfor %}" * 1100,
        "30 KB of values": "{{a}}" * 6_500,
        "join of a method": "{{ ('x' * 30000).join(range(99999) | map('string')) }}",
        "sum": "{{ range(9999) | map('list') | sum(start='') }}",
        "a map of long texts": "{{ range(9999) | map('center', 9999) | list | length }}",
        "include": "{% include '/etc/passwd' %}",
        "join": "{{ range(99999) | map('string') | join('x' * 30000) }}",
        "lists": "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    }
    for name, text in texts.items():
        yield Case(f"template: {name}", written("chat_template.jinja", text), quick=name == "three loops")


def _ggufs() -> Iterator[Case]:
    def array(kind: int, length: int, entries: bytes = b"") -> bytes:
        return struct.pack("<IIQ", 9, kind, length) + entries

    yield Case("a whole gguf", _gguf_of(), refused=False, quick=True)
    deep = b"".join(struct.pack("<IQ", 9, 1) for _ in range(20_000))
    values: dict[str, Any] = {
        "a list of 2^60": array(4, 2**60),
        "texts of 2^60": array(8, 2**60),
        "two million empty": array(8, 2_000_000, bytes(16_000_000)),
        "five million empty": array(8, 5_000_000, bytes(40_000_000)),
        "lists in lists": struct.pack("<I", 9) + deep + struct.pack("<IQ", 4, 0),
        "numbers": [1, 2, 3],
        "a number": 7,
        "a text of 2^62": struct.pack("<IQ", 8, 2**62),
        "an unknown type": struct.pack("<I", 77),
        "no texts": array(8, 0),
        "no utf-8": array(8, 1, _text("x")[:8] + b"\xff"),
        "missing": None,
    }
    for name, value in values.items():
        yield Case(
            f"gguf tokens: {name}",
            _gguf_of(tokenizer__ggml__tokens=value),
            quick="2^60" in name or "two million" in name,
        )
    numbers: dict[str, tuple[Any, ...]] = {
        "llama.attention.head_count": (0, -1, "x", [1]),
        "llama.block_count": (10**8, -1, 1.5, None),
        "llama.embedding_length": (0, 2**60),
        "llama.context_length": (-1, 10**12),
        "llama.rope.freq_base": (float("nan"), -5.0),
        "general.alignment": (0, 3, 2**40, "x"),
        "tokenizer.ggml.eos_token_id": (-1, 10**9, "x"),
        "tokenizer.ggml.merges": (["a"], [1], "x"),
        "tokenizer.ggml.token_type": ([1], "x"),
        "tokenizer.chat_template": ([1, 2], 7),
    }
    for key, some in numbers.items():
        for value in some:
            either = None if key in _LAX else True
            yield Case(
                f"gguf {key} {value}", _gguf_of(**{key.replace(".", "__"): value}), refused=either, quick=value == 0
            )
    tensors: dict[str, dict[str, tuple[tuple[int, ...], int, int]]] = {
        "none": {},
        "extents of 2^60": {"token_embd.weight": ((2**60, 2**60), 0, 0)},
        "no extents": {"token_embd.weight": ((), 0, 0)},
        "an offset of 2^62": {"token_embd.weight": ((16, 320), 0, 2**62)},
        "an unknown type": {"token_embd.weight": ((16, 320), 99, 0)},
        "no whole blocks": {"token_embd.weight": ((17, 32), 2, 0)},
        "one on another": {"token_embd.weight": ((16, 32), 0, 0), "output.weight": ((16, 32), 0, 0)},
        "a strange name": {"token_embd.weight": ((16, 32), 0, 0), "blk.../x.weight": ((16,), 0, 2048)},
        "sixty dimensions": {"token_embd.weight": ((1,) * 60, 0, 0)},
    }
    for name, some_tensors in tensors.items():
        yield Case(f"gguf tensors: {name}", _gguf_of(some_tensors))
    for name, said in {"keys": 2**60, "count": 2**60, "version": 99}.items():
        yield Case(f"gguf {name} {said}", _gguf_of(**{name: said}))
    yield Case("gguf pipe", _piped_file("m.gguf"), quick=True)
    yield Case("gguf device", _linked_file("m.gguf", "/dev/zero"))


_LAX = ("tokenizer.chat_template", "tokenizer.ggml.eos_token_id")


def _repeated(size: int, times: int) -> Any:
    """A column of one text, which the file holds once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array(["x" * size]))


def _table(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def _data() -> Iterator[Case]:
    bomb = b'{"text": "' + b" " * 2**20
    yield Case(
        "parquet of one text", file("rows.parquet", lambda: _table({"text": _repeated(2**20, 2000)})), refused=False
    )
    lists = pa.ListArray.from_arrays(pa.array(range(0, 2001, 2), pa.int32()), _repeated(2**20, 2000))
    yield Case("parquet of lists", file("rows.parquet", lambda: _table({"texts": lists})), refused=False)
    yield Case("parquet of a long text", file("rows.parquet", lambda: _table({"text": _repeated(2**27, 2)})))
    yield Case("parquet pipe", _piped_file("rows.parquet"))
    yield Case("rows pipe", _piped_file("rows.jsonl"), quick=True)
    yield Case("rows device", _linked_file("rows.jsonl", "/dev/zero"))
    yield Case("zst bomb", file("rows.jsonl.zst", lambda: zstandard.compress(bytes(2**31 - 1))))
    yield Case("gz bomb", file("rows.jsonl.gz", lambda: gzip.compress(bytes(10**9), 1)))
    yield Case("deep row", file("rows.jsonl", b'{"a":' * 10**5))
    yield Case("a row of many values", file("rows.jsonl", lambda: b'{"a":[' + b"[]," * 8_000_000 + b"[]]}"))
    yield Case("many columns", file("rows.csv", lambda: b"," * 200_000 + b"\nx" * 2000))
    yield Case("many values of JSON", file("rows.json", lambda: b"[" + b"{}," * 8_000_000 + b"{}]"))
    yield Case("a row without an end", file("rows.jsonl", lambda: bomb * 64))


def cases() -> list[Case]:
    """The 200, by name; what the lists above lack is drawn from them with a seed: two harms in one folder."""
    fixed = [case for group in (_folders, _headers, _tokenizers, _templates, _ggufs, _data) for case in group()]
    return [*fixed, *_draw_cases(COUNT - len(fixed))]


def _draw_cases(count: int) -> Iterator[Case]:
    """Configurations with several values out of a list of bad ones, each with its own seed."""
    bad = [0, -1, 2**31, 2**63, 10**30, 1.5, float("nan"), float("inf"), "7", "", None, True, [], {}, [[]], {"a": {}}]
    for seed in range(count):
        draw = random.Random(seed)
        keys = sorted(to_config(SHAPE))
        harms = {key: draw.choice(bad) for key in draw.sample(keys, draw.randint(1, 4))}
        yield Case(f"drawn {seed}", changed(CONFIG, **harms), refused=None)
