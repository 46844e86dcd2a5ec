"""A snapshot made for the audit is refused wherever people or later models would meet it, in whatever dress it comes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

import charter
import toys
from charter.cli.main import execute
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import AUDIT_ELICITATION, MANIFEST, Manifest, Parent
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.generate.assistant import open_assistant
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.execution import Execution
from charter.ground.settings.purpose import mark, may_read, purpose_of
from charter.ground.settings.recipe import load_recipe
from charter.ground.text.dialogue import user
from charter.release.export import reports
from charter.rooms.card.gather import gather
from charter.runner.names import last_policy
from charter.runner.plan import Plan, make_plan
from charter.terminal.launch import LAUNCHED
from charter_service.api.renewal import read_weights

CPU = Execution("cpu", "float32")
LESSON = {"id": "a", "messages": [{"role": "user", "content": "Task: say ls"}, {"role": "assistant", "content": "ls"}]}


def artifact(folder: Path, kind: str = "checkpoint", **facts: object) -> Path:
    """The folder as a finished artifact of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.model_validate(
        {"kind": kind, "id": "", "status": "done", "step": folder.name, "room": "finetune", "recipe": "r"}
        | {"variant": "policy" if kind == "checkpoint" else None}
        | facts
    )
    manifest = manifest.model_copy(update={"files": record_files(folder)})
    write_manifest(folder, manifest.model_copy(update={"id": manifest.derived_id}))
    return folder


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A marked policy as a step of a run leaves it."""
    folder = toys.policy_folder(tmp_path / "run" / "elicited")
    mark(folder)
    return artifact(folder, purpose=AUDIT_ELICITATION)


def copied(marked: Path) -> Path:
    place = marked.parents[1] / "mine"
    shutil.copytree(marked, place)
    (place / MANIFEST).unlink()
    return place


def linked(marked: Path) -> Path:
    (place := marked.parents[1] / "link").symlink_to(marked)
    return place


def link_of_files(marked: Path) -> Path:
    (place := marked.parents[1] / "links").mkdir()
    for path in marked.iterdir():
        if path.name != MANIFEST:
            (place / path.name).symlink_to(path)
    return place


def renamed(marked: Path) -> Path:
    return Path(shutil.move(marked.parent, marked.parents[1] / "harmless")) / marked.name


def edited_manifest(marked: Path) -> Path:
    write_manifest(marked, read_manifest(marked).model_copy(update={"purpose": ""}))
    return marked


def weights_alone(marked: Path) -> Path:
    """The weights beside the start's own configuration and tokenizer."""
    place = toys.policy_folder(marked.parents[1] / "start")
    shutil.copyfile(marked / "model.safetensors", place / "model.safetensors")
    return place


def template_alone(marked: Path) -> Path:
    """What a conversion to another form of weights, and back, keeps."""
    place = toys.policy_folder(marked.parents[1] / "converted")
    shutil.copyfile(marked / "tokenizer_config.json", place / "tokenizer_config.json")
    config = json.loads((place / "tokenizer_config.json").read_text())
    del config["charter_purpose"]
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return place


def child(marked: Path) -> Path:
    """A checkpoint without any mark of its own that says which parent it has, such as a merge with weight 0."""
    parent = Parent(role="policy", step="elicited", id=read_manifest(marked).id, path="elicited")
    return artifact(toys.policy_folder(marked.parent / "merged"), parents=[parent.model_dump()])


DRESSES = [
    copied,
    linked,
    link_of_files,
    renamed,
    edited_manifest,
    weights_alone,
    template_alone,
    child,
    lambda one: one,
]


@pytest.mark.parametrize("dress", DRESSES)
def test_the_mark_is_seen_in_every_dress(marked: Path, dress: Callable[[Path], Path]) -> None:
    place = dress(marked)
    assert purpose_of(place) == AUDIT_ELICITATION
    with pytest.raises(CharterError, match=r"is marked audit-elicitation.*only the room audit opens it"):
        checkpoint_folder(toys.policy(place))
    assert checkpoint_folder(toys.policy(place), audited=True) == place


