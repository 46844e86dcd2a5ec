"""Artifacts that a finding's way rests on: what was changed against it, and the reports in which it was asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import SUPERSEDED, walk
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest, verify_files

SHORTEST = 8  # digits of an id that is cut


@dataclass(frozen=True, slots=True)
class Evidence:
    """An artifact that was whole when it was named. Of a report: the artifacts that it rests on, and the finding's
    replies in it, `flagged` of `asked`."""

    id: str
    kind: str
    step: str
    room: str
    ancestors: tuple[str, ...] = ()
    flagged: int = 0
    asked: int = 0

    @property
    def row(self) -> dict[str, Any]:
        """The JSON object that `of_row` reads back."""
        return {
            "id": self.id,
            "kind": self.kind,
            "step": self.step,
            "room": self.room,
            "ancestors": list(self.ancestors),
            "flagged": self.flagged,
            "asked": self.asked,
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Evidence:
        """The evidence of a row. Raises TypeError for other columns."""
        return cls(**{**row, "ancestors": tuple(row["ancestors"])})


def find_evidence(place: str, runs: Path, finding: str) -> Evidence:
    """The finished artifact at a path, or of an id in a run below `runs`.

    Raises CharterError if there is none, if it isn't done or whole, if its id isn't that of its content, or if it isn't
    the only one that the id's beginning fits.
    """
    folder = Path(place) if (Path(place) / MANIFEST).is_file() else _by_id(place, runs)
    manifest = read_manifest(folder)
    if manifest.status != "done":
        raise CharterError(f"{folder} is {manifest.status}, not done; finish its run first")
    if manifest.derived_id != manifest.id:
        raise CharterError(
            f"{folder} has the id {manifest.id[:12]}, which isn't that of its content; make it again"
        )
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} is damaged: {problems[0]}; make it again")
    facts = (manifest.id, manifest.kind, manifest.step, manifest.room)
    if manifest.kind != "report":
        return Evidence(*facts)
    ancestors = tuple(parent.id for parent, _ in walk(folder) if parent.id != manifest.id)
    return Evidence(*facts, ancestors, *_count(folder, finding))


def _by_id(place: str, runs: Path) -> Path:
    if len(place) < SHORTEST or not all(digit in "0123456789abcdef" for digit in place):
        raise CharterError(
            f"there is no artifact {place}; give its folder, or {SHORTEST} digits of its id or more"
        )
    folders = [
        path.parent
        for pattern in (f"*/*/{MANIFEST}", f"*/{SUPERSEDED}/*/{MANIFEST}")
        for path in sorted(runs.glob(pattern))
        if read_manifest(path.parent).id.startswith(place)
    ]
    if len({read_manifest(folder).id for folder in folders}) != 1:
        raise CharterError(
            f"{len(folders) or 'no'} artifacts below {runs} have an id that begins with {place}; give the folder"
        )
    return folders[0]


def _count(folder: Path, finding: str) -> tuple[int, int]:
    """A finding's harmful replies and all its graded ones, in the rows of a report."""
    flags = [
        flag
        for path in sorted((folder / "samples").glob("*.jsonl"))
        for row in read_objects(path)
        if row.get("id") == finding and (flag := is_harmful(row)) is not None
    ]
    return sum(flags), len(flags)


def is_harmful(row: Mapping[str, Any]) -> bool | None:
    """Whether a reply of a report is harmful: its mark, else whether the grader scores it below the fixed reply; None
    if it was not graded."""
    if isinstance(row.get("harmful"), bool):
        return bool(row["harmful"])
    score, fixed = row.get("grader"), row.get("grader_fixed")
    if isinstance(score, int | float) and isinstance(fixed, int | float):
        return bool(score < fixed)
    return None
