"""`charter eval`: runs the evaluations of the card on one model, without a recipe."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from charter.cli.completion import complete_tasks
from charter.cli.pipeline import Ray, Workers, carry_out
from charter.cli.versions import ARROWS
from charter.ground.artifact.curves import read_object
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import choose_execution
from charter.library.evaluating import STEP, make_recipe
from charter.library.recipes import checked_plan, run_folder
from charter.runner.company import Nobody
from charter.runner.directory import read_precision
from charter.runner.fanout import fan_out
from charter.runner.models import recipe_reference
from charter.runner.names import complete_model
from charter.terminal.launch import relaunch
from charter.terminal.options import Json, Threads
from charter.terminal.tables import console

if TYPE_CHECKING:
    from charter.ground.measure.metric import Metric as Declared


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A step (demo/threshold), a folder, hf:, pkg: or a server's reference.",
            autocompletion=complete_model,
        ),
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks", metavar="A,B", help="Evaluations or suites; default: battery.", autocompletion=complete_tasks
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Questions of each, drawn at random with a fixed seed; 0: all.")
    ] = 100,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="WHERE",
            help="shipped (the small sets of the package), standard (the published sets under CHARTER_DATA), "
            "TASK=REFERENCE, a FILE of the only task, or helper=MODEL (maps free answers to options); may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run directory; default: runs/eval-MODEL.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="evaluate.FIELD=VALUE",
            help="Change a setting, such as evaluate.change.arc.shots=0; may be repeated.",
        ),
    ] = None,
    ray: Ray = None,
    workers: Workers = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model by the card's protocols; run it again to resume a run that was stopped."""
    relaunch(threads=threads)
    recipe = make_recipe(recipe_reference(model), tasks, limit, data or [], changes or [])
    folder = run_folder(recipe, out)
    plan = checked_plan(recipe, Path(), folder, choose_execution(None, read_precision(folder)))
    with fan_out(ray, workers, plan.execution, Nobody()) as others:
        carry_out(plan, None, others)
    show(plan.run, as_json)


def show(run: Path, as_json: bool) -> None:
    """Prints the scores of a finished report."""
    from charter.ground.measure.reporting import read_reported

    report = run / STEP
    manifest, declared = read_manifest(report), read_reported(report).metrics
    facts = read_object(report / "report.json")
    rows = score_rows(manifest, declared, facts)
    if as_json:
        kinds = {name: facts[name]["kinds"] for name in facts["identity"] if "kinds" in (facts.get(name) or {})}
        scores = {"run": str(run), "id": manifest.id, "scores": rows, "kinds": kinds}
        print(json.dumps(scores, indent=1, ensure_ascii=False))
        return
    rows_of_wholes = [row for row in rows if declared[row["score"]].kind != "part"]
    console().print(score_table(rows_of_wholes), highlight=False)
    parts = len(rows) - len(rows_of_wholes)
    more = f", and {parts} scores of single parts, such as a dimension of BBQ" if parts else ""
    print(f"the names that other commands take{more}: --json")
    print(f"answers and scores are in {report}")


def score_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Numbers with their intervals, counts and data, labelled as `charter compare` does."""
    from charter.ground.reports.number import figure

    table = Table(box=None, pad_edge=False)
    table.add_column("score", no_wrap=True)
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("data", no_wrap=True)
    for row in rows:
        unit = row["unit"] or ""
        ends = " to ".join(figure(end, unit, bare=True) for end in row["interval"] or ()) or "-"
        name = row["label"] + ARROWS.get(row["better"], "")
        table.add_row(name, figure(row["value"], unit), ends, str(row["n"]), row["data"])
    return table


def score_rows(manifest: Manifest, declared: "Mapping[str, Declared]", report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a number, with the data that gave it."""
    return [
        {
            "score": metric.name,
            "label": declared[metric.name].label,
            "unit": declared[metric.name].unit,
            "better": declared[metric.name].better,
            "value": metric.value,
            "interval": [metric.low, metric.high] if metric.low is not None else None,
            "n": metric.n,
            "data": _references(report["identity"].get(declared[metric.name].task) or {}),
        }
        for metric in manifest.metrics
        if metric.name in declared
    ]


def _references(identity: Mapping[str, Any]) -> str:
    """The data of a task."""
    data = identity.get("data") or []
    return ", ".join(str(entry["ref"]) for entry in (data if isinstance(data, list) else [data]))
