"""Contamination: which questions occur, by 13-gram overlap, in the model's training data.

The check reads all Corpus, Dialogues and Comparisons artifacts in the lineage of the model, and the outside sources of
rows and texts that its steps learnt from, prompts included. The report names sources that are gone or have changed as
`missing`. Nobody here knows what the start model was pretrained on, and the card says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.lineage import run_of, walk
from charter.ground.artifact.manifest import MANIFEST, External, Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.hub import fetch
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.settings.sources import resolve_again
from charter.ground.text.corpus_index import INDEX
from charter.ground.text.overlap import SIZE, Items, texts_of
from charter.ground.text.shards import train_texts
from charter.rooms.evaluate.task import CONTAMINATION, Question

LEARNT = frozenset({"corpus", "dialogues", "comparisons"})
# Roles that no step learns from: their outside sources are models, or measure or steer.
MEASURING = frozenset(
    {
        *("policy", "reward", "grader", "rater", "start", "critic", "labeller", "teacher"),
        *("baseline", "constitution", "fitness", "detectors"),
    }
)


def check_questions(task: str, questions: Sequence[object]) -> None:
    """Refuses a set without questions, or with one id twice. Raises CharterError."""
    if not questions:
        raise CharterError(f"{task}: its data holds no usable question; name another set")
    ids: set[str] = set()
    for question in questions:
        if not isinstance(question, Question):
            return
        if question.id in ids:
            raise CharterError(f"{task}: two questions have the id {question.id!r}; give each its own")
        ids.add(question.id)


def contamination(policy: Input, by_task: Mapping[str, Sequence[object]], out: Workspace) -> dict[str, Any]:
    """What report.json says of contamination; its rows go to samples/contamination.jsonl.

    A model without a lineage (no manifest) has no sources to search: the result is then empty.
    """
    searchable = {task: list(filter(None, map(_searched, questions))) for task, questions in by_task.items()}
    searchable = {task: questions for task, questions in searchable.items() if questions}
    everything = list(_sources(policy))
    if not everything:
        return {}
    sources = [(name, files) for name, files in everything if files is not None]
    missing = [name for name, files in everything if files is None]
    if missing:
        out.note(f"contamination: {', '.join(missing)} can't be searched; the report names it as missing")
    summary = {"size": SIZE, "sources": [name for name, _ in sources], "missing": missing}
    if not sources:
        # a share of 0 would say that the check searched something
        return summary
    items = Items(
        {f"{task}|{q.id}": f"{q.passage} {q.text}" for task, questions in searchable.items() for q in questions}
    )
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
        for task, questions in searchable.items()
        for question in questions
    ]
    out.write_jsonl(f"samples/{CONTAMINATION}", rows)
    return summary


def _searched(question: object) -> Question | None:
    """What is searched for: a question, or the question behind a request; None of other kinds."""
    behind = getattr(question, "question", question)
    return behind if isinstance(behind, Question) else None


def _sources(policy: Input) -> Iterator[tuple[str, list[Path] | None]]:
    """(name, files) of every source that the model learnt from, each once; files are None if they are gone."""
    if policy.path is None or not (policy.path / MANIFEST).is_file():
        return
    try:
        line = walk(policy.path)
    except CharterError:
        yield f"what {policy.name} was made of", None
        line = [(read_manifest(policy.path), policy.path)]
    digests: set[str] = set()
    for manifest, folder in line:
        if manifest.kind in LEARNT and manifest.id not in digests:
            digests.add(manifest.id)
            yield manifest.step, [folder / INDEX] if manifest.kind == "corpus" else _row_files(folder)
        # a corpus holds the rows of its sources, and its benchmarks only kept texts out
        if manifest.kind != "corpus":
            yield from _outside(manifest, folder, digests)


def _outside(manifest: Manifest, folder: Path, digests: set[str]) -> Iterator[tuple[str, list[Path] | None]]:
    for source in manifest.external:
        if source.digest in digests or source.role in MEASURING or source.role.startswith("heldout"):
            continue
        digests.add(source.digest)
        try:
            path = _place(source, run_of(folder))
        except CharterError:
            yield source.ref, None
            continue
        if path.is_dir() or path.name.endswith(ROW_ENDINGS):
            yield source.ref, _row_files(path) if path.is_dir() else [path]


def _place(source: External, run: Path) -> Path:
    """The unchanged file or folder of a source's rows. Raises CharterError if it is gone or has changed."""
    now = resolve_again(source, run)
    if now.digest != source.digest:
        raise CharterError(f"{source.ref} has changed")
    return fetch(now.ref) if now.path is None else now.path


def _row_files(folder: Path) -> list[Path]:
    """The files of rows at the top of an artifact or a folder; samples of held-out rows lie in folders below."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(ROW_ENDINGS))


def _texts(path: Path) -> Iterator[str]:
    """Every text of a file's rows, however deep, or of a corpus's documents; none of a file that isn't rows."""
    if path.name == INDEX:
        yield from train_texts(path.parent)
        return
    try:
        for _, texts in texts_of(path):
            yield from texts
    except CharterError:
        return