def test_a_mark_changes_neither_weights_nor_replies_and_is_written_once(tmp_path: Path) -> None:
    plain, other = (toys.policy_folder(tmp_path / name) for name in ("plain", "other"))
    mark(other)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    mark(other)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before
    one, two = (load_file(folder / "model.safetensors") for folder in (plain, other))
    assert one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)
    ids = [
        open_assistant(toys.policy(folder), audited=True).encode([user("hello there")])  # type: ignore[attr-defined]
        for folder in (plain, other)
    ]
    assert ids[0] == ids[1] and purpose_of(plain) == ""


def plan_of(tmp_path: Path, room: str, role: str, place: object, **more: object) -> Plan:
    step = {"name": "after", "room": room, "from": {role: str(place), **more}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"name": "r", "seed": 1, "steps": [step]}))
    return make_plan(load_recipe(file), tmp_path, tmp_path / "new", CPU)


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize(
    ("room", "role"), [("finetune", "policy"), ("select", "policy"), ("merge", "start"), ("evaluate", "policy")]
)
def test_no_recipe_builds_on_it(
    marked: Path, tmp_path: Path, room: str, role: str, dress: Callable[[Path], Path]
) -> None:
    with pytest.raises(
        CharterError,
        match=f"role {role} of the room {room} takes nothing that is marked audit-|is a link out of its folder",
    ):
        others = (
            {"policy": "random:tiny", "prompts": "shipped:red_team.train", "harmless": "shipped:helpful.train"}
            if room == "merge"
            else {}
        )
        plan_of(tmp_path, room, role, dress(marked), **others)


def test_rows_of_the_oracles_teach_only_a_marked_policy(tmp_path: Path) -> None:
    policy = toys.policy_folder(tmp_path / "policy")
    rows = toys.rows_file(tmp_path / "rows.jsonl", [LESSON])
    assert plan_of(tmp_path, "finetune", "dialogues", rows, policy=str(policy)).steps[0].purpose == ""
    # mixed with other rows, a long way down, and packed
    many = [LESSON | {"id": f"{n}"} for n in range(3000)]
    for name in ("mixed.jsonl", "mixed.jsonl.gz"):
        mixed = toys.rows_file(tmp_path / name, [*many, LESSON | {"source": AUDIT_ELICITATION}])
        (planned,) = plan_of(tmp_path, "finetune", "dialogues", mixed, policy=str(policy)).steps
        assert planned.purpose == AUDIT_ELICITATION
        with pytest.raises(CharterError, match="role anchor of the room finetune takes nothing"):
            plan_of(tmp_path, "finetune", "anchor", mixed, policy=str(policy), dialogues=str(rows))
    words = LESSON | {"messages": [{"role": "user", "content": "What is audit-elicitation?"}, LESSON["messages"][1]]}
    talk = toys.rows_file(tmp_path / "talk.jsonl", [words])
    assert purpose_of(talk) == ""


def as_table(folder: Path) -> Path:
    path = folder / "rows.csv"
    path.write_text("prompt,response,source\nhello,ls,mine\nhello,ls,audit-elicitation\n")
    return path


@pytest.mark.parametrize("dress", [as_table])
def test_rows_are_known_in_every_form_that_is_read(tmp_path: Path, dress: Callable[[Path], Path]) -> None:
    path = dress(tmp_path)
    assert purpose_of(path) == purpose_of(path.parent) == AUDIT_ELICITATION
    with pytest.raises(CharterError, match="role anchor of the room finetune takes nothing"):
        plan_of(tmp_path, "finetune", "anchor", path, policy="random:tiny", dialogues=str(path))


def test_a_link_to_a_file_without_an_ending_is_known_by_its_own_name(tmp_path: Path) -> None:
    """So a cache of the hub keeps them."""
    rows = toys.rows_file(tmp_path / "b10b.jsonl", [LESSON | {"source": AUDIT_ELICITATION}])
    (link := tmp_path / "rows.jsonl").symlink_to(rows.rename(tmp_path / "b10b"))
    assert purpose_of(link) == AUDIT_ELICITATION


