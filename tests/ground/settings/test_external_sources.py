"""The forms of references, and the kind of each file."""

import gzip
from pathlib import Path

import pytest
import zstandard

from charter.ground.artifact.errors import CharterError
from charter.ground.settings import hub
from charter.ground.settings.places import find_data
from charter.ground.settings.recognise import count_rows, kind_of_file
from charter.ground.settings.room import Role
from charter.ground.settings.sources import is_external, resolve

PROMPT = '{"id": "a", "messages": [{"role": "user", "content": "hi"}]}'


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.jsonl", PROMPT, "prompts"),
        ("a.jsonl.gz", PROMPT, "prompts"),
        ("a.jsonl.zst", PROMPT, "prompts"),
        ("a.jsonl", '{"prompt": "hi", "chosen": "a", "rejected": "b"}', "comparisons"),
        ("a.jsonl", '{"prompt": "hi", "text_correct": "a", "text_incorrect": "b"}', "comparisons"),
        ("a.jsonl", '\n{"prompt": "hi"}', "prompts"),
        ("a.jsonl", '{"prompt": "hi", "completion": "a"}', "dialogues"),
        ("a.jsonl", '{"messages": [{"role": "assistant", "content": "a"}]}', "dialogues"),
        ("a.jsonl", '{"id": 1, "messages": [], "harmful": "a", "good": "b"}', "triples"),
        ("a.jsonl", '{"id": 1, "prompt": "hi", "reply": "a", "verdict": null}', "judgments"),
        ("a.jsonl", '{"id": 1, "text": "a"}', "text"),
        ("a.jsonl", '{"question": 1}', "data"),
        ("a.jsonl", "not json", "data"),
        ("a.jsonl", "[" * 100_000, "data"),
        ("a.jsonl", '{"prompt": "hi", "chosen": "a", "rejcted": "b"}', "comparisons"),
        ("a.jsonl", '{"messages": [], "good": "b"}', "triples"),
        ("a.txt", "hello", "data"),
        ("a.yaml", "name: x", "constitution"),
        ("a.csv", "a,b", "data"),
    ],
)
def test_files_are_recognised_by_their_first_row(tmp_path: Path, name: str, text: str, kind: str) -> None:
    data = text.encode()
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.compress(data)
    (tmp_path / name).write_bytes(data)
    assert kind_of_file(tmp_path / name) == kind
    source = resolve(f"./{name}", tmp_path)
    assert (source.kind, source.own, source.path) == (kind, True, tmp_path / name)
    if ".jsonl" in name:
        assert count_rows(tmp_path / name) == 1


def test_truncated_archives_are_not_recognised_and_never_crash(tmp_path: Path) -> None:
    packed = gzip.compress((PROMPT * 300).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "a.jsonl.zst").write_bytes(b"nonsense")
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        assert kind_of_file(tmp_path / name) == "data" and count_rows(tmp_path / name) is None


def test_models_on_disk(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    source = resolve(str(tmp_path))
    assert (source.kind, source.variant) == ("checkpoint", "preference")
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert resolve(str(tmp_path)).variant == "policy"
    assert resolve(str(tmp_path)).digest != source.digest
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert resolve("x.gguf", tmp_path).kind == "checkpoint"


def test_shipped_data_and_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("shipped:red_team.train").kind == "prompts"
    assert resolve("shipped:helpful.train").kind == "dialogues"
    assert resolve("shipped:red_team.train.jsonl").digest == resolve("shipped:red_team.train").digest
    monkeypatch.setenv("CHARTER_DATA", str(tmp_path))
    (tmp_path / "a.jsonl").write_text(PROMPT)
    assert resolve("data:a.jsonl").path == tmp_path / "a.jsonl"
    rows = resolve(str(tmp_path))  # a folder of one's own with files of rows, as an evaluation reads
    assert (rows.kind, rows.path, rows.own) == ("data", tmp_path, True)
    bare = tmp_path / "bare"
    bare.mkdir()
    for ref, problem in (
        ("shipped:none", "ships no data of that name"),
        ("data:none", "set CHARTER_DATA"),
        ("random:", "name a shape"),
        ("./none", "there is no file or folder"),
        ("hf:a b", "write hf:owner/name"),
        (str(bare), "neither an artifact.*holds no files of rows"),
    ):
        with pytest.raises(CharterError, match=problem):
            resolve(ref)


def test_data_files_are_found_whatever_their_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_DATA", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jsonl.gz").write_bytes(gzip.compress(PROMPT.encode()))
    source = resolve("data:set/a")
    assert (source.path, source.kind) == (tmp_path / "set" / "a.jsonl.gz", "prompts")
    assert source.digest == resolve("data:set/a.jsonl.gz").digest
    assert find_data("set/a") == find_data("a", tmp_path / "set") and find_data("set") == tmp_path / "set"
    with pytest.raises(CharterError, match="set CHARTER_DATA"):
        resolve("data:set/b")
    (tmp_path / "set" / "a.txt").write_text("q")
    with pytest.raises(CharterError, match=r"could be a\.jsonl\.gz, a\.txt; write the ending"):
        resolve("data:set/a")
    assert resolve("data:set/a.txt").path == tmp_path / "set" / "a.txt"


def test_hub_names_are_pinned_by_what_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    assert hub.pin(f"hf:a/b@{commit}") == f"hf:a/b@{commit}"
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "datasets--a--b" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    source = resolve("hf:a/b")
    assert (source.ref, source.kind, source.path) == (f"hf:a/b@{commit}", "hub", None)

    class Unreachable:
        def model_info(self, *_: object, **__: object) -> None:
            raise ConnectionError

        dataset_info = model_info

    monkeypatch.setattr(hub.huggingface_hub, "HfApi", Unreachable)
    with pytest.raises(CharterError, match=r"the hub cannot be reached \(ConnectionError\): go online"):
        resolve("hf:c/d@branch")


@pytest.mark.parametrize("ref", ["shipped:x", "hf:a/b", "./x", "/x", "x.jsonl", "x.gguf", "openai:http://x#m"])
def test_references_that_are_no_steps(ref: str) -> None:
    assert is_external(ref)


def test_step_names_are_no_sources() -> None:
    assert not is_external("taught") and not is_external("pm_a")


def test_roles_accept_what_fits() -> None:
    policy, preference = Role("checkpoint", "policy"), Role("checkpoint", "preference")
    assert policy.accepts("checkpoint", "policy") and policy.accepts("hub", None)
    assert policy.accepts("checkpoint", None) and not policy.accepts("checkpoint", "preference")
    assert preference.accepts("checkpoint", "preference") and not preference.accepts("dialogues", None)
    assistant = Role("assistant")
    assert assistant.accepts("assistant", None) and assistant.accepts("checkpoint", "policy")
    assert not assistant.accepts("checkpoint", "preference") and not assistant.accepts("dialogues", None)
    assert Role("dialogues").accepts("prompts", None) and not Role("comparisons").accepts("prompts", None)
    assert Role("dialogues").accepts("data", None) and not Role("constitution").accepts("data", None)
    assert Role("text").accepts("corpus", None) and not Role("report").accepts("hub", None)
