"""Commands for a whole pipeline: plan, run, show, gc."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from charter.cli.completion import complete_setting, complete_step
from charter.cli.run_lines import plan_table, plan_total, run_lines, run_tree, spell_metric
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.environment import process_count
from charter.library.recipes import plan_steps
from charter.runner.company import Company, company
from charter.runner.execute import Crew, execute
from charter.runner.fanout import fan_out
from charter.runner.forecast import forecast, plan_records
from charter.runner.jobs import Jobs
from charter.runner.live_log import Target, follow_logs, open_writer
from charter.runner.machine import is_busy, read_speed
from charter.runner.names import complete_product, complete_recipe, complete_run, find_run, find_step
from charter.runner.plan import Plan
from charter.runner.show import run_records, view_run
from charter.runner.step_runner import sweep
from charter.terminal.bars import make_progress
from charter.terminal.launch import relaunch
from charter.terminal.options import Device, Json, Precision, Threads
from charter.terminal.tables import console

RecipeFile = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe, a folder with recipe.yaml, or a name below recipes/.",
        autocompletion=complete_recipe,
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run directory; default: runs/<recipe name>.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="STEP.FIELD=VALUE", help="Change a setting; may be repeated.", autocompletion=complete_setting
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="STEP", help="Only this step and what it needs.", autocompletion=complete_step),
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
    typer.Option("--jobs", "-j", min=1, help="Steps at the same time, each in a process with its share of the cores."),
]
Log = Annotated[
    Target | None,
    typer.Option("--log", metavar="TO", help="Live curves: csv, tensorboard or wandb (these two need their package)."),
]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, or its name below runs/.", autocompletion=complete_run)
]

RunOrStep = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run (demo), or a step of one (demo/threshold).", autocompletion=complete_product
    ),
]


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
    planned_run = plan_steps(recipe, changes or [], out, device, precision)
    lines = forecast(planned_run, until)
    if as_json:
        _print_json(plan_records(lines))
        return
    screen = console()
    screen.print(plan_table(lines))
    screen.print(plan_total(lines), highlight=False)
    if planned_run.execution.device == "cpu" and read_speed() is None:
        screen.print("minutes are those of our reference machine; charter doctor measures this one", style="dim")
    if planned_run.execution.device == "cpu" and is_busy():
        screen.print("this machine is busy now: a run takes longer until other programs end", style="dim")
    for remark in planned_run.notes:
        screen.print(f"note: {remark}", highlight=False, markup=False, soft_wrap=True)
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
    threads: Threads = None,
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Run a recipe; finished steps are reused, and a stopped step resumes. If people must answer first, all other steps
    run, and the exit code is 3."""
    from charter.runner.summary import summarise

    if jobs > 1 and (ray or process_count() > 1):
        raise CharterError(
            "--jobs runs steps side by side, and --ray and torchrun share the work on one step: leave one of them out"
        )
    relaunch(jobs, threads)
    began = time.monotonic()
    with company() as others:
        if not others.leads:
            others.follow()
            return
        plan = plan_steps(recipe, changes or [], out, device, precision)
        curves = open_writer(log, plan.run) if log is not None else None
        with (
            fan_out(ray, workers, plan.execution, others) as others,
            follow_logs(plan.run, plan.until(until), curves, lambda text: print(text, file=sys.stderr)),
        ):
            carry_out(plan, until, others, Jobs(jobs) if jobs > 1 else None)
    views = view_run(plan.run)
    for line in run_lines(summarise(plan.run, views), time.monotonic() - began):
        print(line, file=sys.stderr)
    if as_json:
        _print_json(run_records(views))


def carry_out(plan: Plan, until: str | None = None, others: Company | None = None, crew: Crew | None = None) -> None:
    """Runs a plan with progress on standard error; Ctrl-C prints that the work is kept, and exits with 130."""
    progress = make_progress()
    for note in plan.notes:
        progress.note(f"note: {note}")
    try:
        execute(plan, progress, until, others, crew)
    except KeyboardInterrupt:
        print("charter: interrupted; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130) from None


def show(name: RunOrStep, as_json: Json = False) -> None:
    """Show what a run came to, then its steps as a tree: status, time, parents, and one metric of each. Of a step,
    show all metrics."""
    from charter.runner.summary import summarise

    folder, step = find_step(name)
    views = [view for view in view_run(folder) if step in ("", view.name)]
    if as_json:
        _print_json(run_records(views))
        return
    screen = console()
    summary = summarise(folder, view_run(folder))
    for line in () if step else run_lines(summary):
        screen.print(line, highlight=False, markup=False, no_wrap=True, overflow="ellipsis")
    screen.print(run_tree(str(folder), views, summary.unfit), highlight=False)
    for metric in views[0].metrics if step else ():
        print(f"  {spell_metric(metric)}")
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


def _print_json(steps: list[dict[str, object]]) -> None:
    print(json.dumps({"steps": steps}, indent=1, ensure_ascii=False))
