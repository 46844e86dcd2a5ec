"""Steps in parallel: the same artifacts as in turn, and the leftovers of a failure, a kill and an interrupt."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.store import read_manifest
from charter.runner.jobs import Jobs, chains
from charter.runner.plan import Plan
from charter.runner.show import view_run

PlanOf = Callable[..., Plan]
Run = Callable[..., list[str]]

RECIPE = """
name: two
seed: 3
steps:
  - {name: left, room: words, from: {prompts: [./mine.jsonl]}, settings: {count: 6}}
  - {name: right, room: words, from: {prompts: [./mine.jsonl]}, settings: {count: 4}}
  - {name: both, room: words, from: {prompts: [left, right]}}
  - {name: taught, room: model, from: {dialogues: both}}
"""
# The rooms for tests are not charter's own, so a process that runs steps needs their names.
OPENED = (
    "from charter import building; from conftest import ROOMS; building.ROOMS = ROOMS; "
    "from charter.runner.jobs import main; main()"
)
COMMAND = (sys.executable, "-c", OPENED)


@pytest.fixture(autouse=True)
def meeting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
    monkeypatch.setenv("MEETING", str(tmp_path / "meeting"))
    return tmp_path / "meeting"


@pytest.fixture
def beside(run: Run) -> Run:
    """Runs a plan in two processes and returns the notes."""
    return lambda plan: run(plan, crew=Jobs(2, COMMAND))


def artifacts(run: Path) -> dict[str, object]:
    manifests = {path.name: read_manifest(path) for path in run.iterdir() if (path / "manifest.json").exists()}
    return {name: (m.id, m.status, m.files, m.metrics, m.inputs, m.environment) for name, m in manifests.items()}


def test_two_steps_run_at_once_and_make_what_they_make_in_turn(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, beside: Run, run: Run
) -> None:
    plan = plan_of(text=RECIPE)
    run(plan)
    (folder / "run").rename(folder / "in_turn")
    monkeypatch.setenv("FAULT", "meet 0")  # neither goes on until the other has begun
    lines = beside(plan)
    assert artifacts(folder / "run") == artifacts(folder / "in_turn")
    assert set(lines) == {
        line
        for n, name in enumerate(("left", "right", "both", "taught"), 1)
        for line in (f"{name} (step {n} of 4): started", f"{name}: done")
    }
    assert lines.index("both (step 3 of 4): started") > max(map(lines.index, ("left: done", "right: done")))
    assert not list((folder / "run" / ".partial").iterdir())
    assert beside(plan) == ["left: reused", "right: reused", "both: reused", "taught: reused"]


def test_alone_a_step_would_wait_in_vain(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """The test above depends on this."""
    monkeypatch.setenv("FAULT", "meet 0")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(CharterError, match="left was alone"):
        run(plan_of(text=RECIPE))


def test_the_first_failure_stops_the_run_and_the_other_step_goes_on_later(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, meeting: Path, beside: Run
) -> None:
    monkeypatch.setenv("FAULT", "refuse 1 left")
    with pytest.raises(CharterError, match=r"^step left: the room refuses this$"):
        beside(plan_of(text=RECIPE))
    assert read_manifest(folder / "run" / ".partial" / "left").status == "failed"
    assert not (folder / "run" / "both").exists()
    monkeypatch.setenv("FAULT", "")
    assert "left (step 1 of 4): resumed" in beside(plan_of(text=RECIPE))
    assert {view.status for view in view_run(folder / "run")} == {"done"}


def test_a_process_that_is_killed_is_told_and_its_work_goes_on(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, beside: Run
) -> None:
    monkeypatch.setenv("FAULT", "kill 1 right")
    with pytest.raises(CharterError, match=r"^step right: its process was ended by SIGKILL; .* fewer --jobs"):
        beside(plan_of(text=RECIPE))
    monkeypatch.setenv("FAULT", "")
    assert "right (step 2 of 4): resumed" in beside(plan_of(text=RECIPE))


def test_a_process_that_is_killed_while_it_has_nothing_to_do_is_replaced(
    folder: Path, plan_of: PlanOf, beside: Run, monkeypatch: pytest.MonkeyPatch, meeting: Path
) -> None:
    monkeypatch.setenv("FAULT", "meet 2 left")  # it waits there until the other process is gone

    def kill_the_idle() -> None:
        while not ((meeting / "left").exists() and (folder / "run" / "right").exists()):
            time.sleep(0.02)
        time.sleep(0.5)
        busy = int((meeting / "left").read_text())
        children = [child for child in psutil.Process().children() if OPENED in child.cmdline()]
        (idle,) = [child for child in children if child.pid != busy]
        idle.kill()
        (meeting / "killed").touch()

    killer = threading.Thread(target=kill_the_idle)
    killer.start()
    more = "  - {name: more, room: words, from: {prompts: [left]}}\n"  # two steps are ready then
    assert {"taught: done", "more: done"} <= set(beside(plan_of(text=RECIPE + more)))
    killer.join()


def test_what_nobody_foresaw_is_one_line_with_its_traceback(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, beside: Run
) -> None:
    monkeypatch.setenv("FAULT", "crash 0 right")
    with pytest.raises(CharterError, match=r"^step right: ValueError: nobody foresaw this; the traceback is in"):
        beside(plan_of(text=RECIPE))
    assert "produce" in (folder / "run" / ".partial" / "right" / "traceback.txt").read_text()


def test_a_step_that_waits_for_people_holds_only_those_that_need_it(folder: Path, plan_of: PlanOf, beside: Run) -> None:
    recipe = RECIPE + (
        "  - {name: votes, room: votes, from: {prompts: [left]}}\n"
        "  - {name: counted, room: words, from: {prompts: [votes]}}\n"
    )
    with pytest.raises(Waiting, match=r"^votes waits for 3 of 3 answers: write .*run.people/votes/answers"):
        beside(plan_of(text=recipe))
    statuses = {view.name: view.status for view in view_run(folder / "run")}
    assert statuses["taught"] == "done" and statuses["votes"] == "waiting"
    assert statuses["counted"] == "pending"
    (folder / "run.people" / "votes" / "answers").write_text("a\nb\nc\n")
    assert "counted: done" in beside(plan_of(text=recipe))


def test_sources_that_are_edited_meanwhile_stop_the_run(folder: Path, plan_of: PlanOf, run: Run) -> None:
    """The process has other sources than the plan: its artifact would have an id of other code."""
    plan = plan_of(text=RECIPE)
    edited = OPENED.replace(
        "main()", "from charter.runner import identity; identity._digest = lambda package: 'edited'; main()"
    )
    with pytest.raises(CharterError, match="somebody edited charter's sources during this run"):
        run(plan, crew=Jobs(2, (sys.executable, "-c", edited)))
    assert not (folder / "run" / "left").exists()


SCENE = """
import sys
from pathlib import Path
from charter import building
from conftest import ROOMS
building.ROOMS = ROOMS
from charter.terminal.bars import make_progress
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.execute import execute
from charter.runner.jobs import Jobs
from charter.runner.plan import make_plan
folder = Path(sys.argv[1])
plan = make_plan(load_recipe(folder / "recipe.yaml", []), folder, folder / "run", Execution())
try:
    execute(plan, make_progress(), crew=Jobs(2, (sys.executable, "-c", sys.argv[2])))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_or_a_kill_of_the_leader_ends_all_and_keeps_the_work(
    folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, meeting: Path, how: signal.Signals, beside: Run
) -> None:
    plan = plan_of(text=RECIPE.replace("count: 4", "count: 4, chunk: 1"))
    monkeypatch.setenv("FAULT", "meet 1 right")  # it waits there: `left` doesn't come
    leader = subprocess.Popen([sys.executable, "-c", SCENE, str(folder), OPENED])
    while not (meeting / "right").exists() or not (folder / "run" / "left").exists():
        assert leader.poll() is None
        time.sleep(0.02)
    leader.send_signal(how)
    assert leader.wait(30) == (130 if how == signal.SIGINT else -how)
    partial = folder / "run" / ".partial" / "right"
    assert read_manifest(partial).status == "started"
    saved = sorted(path.name for path in (partial / "state").iterdir())
    assert saved == ["words-00000.json"]
    monkeypatch.setenv("FAULT", "")
    assert "right (step 2 of 4): resumed" in beside(plan)


def test_modules_of_the_working_folder_are_not_loaded(tmp_path: Path) -> None:
    """With charter's own rooms, as the command line starts it."""
    prompts = '{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n'
    (tmp_path / "mine.jsonl").write_text(prompts)
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "recipe.yaml").write_text(
        "name: small\nsteps:\n"
        "  - {name: one, room: prompts, from: {unsafe: [./mine.jsonl]}, settings: {keep: unsafe, split: {part: all}}}\n"
        "  - {name: two, room: prompts, from: {benign: [./mine.jsonl]}, settings: {keep: benign, split: {part: all}}}\n"
    )
    charter = "import sys; sys.path.remove(''); from charter.cli.main import main; main()"
    command = [sys.executable, "-c", charter, "run", "recipe.yaml", "--jobs", "2"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "one: done" in process.stderr and "two: done" in process.stderr


def test_the_longest_way_to_the_end_goes_first(plan_of: PlanOf) -> None:
    steps = plan_of(text=RECIPE).steps
    minutes = {"left": 1.0, "right": 5.0, "both": 2.0, "taught": None}
    assert chains(steps, minutes) == {"left": 3.0, "right": 7.0, "both": 2.0, "taught": 0.0}
