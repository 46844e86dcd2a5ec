"""The mitigation log of attacks that a machine found: each one before and after a change."""

from __future__ import annotations

from dataclasses import dataclass

from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import Number
from charter.rooms.card.gather import Run

# In the report of an evaluate step with a baseline: found attacks there and here.
RETESTS = "retests.jsonl"


@dataclass(frozen=True, slots=True)
class Retest:
    """A found attack: [successes, samples] before and after, and [refusals, samples] of its harmless twin."""

    finding: str
    family: str
    before: tuple[Number, Number]
    after: tuple[Number, Number]
    twin_before: tuple[Number, Number] | None
    twin_after: tuple[Number, Number] | None


@dataclass(frozen=True, slots=True)
class RetestTable:
    """The mitigation log of found attacks: what was changed by step and artifact id, the re-test, and its rows."""

    before: str
    after: str
    changed: str
    artifact: str
    retest: str
    rows: tuple[Retest, ...]


def retest_table(run: Run) -> RetestTable | None:
    """Found attacks on the final stage, beside the stage that it is compared with; None if it re-tested none."""
    for report in (run.final, *run.final.beside):
        base = next((p for p in report.manifest.parents if p.role == "baseline"), None)
        rows = report.rows(RETESTS)
        if base is not None and rows:
            model = report.report["model"]
            before = next((s.label for s in run.stages if s.manifest.id == base.id), base.step)
            return RetestTable(
                before,
                report.label,
                str(model["name"]),
                str(model["id"])[:12],
                report.manifest.id[:12],
                tuple(_retest(report, n, row) for n, row in enumerate(rows, 1)),
            )
    return None


def _retest(report: Artifact, number: int, row: dict[str, object]) -> Retest:
    def pair(key: str) -> tuple[Number, Number] | None:
        counted = row[key]
        if not isinstance(counted, list):
            return None
        of = f"attack {number}, {key.replace('_', ' ')}"
        hits, sent = (
            report.count(f"{what} of {of}", float(count), RETESTS)
            for what, count in zip(("hits", "samples"), counted, strict=True)
        )
        return hits, sent

    before, after = pair("before"), pair("after")
    assert before is not None and after is not None
    return Retest(
        str(row["finding"]), str(row["family"]), before, after, pair("twin_before"), pair("twin_after")
    )
