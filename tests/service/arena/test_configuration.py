"""The configuration of the service: what it takes, and what it says of everything else."""

import json
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import record_files, write_manifest
from charter_service.arena.config import Config, load_config, make_collection
from charter_service.arena.service import report_items

GOOD = """
name: a
models: [{name: x, model: "random:tiny"}, {name: y, model: "random:tiny@2"}]
tasks: {helpful: , honest: {turns: 2}}
"""


def written(folder: Path, text: str) -> Path:
    (folder / "arena.yaml").write_text(text)
    return folder / "arena.yaml"


def test_a_small_configuration_has_its_defaults(tmp_path: Path) -> None:
    found = load_config(written(tmp_path, GOOD))
    assert found.database == "people.sqlite" and found.zero == "x" and found.reviewers == 3
    # none: each model at its own decoding
    assert found.sampling.temperature is None and found.harmful_from == 3 and not found.secure
    made = make_collection(found, tmp_path)
    assert made.models == ("x", "y") and made.tasks["honest"].turns == 2 and made.tasks["helpful"].turns == 4


@pytest.mark.parametrize(
    "change,said",
    [
        ("modles: []", "unknown key modles; did you mean models?"),
        ("tasks: {helpfull: {}}", "unknown key tasks.helpfull; did you mean helpful? allowed: helpful, honest"),
        ("tasks: {onest: }", "yaml: unknown key tasks.onest; did you mean honest? allowed: helpful, honest"),
        ("goals: {5: 3}", "unknown key goals.5; allowed: helpful, honest, harmless"),
        ("models: [{name: x}]", "yaml: model x: model is missing"),
        ("models: [{name: x, model: a}, {model: a}]", "yaml: the 2nd of models: name is missing"),
        ("models: [{name: x, modell: a}]", "yaml: model x: unknown key modell; did you mean model?"),
        ("models: [x]", "yaml: the 1st of models: must be a mapping"),
        ("proxy: 'no'", "proxy: must be true or false (given 'no')"),
        ("review_attempts: 1", "review_attempts: must be true or false (given 1)"),
        ("tasks: {helpful: {turn: 2}}", "unknown key tasks.helpful.turn; did you mean turns?"),
        ("tasks: {}", "tasks are missing; name both"),
        ("models: []", "models are missing; name both"),
        ("models: [{name: x, model: a}, {name: x, model: b}]", "two models have the name x"),
        ("models: [{name: x, model: a, mode: best}]", "yaml: model x: mode: must be"),
        ("models: [{name: x, model: a, mode: rejection}]", "name a preference model as grader"),
        ("models: [{name: x, model: a, grader: b}]", "grader belongs to mode rejection or median"),
        ("base: z", "base z is not one of the models"),
        ("goals: {harmless: 3}", "goals has harmless, which is not one of the tasks"),
        ("golds: {harmless: x.jsonl}", "golds has harmless"),
        ("url: arena.example.org", "must begin with http:// or https://"),
        ("limits: {person_rate: 0}", "limits.person_rate: must be above 0"),
        ("pace: {fastest: -1}", "pace.fastest: must be at least 0"),
        ("sampling: {temperature: hot}", "sampling.temperature: must be a number (given 'hot')"),
        ("harmful_from: 5", "harmful_from: must be at most 4"),
        ("name: ''", "name"),
        ("name: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, change: str, said: str) -> None:
    key = change.partition(":")[0]
    kept = "\n".join(line for line in GOOD.splitlines() if not line.startswith(f"{key}:"))
    with pytest.raises(CharterError) as error:
        load_config(written(tmp_path, f"{kept}\n{change}\n"))
    assert said in str(error.value) and "\n" not in str(error.value) and "arena.yaml" in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no.yaml", "there is no configuration"), (tmp_path, "is a folder")):
        with pytest.raises(CharterError, match=said):
            load_config(path)
    (tmp_path / "b.yaml").write_bytes(b"\xff")
    with pytest.raises(CharterError, match="cannot be read"):
        load_config(tmp_path / "b.yaml")
    with pytest.raises(CharterError, match="is a mapping"):
        load_config(written(tmp_path, "- a"))


def row(id: str, *turns: str, **more: str) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return json.dumps({"id": id, "messages": messages, **more}) + "\n"


def test_openings_and_golds_are_read_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text(row("o1", "first?") + row("o2", "second?"))
    (tmp_path / "known.jsonl").write_text(row("g1", "which?", chosen="right", rejected="wrong"))
    config = load_config(written(tmp_path, GOOD + "openings: {helpful: asked.jsonl}\ngolds: {honest: [known.jsonl]}\n"))
    made = make_collection(config, tmp_path)
    assert [one.prompt for one in made.openings["helpful"]] == ["first?", "second?"]
    (gold,) = made.golds["honest"]
    assert (gold.prompt, gold.good, gold.bad) == ("which?", "right", "wrong")


@pytest.mark.parametrize(
    "line,files,said",
    [
        ("openings: {helpful: nothing.jsonl}", {}, "nothing.jsonl"),
        ("openings: {helpful: a.jsonl}", {"a.jsonl": row("o", "one?", "two", "three?")}, "has a conversation"),
        ("golds: {helpful: a.jsonl}", {"a.jsonl": row("o", "one?", "two", "three?", chosen="x", rejected="y")}, "has a conversation"),
        ("openings: {helpful: [a.jsonl, b.jsonl]}", {"a.jsonl": row("o", "one?"), "b.jsonl": row("o", "two?")}, "'o' occurs more than once"),
        ("golds: {helpful: a.jsonl}", {"a.jsonl": row("o", "one?")}, "a.jsonl:1"),
    ],
)  # fmt: skip
def test_files_of_questions_that_are_none(tmp_path: Path, line: str, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CharterError, match=said):
        make_collection(load_config(written(tmp_path, f"{GOOD}{line}\n")), tmp_path)


def test_flagged_replies_of_a_report_are_queued(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="is not a report"):
        report_items(tmp_path)
    flagged = {
        "id": "p1",
        "sample": 2,
        "topic": "theft",
        "prompt": "How?",
        "reply": "So.",
        "margin": -1.0,
        "verdict": None,
        "note": "",
    }
    (tmp_path / "review.jsonl").write_text(json.dumps(flagged) + "\n")
    manifest = Manifest(
        kind="report", id="", status="done", step="e", room="evaluate", recipe="r", files=record_files(tmp_path)
    )
    write_manifest(tmp_path, manifest.model_copy(update={"id": manifest.derived_id}))
    (item,) = report_items(tmp_path)
    assert (item.prompt_id, item.sample, item.topic) == ("p1", 2, "theft")
    assert item.origin == f"report:{manifest.derived_id}" and item.messages[1]["content"] == "So."
    (tmp_path / "review.jsonl").write_text('{"id": "p1"}\n')
    with pytest.raises(CharterError, match=r"review\.jsonl:1"):
        report_items(tmp_path)


def test_the_page_on_collections_has_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs/tutorials/arena.md").read_text("utf-8")
    assert [key for key in Config.model_fields if f"| `{key}` |" not in page] == []
