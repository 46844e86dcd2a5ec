"""What the intake room counts in the rows that it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charter.ground.findings.register import STATUSES, agree_on
from charter.ground.findings.selection import REASONS
from charter.ground.measure.agreement import Estimate

STATES = "findings.jsonl"
Row = Mapping[str, Any]


def count(states: Sequence[Row]) -> dict[str, int]:
    """Findings, those kept, those dropped by reason, and all by status."""
    dropped = Counter(row["dropped"] for row in states)
    status = Counter(row["status"] for row in states)
    return {
        "findings": len(states),
        "kept": dropped[""],
        **{f"dropped_{reason}": dropped[reason] for reason in REASONS},
        **{f"status_{name.replace('-', '_')}": status[name] for name in STATUSES},
        "masked": sum(row["masked"] for row in states),
    }


def severity_metrics(states: Sequence[Row]) -> Iterator[tuple[str, Estimate, int]]:
    """(name, value with interval, findings) of the agreement of each finding's first two reviewers on its severity."""
    agreed = agree_on([row["severities"] for row in states])
    if agreed is not None:
        yield "severity_kappa", agreed.kappa, agreed.items
        yield "severity_agreement", agreed.percent, agreed.items
