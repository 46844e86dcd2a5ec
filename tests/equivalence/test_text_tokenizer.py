"""A saved tokenizer is the same tokenizer to transformers."""

import json
from pathlib import Path

import pytest
from chat_forms import FORMS, WORDS, tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charter.ground.text.dialogue import assistant, user
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers", reason="the oracle, transformers, is not installed")

TRAINED = train_tokenizer(WORDS, 400)


@pytest.mark.parametrize("form", FORMS)
def test_saved_tokenizers_load_in_transformers(form: str, tmp_path: Path) -> None:
    own = tokenizer(form)
    own.save(tmp_path)
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (stock.eos_token_id, stock.bos_token_id) == (own.eos_id, own.bos_id)
    assert stock.pad_token_id == own.pad_id
    assert stock.chat_template == own.template
    assert len(stock) == own.vocab_size


@pytest.mark.parametrize("form", ["chatml", "llama3", "mistral"])
@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("said", [None, True, False])
def test_a_document_begins_as_transformers_begins_one(
    form: str, opens: bool, said: bool | None, tmp_path: Path
) -> None:
    """By the post-processor of tokenizer.json, whatever `add_bos_token` says."""
    own = tokenizer(form)
    own.save(tmp_path)
    name = own.names["bos"] or own.names["eos"]
    definition = json.loads((tmp_path / "tokenizer.json").read_text())
    if opens:
        ids = {name: {"id": name, "ids": [own.special[str(name)]], "tokens": [name]}}
        parts = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        processor = {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": ids}
        definition["post_processor"] = processor
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {} if said is None else {"add_bos_token": said}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    again, stock = Tokenizer.from_folder(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode_document("hello there") == stock.encode("hello there")
    assert again.opening == ([own.special[str(name)]] if opens else [])


def test_what_transformers_saves_loads_here(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "ours")
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    stock.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.from_folder(tmp_path / "theirs")
    assert (again.names, again.template, again.special) == (TRAINED.names, TRAINED.template, TRAINED.special)
    assert again.encode("hello <|im_end|>") == TRAINED.encode("hello <|im_end|>")
    messages = [user("hi"), assistant("hello")]
    ids = stock.apply_chat_template(messages, tokenize=True, return_dict=False)
    text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
    assert ids == again.special_spans(text)[0]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("trained")
    TRAINED.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@example(text="<|pad|>")
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8")))
def test_plain_text_has_the_same_ids(stock: object, text: str) -> None:
    """But where it spells a special token: there ours is plain text still, which stock's is not."""
    ids = TRAINED.encode(text)
    if any(name in text for name in TRAINED.special):
        assert not set(TRAINED.special.values()) & set(ids)
    else:
        assert ids == stock.encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    assert TRAINED.decode(ids) == stock.decode(ids) == text  # type: ignore[attr-defined]
