"""What each pretrained model records: size, text, compute, and its loss on every held-out document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.scaling import LEAST_SIZES, Ladder
from charter.ground.settings.room import Given
from charter.rooms.scaling.settings import find_difference

# manifest names of the weights that multiply every token, of the tokens learnt, and of the FLOPs
COUNTS = {"parameters": "weights", "tokens": "tokens_learnt", "compute": "compute"}
CONFIG = "config.json"
# one row per held-out document: id, nats, bytes
TEXT = "samples/text.jsonl"
Row = dict[str, Any]


def rows_of(models: Sequence[Input]) -> list[Row]:
    """One row for each model and document. Raises CharterError if no law can be fitted: with fewer than three sizes,
    without the counts or rows of the pretrain room, or with different documents or windows."""
    used = Counter(model.name for model in models)
    ladder_rows: list[Row] = []
    documents: dict[str, dict[str, int]] = {}
    for model in models:
        name = f"{model.name}@{model.id[:8]}" if used[model.name] > 1 else model.name
        rows = _rows(model, name)
        documents[name] = {row["id"]: row["bytes"] for row in rows}
        ladder_rows += rows
    first, *others = documents
    if other := next((name for name in others if documents[name] != documents[first]), None):
        raise CharterError(
            f"{first} and {other} were measured on different held-out documents; pretrain both from one corpus and "
            "with the same `heldout`"
        )
    _check_windows(models)
    _check_spread(Ladder.of(ladder_rows))
    return ladder_rows


def _rows(model: Input, name: str) -> list[Row]:
    path = model.folder / TEXT
    if not path.is_file() or not (model.folder / MANIFEST).is_file():
        raise CharterError(f"{model.name} keeps no losses of held-out text; give models that pretrain made")
    manifest = read_manifest(model.folder)
    if manifest.inputs.get("policy"):
        raise CharterError(
            f"{model.name} continued another model, whose text and compute it doesn't count; give models that "
            "pretrain made from nothing"
        )
    metrics = {metric.name: metric.value for metric in manifest.metrics}
    if missing := [name for name in COUNTS.values() if not metrics.get(name)]:
        raise CharterError(f"the manifest of {model.name} has no {', '.join(missing)}; give models that pretrain made")
    counts = {count: metrics[name] for count, name in COUNTS.items()}
    return [
        {"id": row["id"], "run": name, **counts, "nats": row["nats"], "bytes": row["bytes"]}
        for row in read_objects(path)
    ]


def _check_windows(models: Sequence[Input]) -> None:
    configs = [read_object(model.folder / CONFIG) for model in models]
    windows = [config.get("max_position_embeddings") for config in configs]
    if wrong := find_difference([Given(model.name, window) for model, window in zip(models, windows, strict=True)]):
        raise CharterError(wrong)


def _check_spread(ladder: Ladder) -> None:
    computes = {model.compute for model in ladder.models}
    if len(ladder.sizes) < LEAST_SIZES or len(computes) < LEAST_SIZES:
        raise CharterError(
            f"a law of three numbers needs at least {LEAST_SIZES} sizes that differ in compute; these "
            f"{len(ladder.models)} models have {len(ladder.sizes)}, with {len(computes)} different computes"
        )
