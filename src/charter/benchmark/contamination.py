"""Contamination: which questions stand, by 13-gram overlap, in what the model was taught on its way here.

Looked through are all Corpus, Dialogues and Comparisons artifacts in the lineage of the model, and the outside sources
of rows and texts that its steps learnt from; prompts alone are learnt from as well. What the start model was
pretrained on, nobody here knows, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from charter.benchmark.question import Question
from charter.benchmark.settings import Task
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.lineage import run_of, walk
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.settings.sources import resolve_again
from charter.ground.text.columns import raw_rows
from charter.ground.text.overlap import SIZE, Items

LEARNT = frozenset({"corpus", "dialogues", "comparisons"})
# Roles whose outside sources measure or steer and are never learnt from.
MEASURING = frozenset(
    {"policy", "reward", "grader", "rater", "baseline", "constitution", "fitness", "detectors"}
)


def contamination(policy: Input, drawn: Mapping[Task, Sequence[Question]], out: Workspace) -> dict[str, Any]:
    """What report.json says, by task; the rows behind it are kept as samples/contamination.jsonl.

    A model without a lineage (no manifest) has no sources to look through: no task is named then.
    """
    sources = list(_sources(policy))
    if not sources:
        return {}
    items = Items({f"{task}|{q.id}": f"{q.passage} {q.text}" for task, found in drawn.items() for q in found})
    hits: dict[str, list[str]] = {}
    with out.progress("contamination", len(sources)) as bar:
        for name, files in sources:
            for item in items.hit_by(text for path in files for text in _texts(path)):
                hits.setdefault(item, []).append(name)
            bar.advance()
    rows = [
        {
            "id": question.cluster or question.id,
            "item": question.id,
            "task": task,
            "checked": f"{task}|{question.id}" not in items.unchecked,
            "hit": f"{task}|{question.id}" in hits,
            "where": hits.get(f"{task}|{question.id}", []),
        }
        for task, found in drawn.items()
        for question in found
    ]
    out.write_jsonl("samples/contamination.jsonl", rows)
    return {"size": SIZE, "sources": [name for name, _ in sources]}


def _sources(policy: Input) -> Iterator[tuple[str, list[Path]]]:
    """(name, files) of everything learnt from; each once."""
    if policy.path is None or not (policy.path / MANIFEST).is_file():
        return
    seen: set[str] = set()
    for manifest, folder in walk(policy.path):
        if manifest.kind in LEARNT and manifest.id not in seen:
            seen.add(manifest.id)
            yield manifest.step, _row_files(folder)
        yield from _outside(manifest, folder, seen)


def _outside(manifest: Manifest, folder: Path, seen: set[str]) -> Iterator[tuple[str, list[Path]]]:
    for source in manifest.external:
        if source.digest in seen or source.role in MEASURING or source.role.startswith("heldout"):
            continue
        seen.add(source.digest)
        path = resolve_again(source, run_of(folder)).path
        if path is None or (path / "config.json").is_file():
            continue
        if path.is_dir() or path.name.endswith(ROW_ENDINGS):
            yield source.ref, _row_files(path) if path.is_dir() else [path]


def _row_files(folder: Path) -> list[Path]:
    """The files of rows at the top of an artifact or a folder; kept samples of held-out rows lie below."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(ROW_ENDINGS))


def _texts(path: Path) -> Iterator[str]:
    """Every text of a file's rows, however deep; a file that isn't rows is skipped."""
    try:
        for _, row in raw_rows(path):
            yield from _strings(row)
    except CharterError:
        return


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
