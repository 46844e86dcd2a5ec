"""`charter runs`: the runs below runs/, each with its status, its finished steps, its last change and its size."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import folder_bytes
from charter.runner.directory import PARTIAL, RunDirectory
from charter.runner.names import RUN_FILE, RUNS, list_runs
from charter.runner.show import view_run
from charter.terminal.options import Json
from charter.terminal.tables import console, plain_table

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of the runs.")] = RUNS,
    as_json: Json = False,
) -> None:
    """List the runs here, the newest first: status, steps done, last change and size."""
    rows = sorted(map(describe_run, list_runs(folder)), key=lambda row: str(row["changed"]), reverse=True)
    if as_json:
        print(json.dumps({"runs": rows}, indent=1, ensure_ascii=False))
        return
    if not rows:
        print(f"there are no runs in {folder}; charter run RECIPE makes one")
        return
    table = plain_table(("run", "status"), ("steps done", "last change", "size"))
    for row in rows:
        when = datetime.fromisoformat(row["changed"]).astimezone()
        progress = f"{row['done']} of {row['steps']}" if row["steps"] else "-"
        table.add_row(row["name"], row["status"], progress, f"{when:%Y-%m-%d %H:%M}", spell_bytes(row["bytes"]))
    console().print(table, highlight=False, markup=False)


def describe_run(run: Path) -> dict[str, Any]:
    """A run as JSON. Its status: running, or what `status_of` says; "unreadable" if run.json is broken. `changed` is
    the time of its last change of a step, in ISO form (UTC)."""
    try:
        steps = [view.status for view in view_run(run)]
    except CharterError:
        steps = []
    files = [run / RUN_FILE, *run.glob(f"*/{MANIFEST}"), *run.glob(f"{PARTIAL}/*/{MANIFEST}")]
    changed = max(file.stat().st_mtime for file in files if file.is_file())
    status = "running" if RunDirectory(run).in_use() else status_of(steps)
    return {
        "name": run.name,
        "path": str(run),
        "status": status,
        "steps": len(steps),
        "done": steps.count("done"),
        "changed": datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
        "bytes": folder_bytes(run),
    }


def status_of(steps: list[str]) -> str:
    """The status of a run that no process writes, by its steps': one that failed or waits for people comes first."""
    if not steps:
        return "unreadable"
    for status in ("failed", "waiting"):
        if status in steps:
            return status
    return "done" if set(steps) == {"done"} else "unfinished"


def spell_bytes(size: int) -> str:
    """'2.6 GiB': one decimal from KiB on."""
    power = min(max(size.bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return f"{size / 1024**power:.1f} {UNITS[power]}" if power else f"{size} B"
