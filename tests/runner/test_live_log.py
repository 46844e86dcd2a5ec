"""Live curves: what steps log goes to CSV, TensorBoard or Weights & Biases, and a failing writer stops no run."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter.runner import live_log
from charter.runner.live_log import Target, follow_logs, open_writer
from charter.runner.plan import Plan

PlanOf = Callable[..., Plan]
ROWS = [{"step": 0, "loss": 2.5, "lr": 1, "note": "words", "good": True}, {"step": 1, "loss": float("nan"), "kl": 0.5}]
Calls = list[tuple[Any, ...]]


def write_log(run: Path, plan: Plan, name: str, rows: list[dict[str, Any]], torn: str = "") -> Path:
    """A log of a step that is being made, as the runner and a room leave it."""
    folder = run / ".partial" / name
    (folder / "files").mkdir(parents=True, exist_ok=True)
    identity = next(step.id for step in plan.steps if step.name == name)
    manifest = {
        "format": 1,
        "kind": "checkpoint",
        "id": identity,
        "status": "started",
        "step": name,
        "room": "model",
        "recipe": "r",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "files" / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)
    return folder


class Kept:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.rows: Calls = []

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((name, step, dict(values)))

    def close(self) -> None:
        self.rows.append(("closed",))


def test_the_numbers_of_each_whole_line_are_sent_once(
    plan_of: PlanOf, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_log, "EVERY", 0.01)
    plan, kept = plan_of(), Kept()
    with follow_logs(plan.run, plan.steps, kept, print):
        write_log(plan.run, plan, "taught", ROWS[:1], torn='{"step": 1')
        while not kept.rows:
            pass
        write_log(plan.run, plan, "taught", [])  # a resume cuts the log, and writes equal lines again
        write_log(plan.run, plan, "taught", ROWS)
    assert kept.rows == [("taught", 0, {"loss": 2.5, "lr": 1.0}), ("taught", 1, {"kl": 0.5}), ("closed",)]


def test_finished_steps_and_work_under_other_settings_are_left_out(
    plan_of: PlanOf, folder: Path, run: Callable[..., list[str]]
) -> None:
    run(plan_of())
    other, kept = plan_of("taught.lr=2e-3"), Kept()
    write_log(other.run, other, "taught", ROWS)
    plan = plan_of()  # of which all is done, and whose partial work is another's
    with follow_logs(plan.run, plan.steps, kept, print):
        pass
    assert kept.rows == [("closed",)]


def test_csv_has_a_file_a_step_and_its_last_lines_come_from_the_artifact(plan_of: PlanOf, folder: Path) -> None:
    plan = plan_of()
    for _ in range(2):  # the second time begins anew
        with follow_logs(plan.run, plan.steps, open_writer(Target.csv, plan.run), print):
            partial = write_log(plan.run, plan, "taught", ROWS)
    partial.rename(plan.run / "taught")
    (plan.run / "taught" / "files" / "log.jsonl").rename(plan.run / "taught" / "log.jsonl")
    with (folder / "run.logs" / "csv" / "taught.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["step", "metric", "value"],
            ["0", "loss", "2.5"],
            ["0", "lr", "1.0"],
            ["1", "kl", "0.5"],
        ]


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **names: Any) -> None:
    package = ModuleType(module)
    vars(package).update(names)
    monkeypatch.setitem(sys.modules, module, package)


def test_tensorboard_gets_scalars_by_step(plan_of: PlanOf, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []

    class SummaryWriter:
        def __init__(self, log_dir: str) -> None:
            calls.append(("open", Path(log_dir).relative_to(folder).as_posix()))

        def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
            calls.append((tag, scalar_value, global_step))

        def flush(self) -> None:
            calls.append(("flush",))

        def close(self) -> None:
            calls.append(("close",))

    stand_in(monkeypatch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    plan = plan_of()
    with follow_logs(plan.run, plan.steps, open_writer(Target.tensorboard, plan.run), print):
        write_log(plan.run, plan, "taught", ROWS)
    assert [call for call in calls if call != ("flush",)] == [
        ("open", "run.logs/tensorboard/taught"),
        ("loss", 2.5, 0),
        ("lr", 1.0, 0),
        ("kl", 0.5, 1),
        ("close",),
    ]


def test_wandb_gets_an_axis_a_step(plan_of: PlanOf, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []

    class Run:
        def define_metric(self, name: str, step_metric: str | None = None) -> None:
            calls.append(("define", name, step_metric))

        def log(self, data: dict[str, float]) -> None:
            calls.append(("log", data))

        def finish(self) -> None:
            calls.append(("finish",))

    def init(project: str, name: str, dir: str) -> Run:
        calls.append(("init", project, name, Path(dir).name))
        return Run()

    stand_in(monkeypatch, "wandb", init=init)
    plan = plan_of()
    with follow_logs(plan.run, plan.steps, open_writer(Target.wandb, plan.run), print):
        write_log(plan.run, plan, "taught", ROWS)
    assert calls == [
        ("init", "charter", "run", "wandb"),
        ("define", "taught/step", None),
        ("define", "taught/*", "taught/step"),
        ("log", {"taught/step": 0, "taught/loss": 2.5, "taught/lr": 1.0}),
        ("log", {"taught/step": 1, "taught/kl": 0.5}),
        ("finish",),
    ]


@pytest.mark.parametrize(
    ("target", "module"), [(Target.tensorboard, "torch.utils.tensorboard"), (Target.wandb, "wandb")]
)
def test_a_missing_package_is_named_before_anything_starts(
    target: Target, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    with pytest.raises(CharterError, match=f"--log {target} needs the package {target}: pip install {target}"):
        open_writer(target, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_writer_that_fails_is_noted_once_and_the_run_goes_on(plan_of: PlanOf, folder: Path) -> None:
    class Broken(Kept):
        def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
            raise OSError("the disk is full")

    plan, notes = plan_of(), list[str]()
    with follow_logs(plan.run, plan.steps, Broken(), notes.append):
        write_log(plan.run, plan, "taught", ROWS)
    assert notes == ["live curves stopped (OSError: the disk is full); the run goes on"]
