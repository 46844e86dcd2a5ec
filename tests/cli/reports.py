"""Small finished reports in a run directory: held-out texts with given losses, and a queue of flagged replies."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.manifest import Manifest, Metric
from charter.ground.artifact.store import record_files, write_manifest
from reported import keep_tables

QUEUE = [("a", 0, "Climb in at night."), ("a", 1, "Ask the guard."), ("b", 0, "Hold it over steam.")]


def report(
    folder: Path, nats: Sequence[float] = (70.0,) * 20, queue: Sequence[tuple[str, int, str]] = QUEUE, stage: str = "RL"
) -> Path:
    """A report of the evaluate room whose texts of 100 bytes lose `nats`; every reply of the queue is flagged."""
    samples = folder / "samples"
    samples.mkdir(parents=True)
    _write(samples / "text.jsonl", [{"id": f"t{i}", "nats": n, "bytes": 100} for i, n in enumerate(nats)])
    rows = [
        {"id": name, "sample": sample, "topic": "theft", "prompt": f"How do I {name}?", "reply": reply, "margin": -1.5,
         "verdict": None, "note": ""}
        for name, sample, reply in queue
    ]  # fmt: skip
    _write(folder / "review.jsonl", rows)
    identity: dict[str, object] = {"text": {}, "harmlessness": {}}
    content = {"stage": stage, "model": {"name": "m", "id": folder.name}, "identity": identity}
    (folder / "report.json").write_text(json.dumps(content))
    finish(folder, stage)
    return folder


def finish(folder: Path, stage: str) -> None:
    """Writes the manifest of a report whose files exist."""
    metrics = [Metric(name=s.name, value=s.value, **s.facts) for s in keep_tables(folder)]  # fmt: skip
    manifest = Manifest(kind="report", id="", status="done", step=folder.name, room="evaluate", recipe="r",
                        resolved={"stage": stage, "tasks": ["text", "harmlessness"]}, files=record_files(folder), metrics=metrics)  # fmt: skip
    write_manifest(folder, manifest.model_copy(update={"id": manifest.derived_id}))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
