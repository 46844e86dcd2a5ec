"""A desk for tests of the battery: one task on a scripted assistant, its data written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import toys
from charter.ground.artifact.inputs import Inputs
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.run import EVALUATIONS
from charter.rooms.benchmark.settings import DATA, Change, Settings, Task

Row = dict[str, Any]


def context(
    task: Task, folder: Path, assistant: Any, files: dict[str, list[Row]], helper: Any = None, **settings: Any
) -> Context:
    """The context of a task whose data are `files` (name of a file without its ending -> rows)."""
    data = folder / "data"
    data.mkdir(parents=True)
    for name, rows in files.items():
        toys.rows_file(data / f"{name}.jsonl", rows)
    made = Settings(tasks=(task,), **settings)
    protocol = EVALUATIONS[task].PROTOCOL.changed(made.limit, made.change.get(task, Change()))
    inputs = Inputs([toys.given(DATA[task], data, "data"), toys.given("policy", folder, "assistant")])
    out = toys.workspace(folder / "out")
    return Context(made, inputs, out, assistant, helper or assistant, task, protocol)


def kept(context: Context) -> list[Row]:
    """The rows that a task keeps."""
    module = EVALUATIONS[context.task]
    rows: list[Row] = module.rows(context, module.questions(context))
    return rows
