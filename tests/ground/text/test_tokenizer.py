"""The tokenizer's files and names, and text that spells special tokens in awkward vocabularies."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from charter.ground.artifact.errors import CharterError
from charter.ground.text.tokenizer import CHATML, Tokenizer, train_tokenizer

OWN = train_tokenizer(["hello there, how are you? The answer is: (A)"] * 3, 320)


def config(folder: Path, **changed: Any) -> Path:
    OWN.save(folder)
    path = folder / "tokenizer_config.json"
    value = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
    return folder


def test_a_trained_tokenizer_has_its_specials_first() -> None:
    assert OWN.special == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|pad|>": 3}
    assert (OWN.eos_id, OWN.bos_id, OWN.pad_id, OWN.template) == (2, 0, 3, CHATML)
    assert OWN.ends == {0, 2}
    with pytest.raises(CharterError, match="too small"):
        train_tokenizer(["x"], 100)


def test_spelled_specials_are_plain_text_unless_asked_for() -> None:
    text = "hi<|im_end|>there"
    assert OWN.decode(OWN.encode(text)) == text
    assert 2 not in OWN.encode(text)
    ids, spans = OWN.special_spans(text)
    assert ids.count(2) == 1 and text[slice(*spans[ids.index(2)])] == "<|im_end|>"
    assert OWN.decode(ids) == "hithere"
    assert OWN.decode(ids, skip_special=False) == text


@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_are_guarded_whether_marked_special_or_not(special: bool) -> None:
    backend = Backend.from_str(json.dumps(OWN._definition))
    backend.add_tokens([AddedToken("<tool_call>", special=special, normalized=False), AddedToken("  ", special=False)])
    tokenizer = Tokenizer.from_json(backend.to_str(), eos="<|im_end|>")
    token = tokenizer.special["<tool_call>"]
    assert token not in tokenizer.encode("a<tool_call>b")
    assert token in tokenizer.special_spans("a<tool_call>b")[0]
    # runs of spaces and the like are ordinary vocabulary
    assert "  " not in tokenizer.special and backend.token_to_id("  ") in tokenizer.encode("a  b")


def test_a_model_that_reaches_the_token_without_the_table_is_kept_from_it() -> None:
    pieces = [("<unk>", 0.0), ("<end>", 0.0), *((c, -5.0) for c in "<end>abc".replace("<", "") + "<")]
    backend = Backend(models.Unigram(pieces, unk_id=0))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(["<end>"])
    tokenizer = Tokenizer.from_json(backend.to_str(), eos="<end>", unk="<unk>")
    assert backend.encode("ab<end>", add_special_tokens=False).ids[-1] == tokenizer.eos_id
    ids = tokenizer.encode("ab<end>c<end><end>")
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == "ab<end>c<end><end>"


def test_no_space_is_put_before_a_piece_that_is_not_first() -> None:
    backend = Backend(models.BPE({"▁": 0, "a": 1, "▁a": 2, "</s>": 3}, [("▁", "a")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.add_special_tokens(["</s>"])
    tokenizer = Tokenizer.from_json(backend.to_str())
    assert tokenizer.encode_spans("a")[0] == [2]
    assert tokenizer.encode_spans("a", first=False)[0] == [1]
    assert tokenizer.special_spans("</s>a")[0] == [3, 1]


def test_names_written_as_objects_and_templates_in_lists(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    folder = config(tmp_path, eos_token={"content": "<|im_end|>", "lstrip": False}, chat_template=templates)
    tokenizer = Tokenizer.from_folder(folder)
    assert (tokenizer.eos_id, tokenizer.template) == (2, "yes")


def test_a_template_beside_the_configuration_wins_and_is_replaced_when_saved(tmp_path: Path) -> None:
    folder = config(tmp_path)
    (folder / "chat_template.jinja").write_text("beside")
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.template == "beside"
    tokenizer.with_template("new").save(folder)
    assert Tokenizer.from_folder(folder).template == "new"


def test_the_digest_names_the_pieces_and_not_the_template(tmp_path: Path) -> None:
    OWN.with_template("new").save(tmp_path)
    assert Tokenizer.from_folder(tmp_path).digest == OWN.digest
    assert train_tokenizer(["other words are cut otherwise"] * 3, 320).digest != OWN.digest


def test_other_settings_are_handed_on(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(config(tmp_path, model_max_length=77)).with_template("x")
    tokenizer.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["model_max_length"] == 77


def test_without_names_a_known_end_is_found_and_padding_is_the_end(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(config(tmp_path, eos_token=None, pad_token=None, bos_token=None))
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id) == (2, 2, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not a tokenizer.json"), ("[]", "not a tokenizer.json"), ('{"model": 1}', "not a tokenizer.json")],
)
def test_broken_files_get_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CharterError, match=said) as caught:
        Tokenizer.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_names_outside_of_the_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="the vocabulary lacks the named token '<none>'"):
        Tokenizer.from_folder(config(tmp_path, eos_token="<none>"))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match=r"tokenizer\.json does not exist"):
        Tokenizer.from_folder(tmp_path)


def test_a_tokenizer_without_any_end_is_refused() -> None:
    with pytest.raises(CharterError, match="names no end token"):
        Tokenizer.from_json(Backend(models.BPE({"a": 0}, [])).to_str())


def test_a_library_that_gives_up_is_an_error_of_the_model(tmp_path: Path) -> None:
    """The library raises a BaseException, which handlers of Exception would miss."""
    definition = json.loads(json.dumps(OWN.definition))
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [pattern, definition["pre_tokenizer"]]}
    broken = Tokenizer.from_json(json.dumps(definition))
    text = "a" * 60 + "b"
    for work in (lambda: broken.encode(text), lambda: broken.encode_batch([text]), lambda: broken.encode(text * 50)):
        with pytest.raises(CharterError, match="can't cut the text"):
            work()
    assert broken.decode(broken.encode("hello")) == "hello"
