"""Planning and running recipes: what `charter plan` and `charter run` do."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution, choose_execution
from charter.ground.settings.problems import validate
from charter.ground.settings.recipe import Recipe, apply_overrides, load_recipe
from charter.library.rows import Rows, html_table
from charter.library.runs import Run
from charter.runner.directory import read_precision
from charter.runner.execute import execute
from charter.runner.forecast import Forecast, Totals, forecast, plan_records, totals
from charter.runner.jobs import Jobs
from charter.runner.names import RUNS, find_recipe
from charter.runner.pace import spell_minutes
from charter.runner.plan import Plan as StepPlan
from charter.runner.plan import make_plan
from charter.terminal.bars import make_progress
from charter.terminal.launch import settings

# A recipe's file or name, a folder with recipe.yaml, or a recipe's content.
AnyRecipe = str | os.PathLike[str] | Mapping[str, object]


@dataclass(frozen=True)
class Plan:
    """What a recipe will do, before anything starts. `path`: the run directory, which need not exist yet."""

    path: Path
    lines: tuple[Forecast, ...]

    @property
    def steps(self) -> Rows:
        """One row a step in the order in which they run: name, room, kind, id, path, status ("run", "reused", "resume"
        or "waiting"), and its estimated minutes, memory_gib and disk_gib; None without an estimate."""
        records = plan_records(list(self.lines))
        return Rows({k: v for k, v in record.items() if k != "metrics"} for record in records)

    @property
    def reused(self) -> list[str]:
        """Names of the finished steps, which won't run again."""
        return [line.planned.name for line in self.lines if line.status == "reused"]

    @property
    def minutes(self) -> float | None:
        """Estimated minutes of the steps that will run, together; None if none has an estimate."""
        return self._totals.minutes

    @property
    def memory_gib(self) -> float | None:
        """The largest estimate of a step's memory, in GiB."""
        return self._totals.memory_gib

    @property
    def disk_gib(self) -> float | None:
        """Estimated disk of the steps that will run, together, in GiB."""
        return self._totals.disk_gib

    @property
    def _totals(self) -> Totals:
        return totals(self.lines)

    def __repr__(self) -> str:
        cost = [spell_minutes(self.minutes)] if self.minutes is not None else []
        cost += [f"{self.memory_gib:.1f} GiB of memory"] if self.memory_gib is not None else []
        to_run = len(self.lines) - len(self.reused)
        return f"<Plan {', '.join([f'{self.path}: {to_run} of {len(self.lines)} steps to run', *cost])}>"

    def _repr_html_(self) -> str:
        columns = ("name", "room", "kind", "status", "minutes", "memory_gib", "disk_gib")
        return html_table(repr(self)[1:-1], columns, [[row[c] for c in columns] for row in self.steps])


def plan(
    recipe: AnyRecipe,
    set: Mapping[str, object] | None = None,
    out: str | os.PathLike[str] | None = None,
    until: str | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Plan:
    """Checks a recipe and says what will run, what is reused, and what it costs; nothing starts, nothing is written.

    Arguments are those of `run`. Raises CharterError, one line, for the first thing that is wrong with the recipe, its
    files, the device or the precision.
    """
    step_plan = plan_steps(recipe, changes_of(set), out, device, precision)
    return Plan(step_plan.run, tuple(forecast(step_plan, until)))


def run(
    recipe: AnyRecipe,
    set: Mapping[str, object] | None = None,
    out: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    until: str | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Run:
    """Runs a recipe: finished steps are reused, and a stopped step resumes. Progress goes to standard error.

    `recipe`: a YAML file, a folder with recipe.yaml, or the content as a dict, whose relative paths start at the
    current folder. `set`: settings to change, such as {"rl.steps": 20}. `out`: the run directory; default:
    runs/<recipe name>. `jobs`: steps at the same time. `until`: only this step and what it needs. `device`,
    `precision`: as in `load`.

    Steps run in processes of their own, which share the cores and give their memory back. An interrupt keeps all work
    for the next call. Raises CharterError as `plan` does, and with the reason if a step fails or waits for people;
    finished steps are kept.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise CharterError(f"jobs is {jobs!r}; expected a whole number from 1")
    return run_steps(plan_steps(recipe, changes_of(set), out, device, precision), until, jobs)


def run_steps(step_plan: StepPlan, until: str | None = None, jobs: int = 1) -> Run:
    """Runs planned steps in processes of their own."""
    with _shared_cores(jobs):
        execute(step_plan, make_progress(), until, crew=Jobs(jobs))
    return Run(step_plan.run)


def plan_steps(
    recipe: AnyRecipe,
    changes: Sequence[str],
    out: str | os.PathLike[str] | None,
    device: str | None,
    precision: str | None,
) -> StepPlan:
    """The steps of a recipe with `changes` in the words of `--set`. Unfinished work keeps its precision, because
    machines choose differently."""
    if isinstance(recipe, Mapping):
        folder, command = Path(), ""
        checked = validate(Recipe, apply_overrides(dict(recipe), list(changes)), "the recipe")
    else:
        path = find_recipe(os.fspath(recipe))
        folder, checked = path.parent, load_recipe(path, changes)
        command = spell_command(path, changes)
    place = run_folder(checked, Path(out) if out is not None else None)
    execution = choose_execution(device, precision or read_precision(place))
    return replace(checked_plan(checked, folder, place, execution), command=command)


def spell_command(path: Path, changes: Sequence[str]) -> str:
    """A recipe and its overrides as they are typed. Nothing is said of what is above the current folder."""
    folder = Path.cwd()
    if path.is_absolute():
        path = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return shlex.join([path.as_posix(), *(word for change in changes for word in ("--set", change))])


def checked_plan(recipe: Recipe, folder: Path, run: Path, execution: Execution) -> StepPlan:
    """The steps of a recipe that lies in `folder`, after every row on this disk was read; notes are on these rows.

    Raises CharterError as `make_plan` does, and for broken rows, which are named together.
    """
    from charter.runner.local_rows import check_local_rows

    steps = make_plan(recipe, folder, run, execution)
    return replace(steps, notes=check_local_rows(steps.steps))


def run_folder(recipe: Recipe, out: Path | None) -> Path:
    """The run directory of a recipe. Raises CharterError if it is a file."""
    folder = out if out is not None else RUNS / recipe.name
    if folder.exists() and not folder.is_dir():
        raise CharterError(f"--out {folder} is a file; name a folder for the run")
    return folder


def changes_of(settings: Mapping[str, object] | None) -> list[str]:
    """Changed settings in the words of `--set`. Raises CharterError for a value that a recipe can't hold."""
    try:
        return [f"{name}={json.dumps(value, default=os.fspath)}" for name, value in (settings or {}).items()]
    except (TypeError, ValueError) as error:
        raise CharterError(
            f"set: {error}; expected numbers, texts, true or false, and lists and dicts of these"
        ) from None


@contextmanager
def _shared_cores(jobs: int) -> Iterator[None]:
    """The environment that `charter run` starts its processes with, for as long as the run lasts; variables that the
    user has set stay."""
    missing = {name: value for name, value in settings(jobs).items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
