"""The log of mitigations: what was changed against each finding of an outside red team, and its re-test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charter.ground.findings.selection import MITIGATIONS
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import Number
from charter.rooms.card.gather import Run

Rate = tuple[Number, Number]  # harmful replies, and all


@dataclass(frozen=True, slots=True)
class Mitigation:
    """One row. `retest`: the report's id, "" without one."""

    finding: str
    date: str
    changed: str
    artifact: str
    retest: str
    before: Rate | None
    after: Rate | None
    status: str


@dataclass(frozen=True, slots=True)
class MitigationTable:
    """The log in the artifact of one step."""

    step: str
    findings: Number
    rows: tuple[Mitigation, ...]


def mitigation_table(run: Run) -> MitigationTable | None:
    """The log of mitigations; None without findings."""
    frozen = run.findings
    if frozen is None:
        return None
    rows = frozen.rows(MITIGATIONS)
    return MitigationTable(
        frozen.name, frozen.numbers["findings"], tuple(_row(frozen, n, row) for n, row in enumerate(rows, 1))
    )


def _row(frozen: Artifact, number: int, row: Mapping[str, Any]) -> Mitigation:
    def rate(when: str) -> Rate | None:
        if row[when] is None:
            return None
        harmful, asked = (
            frozen.count(f"{what} {when}, row {number}", count, MITIGATIONS)
            for what, count in zip(("harmful replies", "replies"), row[when], strict=True)
        )
        return harmful, asked

    return Mitigation(
        row["finding"],
        row["date"],
        row["changed"],
        row["artifact"][:12],
        (row["retest"] or "")[:12],
        rate("before"),
        rate("after"),
        row["status"],
    )
