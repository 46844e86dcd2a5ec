"""`charter eval`: runs the evaluations of the card on one model, without a recipe."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from charter.cli.pipeline import Ray, Workers, carry_out, run_folder
from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.override import apply_overrides
from charter.ground.settings.problems import checked, suggest
from charter.ground.settings.recipe import Recipe
from charter.runner.company import Nobody
from charter.runner.directory import begun_precision
from charter.runner.fanout import fan_out
from charter.runner.plan import make_plan
from charter.terminal.launch import relaunch
from charter.terminal.options import Json
from charter.terminal.tables import console, number

STEP = "benchmark"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A step of a run (runs/demo/rl), a folder, hf:, pkg: or a server's reference.",
        ),
    ],
    tasks: Annotated[str, typer.Option("--tasks", metavar="A,B", help="Evaluations; default: all.")] = "",
    limit: Annotated[
        int,
        typer.Option("--limit", min=0, help="Questions of each, drawn at random with a fixed seed; 0: all."),
    ] = 100,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="WHERE",
            help="shipped (the small sets of the package), standard (the published sets under CHARTER_DATA), or "
            "TASK=REFERENCE, or helper=MODEL (maps free answers to options); may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run directory; default: runs/eval-MODEL.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="benchmark.FIELD=VALUE",
            help="Change a setting, such as benchmark.change.arc.shots=0; may be repeated.",
        ),
    ] = None,
    ray: Ray = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model by the card's protocols; run it again to resume a run that was stopped."""
    relaunch()
    recipe = make_recipe(model, tasks, limit, data or [], changes or [])
    folder = run_folder(recipe, out)
    plan = make_plan(recipe, Path(), folder, choose_execution(None, begun_precision(folder)))
    with fan_out(ray, workers, plan.execution, Nobody()) as others:
        carry_out(plan, None, others)
    manifest = read_manifest(plan.run / STEP)
    rows = score_rows(manifest, read_object(plan.run / STEP / "report.json"))
    if as_json:
        print(
            json.dumps(
                {"run": str(plan.run), "id": manifest.id, "scores": rows}, indent=1, ensure_ascii=False
            )
        )
        return
    from charter.ground.measure.metrics import BY_NAME

    whole = [row for row in rows if BY_NAME[row["score"]].kind != "part"]
    console().print(score_table(whole), highlight=False)
    if parts := len(rows) - len(whole):
        print(f"{parts} scores of single parts, such as a dimension of BBQ: --json")
    print(f"answers and scores are in {plan.run / STEP}")


def make_recipe(model: str, tasks: str, limit: int, data: list[str], changes: list[str]) -> Recipe:
    """The recipe of one benchmark step. Raises CharterError for an unknown task or a bad change."""
    from charter.rooms.benchmark import settings as known

    chosen = [name.strip() for name in tasks.split(",") if name.strip()] or list(known.TASKS)
    for name in chosen:
        if name not in known.TASKS:
            raise CharterError(f"there is no evaluation {name!r}; {suggest(name, known.TASKS)}")
    sources = {"policy": model} | data_sources(data, chosen, known)
    stage = re.sub(r"[^\w.-]+", "-", model).strip("-.")[-40:] or "here"  # "." is a folder, too
    settings = {"tasks": chosen, "limit": limit, "stage": stage}
    name = f"eval-{stage}".replace(".", "-")
    raw: dict[str, Any] = {
        "name": name,
        "steps": [{"name": STEP, "room": STEP, "from": sources, "settings": settings}],
    }
    return checked(Recipe, apply_overrides(raw, changes), "charter eval")


def data_sources(data: list[str], chosen: list[str], known: Any) -> dict[str, str]:
    """Role -> reference of the data that `--data` names; a role that it leaves out takes the shipped set."""
    references: dict[str, str] = {}
    roles = {known.DATA[task] for task in chosen}
    for where in data:
        task, equals, reference = where.partition("=")
        if equals and (task in known.DATA or task == "helper"):
            references[known.DATA.get(task, task)] = reference
        elif where == "standard":
            references |= {
                role: known.STANDARD[role]
                for role in roles
                if role in known.STANDARD and role not in references
            }
        elif where != "shipped":
            raise CharterError(
                f"--data {where}: write shipped, standard, or TASK=REFERENCE, as in --data mmlu=./my_mmlu; tasks are "
                f"{', '.join(known.TASKS)}"
            )
    return references


def score_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Numbers with their intervals, counts and data."""
    table = Table(box=None, pad_edge=False)
    table.add_column("score", no_wrap=True)
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("data", no_wrap=True)
    for row in rows:
        ends = " to ".join(number(end) for end in row["interval"]) if row["interval"] else "-"
        table.add_row(row["score"], number(row["value"]), ends, str(row["n"]), row["data"])
    return table


def score_rows(manifest: Manifest, report: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a number, with the data behind it."""
    from charter.ground.measure.tasks import task_of

    identity = report["identity"]
    return [
        {
            "score": metric.name,
            "value": metric.value,
            "interval": [metric.low, metric.high] if metric.low is not None else None,
            "n": metric.n,
            "data": identity[task]["data"]["ref"] if (task := task_of(metric.name, identity)) else "",
        }
        for metric in manifest.metrics
    ]
