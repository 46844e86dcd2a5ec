"""Evaluating one model without a recipe: what `charter eval` does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution, choose_execution
from charter.ground.settings.problems import validate
from charter.ground.settings.recipe import Recipe, apply_overrides
from charter.ground.settings.sources import is_external
from charter.library.artifacts import Checkpoint, Report, artifact_of
from charter.library.models import Model
from charter.library.recipes import changes_of, checked_plan, run_folder, run_steps
from charter.runner.directory import read_precision

STEP = "evaluate"
SUITE = "battery"


def evaluate(
    model: str | os.PathLike[str] | Model | Checkpoint,
    tasks: str | Sequence[str] = SUITE,
    limit: int = 100,
    data: Sequence[str] = (),
    set: Mapping[str, object] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Report:
    """Evaluates a model by the card's protocols and returns the report; a finished report is reused.

    `model`: a reference as in `load`, a loaded Model (then its device and precision are used), or a Checkpoint.
    `tasks`: names of evaluations or suites, as a list or separated by commas. `limit`: questions of each, drawn at
    random with a fixed seed; 0: all. `data`: "shipped", "standard", "TASK=REFERENCE" or "helper=MODEL", as
    `charter eval --data` takes them. `set`: settings of the step, such as {"evaluate.change.arc.shots": 0}. `out`: the
    run directory; default: runs/eval-MODEL.

    It runs in a process of its own, which loads the model again. Raises CharterError for an unknown task, for data that
    is missing, and if the model can't be evaluated.
    """
    reference = reference_of(model)
    names = tasks if isinstance(tasks, str) else ",".join(tasks)
    recipe = make_recipe(reference, names, limit, list(data), changes_of(set))
    folder = run_folder(recipe, Path(out) if out is not None else None)
    execution = (
        Execution(model.device, model.precision)
        if isinstance(model, Model)
        else choose_execution(None, read_precision(folder))
    )
    finished = run_steps(checked_plan(recipe, Path(), folder, execution))
    return Report(finished.path / STEP, artifact_of(finished.path / STEP).manifest)


def reference_of(model: str | os.PathLike[str] | Model | Checkpoint) -> str:
    """The reference of a model, however it is given, as a recipe takes it: a place on disk begins with ./ or /."""
    if isinstance(model, Model):
        name = model.reference
    else:
        name = os.fspath(model.path if isinstance(model, Checkpoint) else model)
    return name if is_external(name) or not Path(name).exists() else f"./{name}"


def make_recipe(model: str, tasks: str, limit: int, data: list[str], changes: list[str]) -> Recipe:
    """The recipe of one evaluate step. Raises CharterError for an unknown task or a bad change."""
    names = [name.strip() for name in tasks.split(",") if name.strip()] or [SUITE]
    sources = {"policy": model} | data_sources(data, names)
    # "." is a folder, too
    stage = re.sub(r"[^\w.-]+", "-", model).strip("-.")[-40:] or "here"
    settings = {"tasks": names, "limit": limit, "stage": stage}
    name = f"eval-{stage}".replace(".", "-")
    raw: dict[str, object] = {
        "name": name,
        "steps": [{"name": STEP, "room": STEP, "from": sources, "settings": settings}],
    }
    return validate(Recipe, apply_overrides(raw, changes), "charter eval")


def data_sources(data: list[str], names: Sequence[str]) -> dict[str, str]:
    """Role -> reference of the data that was asked for; a role that is left out takes the shipped set."""
    from charter.rooms.evaluate.catalogue import TASKS, expand_suites
    from charter.rooms.evaluate.settings import ROLES

    tasks = [TASKS[name] for name in expand_suites(names)]
    sources: dict[str, str] = {}
    for choice in data:
        name, equals, reference = choice.partition("=")
        if equals and (name in TASKS or name in ROLES):
            sources[TASKS[name].data_role if name in TASKS else name] = reference
        elif choice == "standard":
            published = {task.data_role: task.standard for task in tasks if task.standard}
            sources = published | sources
        elif len(tasks) == 1 and Path(choice).exists():
            sources[tasks[0].data_role] = choice
        elif choice != "shipped":
            raise CharterError(
                f"--data {choice}: write shipped, standard, TASK=REFERENCE, as in --data mmlu=./my_mmlu, or with one "
                f"task a file that is there; tasks are {', '.join(TASKS)}"
            )
    return sources
