"""Whatever a room writes is whole or absent, and comes back equal after a stop."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import Manifest, Metric, canonical_json, digest_text, digest_tree
from charter.ground.artifact.store import (
    atomic_write,
    publish,
    read_manifest,
    record_files,
    verify_files,
    write_manifest,
)
from charter.ground.artifact.workspace import Workspace


def manifest(**changes: object) -> Manifest:
    facts: dict[str, object] = {
        "kind": "dialogues",
        "id": "0" * 64,
        "status": "done",
        "step": "made",
        "room": "words",
        "recipe": "small",
    }
    return Manifest.model_validate({**facts, **changes})


def test_metrics_and_chunks_survive_a_stop(tmp_path: Path) -> None:
    numbers: list[int] = []
    stops = iter([True, False])

    def produce(items: Sequence[str], number: int) -> list[tuple[str, int]]:
        if number == 2 and next(stops):
            raise RuntimeError("stopped")
        numbers.append(number)
        return [(item, number) for item in items]

    first = Workspace(tmp_path, step="made")
    first.metric("a", 1.0)
    first.metric("a", 2.0, low=1.5, high=2.5, n=3)
    with pytest.raises(RuntimeError):
        first.chunks("key", list("abcde"), 2, produce)
    second = Workspace(tmp_path, step="made")
    assert second.metrics == [Metric(name="a", value=2.0, low=1.5, high=2.5, n=3)]
    rows = second.chunks("key", list("abcde"), 2, produce)
    assert rows == [["a", 0], ["b", 0], ["c", 1], ["d", 1], ["e", 2]]  # tuples come back as JSON has them
    assert numbers == [0, 1, 2]


def test_a_broken_chunk_is_made_again(tmp_path: Path) -> None:
    out = Workspace(tmp_path)
    assert out.chunks("key", [1, 2], 1, lambda items, _: list(items)) == [1, 2]
    (tmp_path / "state" / "key-00001.json").write_text('{"items": 1, "ro')
    assert out.chunks("key", [1, 2], 1, lambda items, _: [i * 10 for i in items]) == [1, 20]
    assert out.chunks("none", [], 3, lambda items, _: list(items)) == []
    with pytest.raises(CharterError, match="a size of at least 1"):
        out.chunks("key", [1], 0, lambda items, _: list(items))


def test_logs_are_cut_back_to_the_saved_step_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    out = Workspace(tmp_path)
    for step in range(4):
        out.log(step=step, loss=1.0 / (step + 1))
    with (out.path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    again = Workspace(tmp_path)
    again.log_truncate(2)
    assert [json.loads(line)["step"] for line in (again.path / "log.jsonl").read_text().splitlines()] == [0, 1]


def test_appended_rows_are_cut_back_by_their_key(tmp_path: Path) -> None:
    out = Workspace(tmp_path)
    name = "samples/rows.jsonl"
    out.truncate_jsonl(name, "part", 0)
    for part in range(3):
        out.append_jsonl(name, ({"part": part, "text": f"\u2028 line {n}"} for n in range(2)))
    out.append_jsonl(name, [{"note": "no part"}])
    with (out.path / name).open("a") as file:
        file.write('{"part": 0, "te')
    out.truncate_jsonl(name, "part", 1)
    rows = [json.loads(line) for line in (out.path / name).read_text("utf-8").split("\n")[:-1]]
    assert rows == [{"part": 0, "text": f"\u2028 line {n}"} for n in range(2)] + [{"note": "no part"}]


def test_strays_are_removed_and_the_manifest_is_not_the_rooms(tmp_path: Path) -> None:
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "deep" / ".tmp-x").write_text("half")
    out = Workspace(tmp_path)
    assert not list(out.path.rglob(".tmp-*"))
    with pytest.raises(CharterError, match=r"manifest\.json is written by the runner"):
        out.write_json("manifest.json", {})
    one = out.write_jsonl("deep/rows.jsonl.gz", [{"a": 1}]).read_bytes()
    assert one == out.write_jsonl("deep/rows.jsonl.gz", [{"a": 1}]).read_bytes()


def test_a_metric_that_is_not_finite_says_so(tmp_path: Path) -> None:
    out = Workspace(tmp_path)
    out.metric("loss", float("inf"), low=float("nan"), note="why")
    assert out.metrics == [Metric(name="loss", note="not finite (inf); why")]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    atomic_write(target, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError):
            atomic_write(target, "new")
    assert target.read_text() == "old"


def test_manifests_round_trip_and_problems_are_named(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "done"
    (work / "deep").mkdir(parents=True)
    (work / "deep" / "a.txt").write_text("one")
    (work / "b.txt").write_text("two")
    written = manifest(files=record_files(work))
    write_manifest(work, written)
    publish(work, target)
    assert read_manifest(target) == written and not work.exists()
    assert [record.path for record in written.files] == ["b.txt", "deep/a.txt"]
    assert verify_files(target, written) == []
    (target / "deep" / "a.txt").write_text("eno")
    (target / "b.txt").unlink()
    (target / "c.txt").write_text("more")
    assert verify_files(target, written) == [
        "b.txt is missing",
        "deep/a.txt was changed (sha256 differs)",
        "c.txt is not in the manifest",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "is not an artifact: it has no manifest.json"),
        ("{", "cannot be read"),
        ("[]", "has format 'list'"),
        ('{"format": 9}', "has format 9; this version of charter reads format 1"),
        ('{"format": 1}', "is not a manifest: kind: Field required"),
    ],
)
def test_a_bad_manifest_is_one_line(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CharterError) as caught:
        read_manifest(tmp_path)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_inputs_by_role() -> None:
    def entry(role: str, name: str) -> Input:
        return Input(role, name, "dialogues", None, Path(name), name, "0")

    inputs = Inputs([entry("prompts", "a"), entry("prompts", "b"), entry("policy", "c")])
    assert [one.name for one in inputs.many("prompts")] == ["a", "b"]
    assert inputs.one("policy").name == "c" and inputs.optional("none") is None
    for role, problem in (("prompts", "was given 2"), ("none", "needs an input")):
        with pytest.raises(CharterError, match=problem):
            inputs.one(role)
    with pytest.raises(CharterError, match="not a file or folder on this machine"):
        _ = Input("policy", "x", "assistant", None, None, "openai:http://x#m", "0").folder


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_canonical_json_has_one_spelling(value: dict[str, object]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)
    assert json.loads(canonical_json(value)) == value


def test_tree_digests_see_names_and_content_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "__pycache__" / "x.pyc").write_text(name)
        (tmp_path / name / "README.md").write_text(name)
        (tmp_path / name / "a.py").write_text("1")
    skip = frozenset({"README.md"})
    assert digest_tree(tmp_path / "one", skip) == digest_tree(tmp_path / "two", skip)
    (tmp_path / "two" / "a.py").rename(tmp_path / "two" / "b.py")
    assert digest_tree(tmp_path / "one", skip) != digest_tree(tmp_path / "two", skip)
    assert digest_text("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_harmful_rows_are_their_owners_from_the_first_byte_on(tmp_path: Path) -> None:
    # what a kill left behind, readable by all, doesn't lend its mode
    (tmp_path / "work" / "files").mkdir(parents=True)
    (tmp_path / "work" / "files" / ".tmp-rows.jsonl").write_text("left")
    out = Workspace(tmp_path / "work", step="made")
    assert out.state.stat().st_mode & 0o777 == 0o700
    rows = out.write_jsonl("rows.jsonl", [{"reply": "Sure."}], restricted=True)
    assert rows.stat().st_mode & 0o777 == 0o600 and out.restricted == {"rows.jsonl"}
    assert json.loads(rows.read_text()) == {"reply": "Sure."}
    out.write_jsonl("rows.jsonl", [])
    assert rows.stat().st_mode & 0o044 and not out.restricted
