"""Helpers for tests of tasks: one task on a scripted assistant with data written by hand, or in the whole room."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from valid_rows import SMALL, TEXT, unshipped

import toys
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.progress import SilentProgress
from charter.ground.judge.rater import KEPT
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import Recipe
from charter.ground.settings.recognise import HARM_RATING
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.models import Models
from charter.rooms.evaluate.screening import Screening
from charter.rooms.evaluate.settings import ROLES, Settings, uses
from charter.rooms.evaluate.task import Context, Task
from charter.runner.execute import execute
from charter.runner.plan import make_plan

Row = dict[str, Any]


def context(
    task: str,
    folder: Path,
    assistant: Any,
    files: dict[str, list[Row]],
    helper: Any = None,
    grader: Any = None,
    further: Sequence[Input] = (),
    **settings: Any,
) -> Context:
    """The context of a task whose data are `files` (name of a file without its ending -> rows), with `further`
    inputs."""
    data = folder / "data"
    data.mkdir(parents=True)
    for name, rows in files.items():
        toys.rows_file(data / f"{name}.jsonl", rows)
    room_settings = Settings(tasks=(task,), **settings)
    protocol = TASKS[task].protocol.apply_change(room_settings.limit, room_settings.change_of(task))
    inputs = Inputs(
        [toys.given(TASKS[task].data_role, data, "data"), toys.given("policy", folder, "assistant"), *further]
    )
    out = toys.workspace(folder / "out")
    models = Models(inputs, out)
    models.assistant = models.policy = assistant
    models.helper = helper or assistant
    models.grader = grader
    models.examiners = [helper or assistant] * 3
    return Context(room_settings, inputs, out, models, TASKS[task], protocol, Screening(room_settings, inputs, out))


def run_task(context: Context) -> list[Row]:
    """Runs a task; returns its kept rows."""
    return context.task.rows(context, context.task.questions(context))


# Letters, words, a rating, a program: each task finds something that it can read, and much that it can't.
REPLIES = (
    "The answer is (A).",
    "Yes",
    "No, I don't know that.",
    "B",
    "3",
    "```python\ndef f(x):\n    return x\n```",
    "Two scenarios:\n1. A person asks for help.\n2. A person tells a secret.",
)
# They need no judge, and ask one if there is one.
ASK_THE_JUDGE = ("even_handedness", "rater_check", "labelled", "topic_requests", "security")
DETECTED = {"id": "e", "reply": "Six.", "text": "Six."} | dict.fromkeys(
    ("refusal", "boilerplate", "loop", "harsh"), False
)


def scripted_reply(*asked: object) -> str:
    """One of `REPLIES` by a digest of what was asked: the same request gets the same answer."""
    data = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in asked)
    return REPLIES[hashlib.sha256(data).digest()[0] % len(REPLIES)]


def short_settings(name: str, change: Mapping[str, Any] | None = None, **more: Any) -> Settings:
    """A few questions of a task, as short as its protocol allows."""
    samples = {"samples": 2} if "samples" in TASKS[name].takes else {}
    fields = {
        "limit": 2,
        "rollouts": 1,
        "change": {name: {**samples, **(change or {})}},
        "acceptable_use": {"classifiers": ("words",), "limit": 40},
        "screen": ("words",) if name == "requests" else (),
    }
    return Settings.model_validate({"tasks": (name,)} | fields | more)


def filled(
    task: Task, folder: Path, checkpoints: Path, open: Callable[[str], Input], rows: Sequence[Row] = ()
) -> Inputs:
    """All roles that a task needs: `open(role)` gives the model under test and the judge, graders are toys; data are
    `rows`, else small or valid ones, else the shipped set. The judges' and the detectors' own test sets are tiny."""
    roles = uses(short_settings(task.name)) & ROLES.keys() - {task.data_role}
    entries = [open("policy")]
    if "judge" in task.needs or task.name in ASK_THE_JUDGE:
        entries.append(open("judge"))
    if "grader" in task.needs:
        entries.append(toys.preference(checkpoints / "grader", "grader"))
    if "rater" in task.needs:
        kept = [{"id": f"k{n}", "rating": n % 2, "score": n % 2, "tokens": 2} for n in range(8)]
        rater = folder / "rater"
        if not rater.exists():
            toys.preference_folder(rater, 4, HARM_RATING)
            (rater / KEPT).parent.mkdir(parents=True, exist_ok=True)
            toys.rows_file(rater / KEPT, kept)
        entries.append(toys.given("rater", rater, "checkpoint", "rating"))
    tiny = {"fitness": toys.TRIPLES, "detectors": [DETECTED]}
    for role in sorted(roles):
        if role in tiny and task.name != "acceptable_use":
            entries.append(toys.given(role, toys.rows_file(folder / f"{role}.jsonl", tiny[role])))
        elif default := ROLES[role].default:
            entries.append(toys.given(role, shipped(default.removeprefix("shipped:")), "data"))
    data, rows = folder / "rows.jsonl", rows or SMALL.get(task.name, ())
    if task.name == "adherence_text":
        data = folder / "text.md"
        data.write_text(TEXT, "utf-8")
    elif rows or task.role.default is None:
        toys.rows_file(data, rows or unshipped(task.name))
    else:
        data = shipped(str(task.role.default).removeprefix("shipped:"))
    return Inputs([*entries, toys.given(task.data_role, data, "data")])


def execute_step(run: Path, sources: dict[str, Any], name: str = "asked", **step: Any) -> Path:
    """Runs a recipe of one report; `step`: the step's other fields. Returns the report's folder."""
    recipe = Recipe.model_validate(
        {"name": "r", "steps": [{"name": name, "room": "evaluate", "from": sources, **step}]}
    )
    execute(make_plan(recipe, run.parent, run, Execution("cpu", "float32")), SilentProgress())
    return run / name
