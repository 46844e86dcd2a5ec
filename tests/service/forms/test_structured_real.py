"""Structured output on real schemas, the official test suite, and other kinds of tokenizers."""

from __future__ import annotations

import gzip
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema.validators import Draft202012Validator, validator_for
from llguidance import LLMatcher
from made_schemas import write
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.places import data_folder
from charter.ground.text.tokenizer import Tokenizer
from charter_service.forms.alphabet import Alphabet, bytes_vocabulary
from charter_service.forms.grammars import Form, compile_form
from charter_service.forms.json_form import json_grammar
from charter_service.forms.schema import matches

# Formats and keywords that the standard lets a validator take for notes.
NOTES = ("optional/format", "optional/content", "optional/dependencies-compatibility", "optional/ecmascript-regex")


def rows(name: str) -> list[dict[str, Any]]:
    try:
        path: Path = data_folder() / "json_schema" / f"{name}.jsonl.gz"
    except CharterError:
        pytest.skip("CHARTER_DATA is not set")
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the data folder")
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def test_real_schemas_are_accepted_and_their_documents_validate() -> None:
    sample = rows("jsonschemabench_sample")
    random.Random(3).shuffle(sample)
    refused = []
    for place, row in enumerate(sample[:25]):
        schema = json.loads(row["schema"]) if isinstance(row["schema"], str) else row["schema"]
        try:
            form = compile_form(Form("json_schema", schema=schema), toys.tokenizer())
        except CharterError as error:
            refused.append(str(error))
            continue
        kind = validator_for(schema, default=Draft202012Validator)
        validator = kind(json.loads(json.dumps(schema), parse_float=Decimal))
        for budget in (form.least, form.least + 40):
            reply = write(form.start(budget), toys.tokenizer(), budget, place)
            assert reply.ended, row["id"]
            validator.validate(json.loads(reply.text, parse_float=Decimal))
    assert len(refused) <= 2, refused


def test_what_the_official_suite_calls_invalid_is_not_allowed() -> None:
    groups = [g for g in rows("test_suite_draft2020-12") if not g["file"].startswith(NOTES)]
    taken, compiled = [], 0
    for group in groups:
        try:
            grammar, judge = json_grammar(group["schema"])
        except CharterError:
            continue
        compiled += 1
        matcher = LLMatcher(bytes_vocabulary(), json.dumps({"grammars": [grammar]}), log_level=0)
        for test in group["tests"]:
            text = json.dumps(test["data"], separators=(",", ":"), ensure_ascii=False)
            data = list(text.encode("utf-8", "surrogatepass"))
            matcher.reset()
            allowed = matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()
            if not test["valid"] and allowed and (judge is None or judge.accepts(text)):
                taken.append((group["file"], test["description"]))
    assert not taken
    assert compiled > 0.85 * len(groups)


def pieces() -> Tokenizer:
    """A SentencePiece-like tokenizer: a mark for the space, bytes spelled out, a space put before a text."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{value:02X}>": 3 + value for value in range(256)}
    words = ["▁", "{", "}", '"', ":", ",", "a", "b", "▁a", '▁"', '":', "1", "2", "é", "▁{", '"}']
    vocabulary |= {word: len(vocabulary) + place for place, word in enumerate(words)}
    backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = decoders.Strip(" ", 1, 0)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Tokenizer.from_json(backend.to_str(), eos="</s>", bos="<s>", unk="<unk>")


def test_sentencepiece_like_tokenizers_are_held_too() -> None:
    tokenizer = pieces()
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "é b": {"type": "integer"}},
        "required": ["a", "é b"],
    }
    form = compile_form(Form("json_schema", schema=schema), tokenizer)
    for seed in range(6):
        for budget in (form.least, form.least + 3, 80):
            reply = write(form.start(budget), tokenizer, budget, seed)
            assert reply.ended
            jsonschema.validate(json.loads(reply.text), schema)


def test_a_tokenizer_that_spells_no_bytes_is_refused() -> None:
    backend = Backend(models.WordPiece({"[UNK]": 0, "[SEP]": 1, "a": 2, "##b": 3}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[SEP]"])
    with pytest.raises(CharterError, match=r"are unknown \(decoder: WordPiece\)"):
        Alphabet(Tokenizer.from_json(backend.to_str(), eos="[SEP]", unk="[UNK]"))


def test_texts_are_cut_into_fewest_tokens() -> None:
    alphabet = Alphabet(toys.tokenizer())
    for text in ('{"name": "the thing"}', "née 猫", "\x00"):
        tokens = alphabet.cut(text.encode())
        assert tokens is not None and alphabet.spell(tokens) == text.encode()
        assert len(tokens) <= len(toys.tokenizer().encode(text))


def test_a_tokenizer_whose_bytes_can_not_be_told_is_refused() -> None:
    backend = Backend(models.WordLevel({"<unk>": 0, "</s>": 1, "word": 2}, "<unk>"))
    backend.add_special_tokens(["</s>"])
    with pytest.raises(CharterError, match="byte-level or SentencePiece-like"):
        Alphabet(Tokenizer.from_json(backend.to_str(), eos="</s>"))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"^\w+$", "é", False),
        (r"^[\w-]+$", "a-1_", True),
        (r"^[^\d]$", "٣", True),
        (r"^\\w$", "\\w", True),
        (r"\d", "٣", False),
    ],
)
def test_the_judge_reads_letters_and_digits_as_the_grammar_does(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) == expected
