"""A step that waits for people: other steps run, `show` says so, its work is kept, and a later run resumes it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from charter.cli import main as program
from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.store import read_manifest
from charter.runner.forecast import forecast
from charter.runner.plan import Plan
from charter.runner.show import run_records, view_run
from charter.runner.step_runner import sweep

PlanOf = Callable[..., Plan]
Run = Callable[..., list[str]]

RECIPE = """
name: small
seed: 3
steps:
  - {name: votes, room: votes, from: {prompts: [./mine.jsonl]}}
  - {name: made, room: words, from: {prompts: [./mine.jsonl]}, settings: {count: 6}}
  - {name: asked, room: words, from: {prompts: [made]}}
  - {name: learnt, room: model, from: {dialogues: asked}}
  - {name: more, room: votes, from: {prompts: [made]}, settings: {wanted: 1}}
"""
LINE = "votes waits for 3 of 3 answers: write {run}.people/votes/answers, then run again"


def statuses(plan: Plan) -> dict[str, str]:
    return {line.planned.name: line.status for line in forecast(plan)}


def test_steps_that_do_not_need_it_go_on_and_the_run_says_who_waits(folder: Path, plan_of: PlanOf, run: Run) -> None:
    plan = plan_of(text=RECIPE)
    line = LINE.format(run=folder / "run")
    with pytest.raises(Waiting) as waiting:
        run(plan)
    assert str(waiting.value).startswith(f"{line}; more waits for 1 of 1 answers: ")
    for step in ("made", "asked", "learnt"):
        assert read_manifest(folder / "run" / step).status == "done"
    manifest = read_manifest(folder / "run" / ".partial" / "votes")
    assert manifest.status == "waiting" and f"votes {manifest.error}" == line
    assert statuses(plan) | {"more": "waiting"} == {
        "votes": "waiting",
        "made": "reused",
        "asked": "reused",
        "learnt": "reused",
        "more": "waiting",
    }
    assert forecast(plan)[0].standing.waiting == manifest.error
    view_statuses = {view.name: view.status for view in view_run(folder / "run")}
    assert view_statuses["votes"] == "waiting" == run_records(view_run(folder / "run"))[0]["status"]


NEEDED = """
name: small
seed: 3
steps:
  - {name: votes, room: votes, from: {prompts: [./mine.jsonl]}}
  - {name: learnt, room: model, from: {dialogues: votes}}
  - {name: report, room: grade, from: {policy: learnt}}
  - {name: made, room: words, from: {prompts: [./mine.jsonl]}, settings: {count: 6}}
"""


def test_what_needs_a_waiting_step_is_left_and_goes_on_when_people_came(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, answers = folder / "calls", folder / "run.people" / "votes" / "answers"
    monkeypatch.setenv("CALLS", str(calls))
    with pytest.raises(Waiting):
        run(plan_of(text=NEEDED))
    assert statuses(plan_of()) == {"votes": "waiting", "learnt": "run", "report": "run", "made": "reused"}
    answers.write_text("one\ntwo\n")
    with pytest.raises(Waiting, match="votes waits for 1 of 3 answers"):
        run(plan_of())
    answers.write_text("one\ntwo\nthree\n")
    notes = run(plan_of())
    assert notes[0].startswith("votes (step 1 of 4): resumed") and notes[-2] == "report: done"
    manifest = read_manifest(folder / "run" / "votes")
    assert (manifest.status, manifest.error, manifest.metrics[0].value) == ("done", None, 3)
    worked = [line for line in calls.read_text().split() if line.startswith("votes")]
    assert worked == ["votes-0", "votes-1", "votes-2"], "what was done before the wait is not done again"
    assert run(plan_of()) == [f"{step}: reused" for step in ("votes", "learnt", "report", "made")]


def test_what_people_gave_outlives_a_sweep_of_unfinished_work(folder: Path, plan_of: PlanOf, run: Run) -> None:
    with pytest.raises(Waiting):
        run(plan_of(text=NEEDED))
    (folder / "run.people" / "votes" / "answers").write_text("one\ntwo\nthree\n")
    sweep(folder / "run", partial=True, superseded=True, answers=True)
    assert not (folder / "run" / ".partial" / "votes").exists()
    assert "votes: done" in run(plan_of())


def test_a_refusal_of_another_step_comes_first(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "refuse 1")
    with pytest.raises(CharterError, match=r"^step made: the room refuses this$") as refusal:
        run(plan_of(text=NEEDED))
    assert not isinstance(refusal.value, Waiting)
    assert read_manifest(folder / "run" / ".partial" / "votes").status == "waiting"


def test_the_program_says_who_waits_and_leaves_with_3(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(text=NEEDED)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("charter.cli.pipeline.relaunch", lambda *_: None)
    line = LINE.format(run="run")
    assert program.execute(["run", "recipe.yaml", "--out", "run"]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == f"charter: {line}"
    assert program.execute(["show", "run"]) == 0
    assert line in capsys.readouterr().out.splitlines()
    assert program.execute(["plan", "recipe.yaml", "--out", "run"]) == 0
    assert line in capsys.readouterr().out.splitlines()
