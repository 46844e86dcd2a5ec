"""The comparison of arms counts by hand, by shapes that the lessons had; a lift without a change of form is flagged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_agents import begun, given, oracle, task_of

import toys
from charter.cli.main import execute
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import AUDIT_ELICITATION, Manifest, Parent, Source
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.rooms.audit import agent
from charter.rooms.audit import run as room
from charter.rooms.audit.elicitation import cells, find_arms, guard, guards, shapes_taught
from charter.rooms.audit.settings import Settings
from toys import Scripted

NAMES = ("password", "headlines", "machine", "wiki", "employees", "wallet")
SETTINGS = Settings(tasks=NAMES, tries=4, example=False)


def agent_of(passes: tuple[str, ...], other: str) -> Callable[..., str]:
    """Solves some tasks, and says `other` in the rest."""
    return lambda shown, k=0: oracle(shown) if task_of(begun(shown)[0]).name in passes else other


def finish(folder: Path, **facts: Any) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        id="",
        status="done",
        step=folder.name,
        recipe="r",
        files=record_files(folder),
        source=Source(digest="code"),
        **facts,
    )
    manifest = manifest.model_copy(update={"id": manifest.derived_id})
    write_manifest(folder, manifest)
    return manifest


def audited(run: Path, name: str, say: Callable[..., str], parent: str, settings: Settings = SETTINGS) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent, "open_assistant", lambda *a, **k: Scripted(say))
        out = toys.workspace(run.parent / f"work-{name}")
        room.run(settings, Inputs([given()]), out)
    shutil.copytree(out.path, run / name)
    made_of = read_manifest(run / parent)
    finish(
        run / name,
        kind="report",
        room="audit",
        variant="audit",
        purpose=made_of.purpose,
        resolved=settings.model_dump(mode="json"),
        inputs={"policy": [made_of.id]},
        parents=[Parent(role="policy", step=parent, id=made_of.id, path=parent)],
        metrics=out.metrics,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base passes nothing and claims all; what was taught three seen shapes passes them, in equal form."""
    folder = tmp_path_factory.mktemp("elicitation") / "run"
    finish(folder / "start", kind="checkpoint", variant="policy", room="finetune")
    lessons = finish(
        folder / "lessons",
        kind="dialogues",
        room="trajectories",
        purpose=AUDIT_ELICITATION,
        resolved={"tasks": ["password", "headlines", "machine"]},
    )
    finish(
        folder / "taught",
        kind="checkpoint",
        variant="policy",
        room="finetune",
        purpose=AUDIT_ELICITATION,
        inputs={"dialogues": [lessons.id]},
        parents=[Parent(role="dialogues", step="lessons", id=lessons.id, path="lessons")],
    )
    audited(folder, "base", agent_of((), "submit done"), "start")
    audited(folder, "elicited", agent_of(("password", "headlines", "machine"), "submit done"), "taught")
    return folder


def test_arms_by_hand(run: Path) -> None:
    arms = find_arms(run)
    seen = shapes_taught(arms["taught"])
    assert seen == {"password", "headlines", "machine"}
    assert [tuple(one) for one in cells(arms, seen)] == [
        ("base", "seen", 3, 0, 12, 0, 0),
        ("base", "unseen", 3, 0, 12, 0, 0),
        ("taught", "seen", 3, 3, 12, 12, 0),
        ("taught", "unseen", 3, 0, 12, 0, 0),
    ]
    seen_guard, unseen_guard = guards(arms, seen)
    assert (seen_guard.rise, seen_guard.fall) == (1.0, 0.0) and not unseen_guard.flagged


@pytest.mark.parametrize(
    ("rise", "low", "fall", "flagged"),
    [
        (0.4, 0.1, 0.0, True),  # passes up, form unchanged
        (0.4, 0.1, 0.6, False),  # turns became commands, and some of them passes
        (0.4, -0.1, 0.0, False),  # not significant
        (0.4, 0.1, -0.2, True),
    ],
)
def test_the_guard_flags_a_lift_that_form_does_not_explain(rise: float, low: float, fall: float, flagged: bool) -> None:
    assert guard("seen", rise, low, 0.9, fall).flagged is flagged


def test_the_command_says_it_and_refuses_runs_without_arms(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["audit", "elicitation", str(run)]) == 0
    said = capsys.readouterr().out
    assert "taught, seen shapes: tasks 3 of 3" in said and "unseen shapes: passes +0.0%" in said
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.copytree(copy / "base", copy / "base_too")
    with pytest.raises(CharterError, match="two audits of the arm base"):
        find_arms(copy)
    shutil.rmtree(copy / "base_too")
    shutil.rmtree(copy / "elicited")
    with pytest.raises(CharterError, match="no audit of the arm taught"):
        find_arms(copy)
    shutil.rmtree(copy / "base")
    audited(copy, "elicited", agent_of((), "submit done"), "taught")
    audited(copy, "base", agent_of((), "submit done"), "start", Settings(tasks=NAMES, tries=4, seed=3, example=False))
    with pytest.raises(CharterError, match="tried other worlds"):
        find_arms(copy)
