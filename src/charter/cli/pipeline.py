"""Commands for a whole pipeline: plan, run, show, gc."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from charter.cli.plan_tables import plan_table, plan_total, run_tree
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.environment import process_count
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.recipe import Recipe, load_recipe
from charter.runner.company import Company, company
from charter.runner.directory import read_precision
from charter.runner.execute import Crew, execute
from charter.runner.fanout import fan_out
from charter.runner.forecast import forecast, plan_records
from charter.runner.jobs import Jobs
from charter.runner.plan import Plan, make_plan
from charter.runner.show import find_run, run_records, view_run
from charter.runner.sweep import sweep
from charter.terminal.bars import make_progress
from charter.terminal.launch import relaunch
from charter.terminal.options import Device, Json, Precision
from charter.terminal.tables import console

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, or a folder with recipe.yaml.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Run directory; default: runs/<recipe name>.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STEP.FIELD=VALUE", help="Change a setting; may be repeated."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="STEP", help="Only this step and what it needs.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Let Ray's workers sample, label and evaluate: local, auto, HOST:PORT or ray://HOST:PORT.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers of Ray; default: one a core, or one a GPU.")
]
AtOnce = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", min=1, help="Steps at the same time, each in a process with its share of the cores."
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or its name below runs/.")]


def plan(
    recipe: RecipeFile,
    out: Out = None,
    changes: Changes = None,
    until: Until = None,
    device: Device = None,
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """Show which steps will run, which are reused, and what they will cost, without starting anything."""
    lines = forecast(_plan(recipe, out, changes, device, precision), until)
    if as_json:
        _print_json(plan_records(lines))
        return
    screen = console()
    screen.print(plan_table(lines))
    screen.print(plan_total(lines), highlight=False)
    for line in lines:
        waits = f"{line.planned.name} {line.standing.waiting}" if line.standing.waiting else None
        for note in (*line.standing.notes, line.standing.refusal, waits):
            if note:
                screen.print(note, highlight=False, markup=False, soft_wrap=True)


def run(
    recipe: RecipeFile,
    out: Out = None,
    changes: Changes = None,
    until: Until = None,
    device: Device = None,
    precision: Precision = None,
    ray: Ray = None,
    workers: Workers = None,
    jobs: AtOnce = 1,
    as_json: Json = False,
) -> None:
    """Run a recipe; finished steps are reused, and a stopped step resumes. If people must answer first, all other steps
    run, and the exit code is 3."""
    if jobs > 1 and (ray or process_count() > 1):
        raise CharterError(
            "--jobs runs steps side by side, and --ray and torchrun share the work on one step: leave one of them out"
        )
    relaunch(jobs)
    with company() as others:
        if not others.leads:
            others.follow()
            return
        plan = _plan(recipe, out, changes, device, precision)
        with fan_out(ray, workers, plan.execution, others) as others:
            carry_out(plan, until, others, Jobs(jobs) if jobs > 1 else None)
    for planned in plan.until(until):
        page = plan.run / planned.name / "card.html"
        if planned.room.product == "card" and page.is_file():
            print(f"the model card is {page}", file=sys.stderr)
    if as_json:
        _print_json(run_records(view_run(plan.run)))


def carry_out(
    plan: Plan, until: str | None = None, others: Company | None = None, crew: Crew | None = None
) -> None:
    """Runs a plan with progress on standard error; Ctrl-C prints that the work is kept, and exits with 130."""
    try:
        execute(plan, make_progress(), until, others, crew)
    except KeyboardInterrupt:
        print("charter: interrupted; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130) from None


def run_folder(recipe: Recipe, out: Path | None) -> Path:
    """The run directory of a recipe. Raises CharterError if it is a file."""
    folder = out if out is not None else Path("runs") / recipe.name
    if folder.exists() and not folder.is_dir():
        raise CharterError(f"--out {folder} is a file; name a folder for the run")
    return folder


def show(name: Run, as_json: Json = False) -> None:
    """Show a run as a tree: each step's status, its parents and its first metric."""
    folder = find_run(name)
    views = view_run(folder)
    if as_json:
        _print_json(run_records(views))
        return
    console().print(run_tree(str(folder), views), highlight=False)
    for view in views:
        if view.manifest is not None and view.manifest.error:
            error = view.manifest.error
            print(f"{view.name} {error}" if view.status == "waiting" else f"{view.name} failed: {error}")


def gc(
    name: Run,
    partial: Annotated[bool, typer.Option("--partial", help="Remove unfinished work.")] = False,
    superseded: Annotated[bool, typer.Option("--superseded", help="Remove replaced artifacts.")] = False,
    answers: Annotated[bool, typer.Option("--answers", help="Remove what models answered.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
) -> None:
    """Free disk in a run directory; superseded artifacts if no kind is named."""
    superseded = superseded or not (partial or answers)
    run_directory = find_run(name)
    removed = sweep(run_directory, partial=partial, superseded=superseded, answers=answers, dry_run=dry_run)
    for folder, size in removed:
        print(f"{size:>15,} bytes  {folder}")
    total = sum(size for _, size in removed)
    print(f"{total:,} bytes {'would be freed' if dry_run else 'freed'}")


def _plan(
    path: Path, out: Path | None, changes: list[str] | None, device: str | None, precision: str | None
) -> Plan:
    if path.is_dir():
        path = path / "recipe.yaml"
    recipe = load_recipe(path, changes or [])
    folder = run_folder(recipe, out)
    # machines choose differently, so unfinished work keeps its precision
    execution = choose_execution(device, precision or read_precision(folder))
    plan = make_plan(recipe, path.parent, folder, execution)
    return replace(plan, command=_command(path, changes or []))


def _command(path: Path, changes: list[str]) -> str:
    """A recipe and its overrides as they were typed. Nothing is said of what is above the current folder."""
    here = Path.cwd()
    if path.is_absolute():
        path = path.relative_to(here) if path.is_relative_to(here) else Path(path.name)
    return shlex.join([path.as_posix(), *(word for one in changes for word in ("--set", one))])


def _print_json(steps: list[dict[str, object]]) -> None:
    print(json.dumps({"steps": steps}, indent=1, ensure_ascii=False))
