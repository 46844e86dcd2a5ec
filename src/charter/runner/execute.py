"""Runs a plan: its steps in order, or in parallel."""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import atomic_write
from charter.ground.settings.environment import environment_of
from charter.runner.company import Company, Nobody
from charter.runner.directory import RunDirectory, refuse_start
from charter.runner.forecast import expected_minutes
from charter.runner.identity import answers_name
from charter.runner.pace import Pace
from charter.runner.plan import Plan, PlannedStep, own_parents
from charter.runner.step_runner import Runner, disk_errors


class Crew(Protocol):
    """Processes that run steps in parallel."""

    @property
    def size(self) -> int:
        """The number of processes."""
        ...

    def run(
        self, runner: Runner, steps: Sequence[PlannedStep], minutes: Mapping[str, float | None]
    ) -> dict[str, str | None]:
        """Runs all steps, as `in_turn` does; `minutes`: the estimate of each."""
        ...


def execute(
    plan: Plan, progress: Progress, until: str | None = None, company: Company | None = None, crew: Crew | None = None
) -> None:
    """Runs all steps of a plan (or those that `until` needs) in the plan's run directory: in this process, which leads
    its company, or in parallel in the processes of a crew.

    Raises CharterError with one line: a directory in use, a resume under another environment, a full or read-only disk,
    or what a room refuses. Finished artifacts stay, and unfinished work can resume. If a step waits for people, the
    steps that don't need it still run, and Waiting is raised at the end.
    """
    steps = plan.until(until)
    directory = RunDirectory(plan.run)
    minutes = expected_minutes(plan, until)
    pace = Pace(minutes, crew.size if crew else 1)
    environment = environment_of(plan.execution)
    with disk_errors(plan.run), directory.lock():
        cache = directory.cache(answers_name(environment))
        runner = Runner(
            plan.recipe.name, directory, environment, progress, pace, cache, company or Nobody(), plan.command
        )
        write_run_file(plan, directory)
        # checked before the first step runs; a finished step needs nothing
        for planned in steps:
            refusal = refuse_start(planned, environment)
            if refusal and directory.look(planned, environment).refusal == refusal:
                raise CharterError(refusal)
        blocked = crew.run(runner, steps, minutes) if crew else in_turn(runner, steps)
    if blocked:
        raise Waiting("; ".join(line for line in blocked.values() if line))


def in_turn(runner: Runner, steps: Sequence[PlannedStep]) -> dict[str, str | None]:
    """Runs steps one after the other. Returns the steps that wait with what they wait for, and the steps that need them
    with None."""
    blocked: dict[str, str | None] = {}
    for number, planned in enumerate(steps, 1):
        if own_parents(planned) & blocked.keys():
            blocked[planned.name] = None
            runner.pace.skip(planned.name)
            continue
        try:
            runner.run(planned, f"step {number} of {len(steps)}")
        except Waiting as waiting:
            blocked[planned.name] = runner.hold(planned, waiting)
    return blocked


def write_run_file(plan: Plan, directory: RunDirectory) -> None:
    """Writes run.json: the resolved recipe, the order and the ids of its steps."""
    recipe = plan.recipe.model_dump(mode="json", by_alias=True)
    for entry in recipe["steps"]:
        entry["settings"] = next(p.resolved for p in plan.steps if p.name == entry["name"])
    steps = [
        {
            "name": planned.name,
            "room": planned.room.name,
            "kind": planned.room.product,
            "variant": planned.room.variant,
            "id": planned.id,
            "parents": [[parent.role, parent.step] for parent in planned.parents if parent.path == parent.step],
        }
        for planned in plan.steps
    ]
    content = {
        "format": 1,
        "recipe": recipe,
        "execution": {"device": plan.execution.device, "precision": plan.execution.precision},
        "order": [planned.name for planned in plan.steps],
        "steps": steps,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if not directory.run_file.exists() or directory.run_file.read_text("utf-8") != text:
        atomic_write(directory.run_file, text)
