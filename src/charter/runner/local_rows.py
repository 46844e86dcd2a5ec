"""Reads every row on this disk that a plan names, before anything starts: a broken row is found now, not hours later.

Rows are read as their rooms read them. A file that was read well is remembered by its digest, so that a second plan
doesn't read it again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import canonical_json, digest_file, digest_text
from charter.ground.artifact.store import atomic_write
from charter.ground.settings.places import cache_folder
from charter.ground.settings.room import Role
from charter.ground.settings.sources import shipped
from charter.ground.text.columns import raw_rows
from charter.ground.text.dialogue import Comparison, Dialogue, prompt_of
from charter.ground.text.examples import read_shots, read_transcripts, read_triples
from charter.ground.text.heldout import SHIPPED, find_held_out
from charter.ground.text.judgments import read_judgments
from charter.ground.text.parsing import dialogue_of_row
from charter.ground.text.records import read_comparisons, read_dialogues, read_records, read_texts
from charter.runner.identity import ground_digest
from charter.runner.order import is_learnt_from

if TYPE_CHECKING:
    from charter.runner.plan import PlannedStep

# bytes of a source that is read before a run
LARGEST = 200 * 2**20


@dataclass(frozen=True)
class RowCount:
    """The rows of a source, and how many of them are prompts that an assistant's turn follows. `held_out`: the
    first row that no model may learn from, "" if there is none."""

    rows: int
    answered: int = 0
    held_out: str = ""

    @classmethod
    def of(cls, records: Sequence[Dialogue | Comparison | Mapping[str, Any]], answered: int = 0) -> RowCount:
        """The count of some records."""
        return cls(len(records), answered, find_held_out(records))


def check_local_rows(steps: Iterable[PlannedStep]) -> tuple[str, ...]:
    """Reads the rows of all sources on this disk, and returns notes on those of the user's own.

    Raises CharterError that names step, role, file and line of the first broken row of every broken source.
    """
    problems: list[str] = []
    notes: list[str] = []
    counts: dict[tuple[str, str], RowCount | None] = {}
    for step in steps:
        for entry, role, is_own in _sources(step):
            reading = _reading(role)
            key = (entry.id, reading)
            place = f"step {step.name}: role {entry.role}: "
            path = _short(entry.folder)
            if (size := _bytes(path)) > LARGEST:
                notes.append(
                    f"{place}{path} has {size / 2**20:,.0f} MiB, and its rows were not read ({LARGEST // 2**20} at "
                    f"most); `charter data check {path}` reads them"
                )
                continue
            if key not in counts:
                try:
                    counts[key] = _count(path, entry.id, reading)
                except CharterError as error:
                    counts[key] = None
                    problems.append(f"{place}{error}")
            count = counts[key]
            if count is not None and count.held_out and is_learnt_from(step, entry.role):
                problems.append(
                    f"{place}{path}: the row {count.held_out!r} is a held-out request of shipped:{SHIPPED} or of a "
                    "set like it, which no model may learn from; leave it out"
                )
            if is_own and count is not None and count.answered:
                notes.append(
                    f"{place}{count.answered} of {count.rows} rows of {path} end with the assistant's turn: it is "
                    "dropped, since prompts end with the user's"
                )
    if len(problems) > 1:
        raise CharterError(f"{len(problems)} sources can't be read: {'; '.join(problems)}")
    if problems:
        raise CharterError(problems[0])
    return tuple(notes)


def _sources(step: PlannedStep) -> Iterator[tuple[Input, Role, bool]]:
    """The inputs of a step that are rows on this disk, with their roles, and whether they are the user's own."""
    outside = {(record.role, record.digest): record.path is not None for record in step.external}
    for entry in step.inputs:
        role = step.room.roles[entry.role]
        readable = entry.path is not None and (entry.role, entry.id) in outside and _reading(role) in _READINGS
        # evaluations know the other forms of their published files
        if readable and (role.kind != "questions" or ".jsonl" in entry.folder.name):
            yield entry, role, outside[entry.role, entry.id]


def _reading(role: Role) -> str:
    return role.rows or role.kind


def _short(path: Path) -> Path:
    """The path from the current folder, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _bytes(path: Path) -> int:
    """The size of a file, or of the files directly in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _count(path: Path, digest: str, reading: str) -> RowCount:
    """The rows of a source, read now or remembered. Raises CharterError with file and line for a broken one."""
    # a file's name decides its form
    shipped_set = digest_file(shipped(SHIPPED))
    key = digest_text(canonical_json([ground_digest(), reading, path.name, digest, shipped_set]))
    memory = cache_folder() / "rows" / f"{key}.json"
    with suppress(OSError, ValueError, TypeError):
        return RowCount(**json.loads(memory.read_text("utf-8")))
    count = _READINGS[reading](path)
    with suppress(OSError):  # what can't be remembered is read again
        memory.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(memory, json.dumps(asdict(count)))
    return count


def _prompts(path: Path) -> RowCount:
    dialogues = read_dialogues(path)
    for dialogue in dialogues:
        prompt_of(dialogue)
    return RowCount.of(dialogues, sum(not dialogue.is_prompt for dialogue in dialogues))


def _rated(path: Path) -> RowCount:
    rows: list[Dialogue] = read_records(path, "dialogues", dialogue_of_row, Counter())
    return RowCount.of(rows)


def _any_rows(path: Path) -> RowCount:
    """Rows whose columns only their evaluation knows."""
    count = sum(1 for _ in raw_rows(path))
    if not count:
        raise CharterError(f"{path} holds no rows")
    return RowCount(count)


_READINGS: Mapping[str, Callable[[Path], RowCount]] = {
    "prompts": _prompts,
    "lessons": lambda path: RowCount.of(read_dialogues(path, lessons=True)),
    "dialogues": lambda path: RowCount.of(read_dialogues(path)),
    "transcripts": lambda path: RowCount.of(read_transcripts(path)),
    "choices": lambda path: RowCount(len(read_shots(path))),
    "rated": _rated,
    "comparisons": lambda path: RowCount.of(read_comparisons(path)),
    "triples": lambda path: RowCount(len(read_triples(path))),
    "judgments": lambda path: RowCount(len(read_judgments(path))),
    "text": lambda path: RowCount(len(read_texts(path))),
    "templates": _any_rows,
    "questions": _any_rows,
}