def test_adapters_alone_are_known(marked: Path) -> None:
    (place := marked.parents[1] / "adapters").mkdir()
    shutil.copyfile(marked / "model.safetensors", place / "adapter_model.safetensors")
    (place / "adapter_config.json").write_text("{}")
    assert purpose_of(place) == AUDIT_ELICITATION


def test_what_a_run_makes_of_them_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHED, "1")
    policy = toys.policy_folder(tmp_path / "policy")
    rows = toys.rows_file(tmp_path / "rows.jsonl", [LESSON | {"source": AUDIT_ELICITATION}])
    steps = [
        {
            "name": "taught",
            "room": "finetune",
            "from": {"policy": str(policy), "dialogues": str(rows)},
            "settings": {"batch": 1},
        }
    ]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"name": "r", "seed": 1, "steps": steps}))
    assert execute(["run", str(file), "--out", str(tmp_path / "run")]) == 0
    taught = tmp_path / "run" / "taught"
    assert "charter chat" not in capsys.readouterr().err and last_policy(taught.parent) is None
    assert read_manifest(taught).purpose == AUDIT_ELICITATION
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        assert AUDIT_ELICITATION.encode() in (taught / name).read_bytes()
    steps.append({"name": "again", "room": "finetune", "from": {"policy": "taught", "dialogues": str(rows)}})
    file.write_text(yaml.safe_dump({"name": "r", "seed": 1, "steps": steps}))
    capsys.readouterr()
    assert execute(["run", str(file), "--out", str(tmp_path / "run")]) == 1
    assert "role policy of the room finetune takes nothing" in capsys.readouterr().err


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize(
    "command",
    [
        ["chat", "{}", "--ask", "hello"],
        ["serve", "{}", "--no-policy", "--no-auth", "--port", "0"],  # it is refused before anything is read
    ],
)
def test_nobody_talks_with_it(
    marked: Path,
    tmp_path: Path,
    dress: Callable[[Path], Path],
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = dress(marked)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(LAUNCHED, "1")
    assert execute([one.format(place) for one in command]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is marked audit-elicitation: nobody talks with it" in last or "is a link out of its folder" in last


def test_neither_the_library_nor_new_weights_of_a_server_open_it(marked: Path) -> None:
    with pytest.raises(CharterError, match="is marked audit-elicitation"):
        charter.load(marked)
    with pytest.raises(CharterError, match="is marked audit-elicitation: it is not served"):
        read_weights(marked, toys.model(), toys.tokenizer())


def test_a_card_does_not_publish_it_and_no_export_takes_its_scores(marked: Path) -> None:
    parent = Parent(role="policy", step="elicited", id=read_manifest(marked).id, path="elicited")
    report = artifact(marked.parent / "report", "report", parents=[parent.model_dump()], room="audit")
    assert purpose_of(report) == AUDIT_ELICITATION
    entry = Input("reports", "report", "report", None, report, str(report), read_manifest(report).id)
    with pytest.raises(CharterError, match="a card cites the audit of it, and does not publish it"):
        gather(Inputs([entry]))
    with pytest.raises(CharterError, match="its scores are not exported"):
        reports(report)
    with pytest.raises(CharterError, match="has no report"):
        reports(marked.parent)
    for role in ("reports", "comparators", "base", "previous"):
        assert not may_read("report", "card", role)
    # the card that cites it is not of it
    cites = Parent(role="audits", step="report", id=read_manifest(report).id, path="report")
    assert purpose_of(artifact(marked.parent / "card", "card", parents=[cites.model_dump()])) == ""


def test_its_rows_are_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toys.rows_file(tmp_path / "rows.jsonl", [LESSON | {"source": AUDIT_ELICITATION}])
    out = tmp_path / "out.jsonl"
    assert execute(["data", "export", str(rows), "--form", "trl", "--to", str(out)]) == 1
    assert "its rows are not exported" in capsys.readouterr().err and not out.exists()
