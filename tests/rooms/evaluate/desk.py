"""Helpers for tests of tasks: one task on a scripted assistant, with data written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import toys
from charter.ground.artifact.inputs import Input, Inputs
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.models import Models
from charter.rooms.evaluate.screening import Screening
from charter.rooms.evaluate.settings import Settings
from charter.rooms.evaluate.task import Context

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
        [
            toys.given(TASKS[task].data_role, data, "data"),
            toys.given("policy", folder, "assistant"),
            *further,
        ]
    )
    out = toys.workspace(folder / "out")
    models = Models(inputs, out)
    models.assistant = models.policy = assistant
    models.helper = helper or assistant
    models.grader = grader
    models.examiners = [helper or assistant] * 3
    return Context(
        room_settings, inputs, out, models, TASKS[task], protocol, Screening(room_settings, inputs, out)
    )


def run_task(context: Context) -> list[Row]:
    """Runs a task; returns its kept rows."""
    return context.task.rows(context, context.task.questions(context))
