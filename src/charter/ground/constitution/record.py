"""What principles did in a run: how often each was drawn, what its revisions changed, how its labels agreed.

kept     = kept revisions / critiques under the principle
changed  = mean over kept revisions of 1 - |words in both| / |words in either|
margin   = mean over labels of |2 p - 1|, where p is the probability of the chosen reply
agreed   = known pairs ranked right under the principle / known pairs asked under it
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SOURCE = "ai:"  # before the keys of the principles of a label
BETWEEN = "+"  # two keys, where labels are means over principles


@dataclass(slots=True)
class Record:
    """Counts of one principle."""

    critiques: int = 0
    changes: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    marks: list[float] = field(default_factory=list)

    def row(self, key: str) -> dict[str, Any]:
        """The formulas above; None where nothing was counted."""
        return {
            "key": key,
            "critiques": self.critiques,
            "kept": len(self.changes) / self.critiques if self.critiques else None,
            "changed": _mean(self.changes),
            "labels": len(self.margins),
            "margin": _mean(self.margins),
            "known_pairs": len(self.marks),
            "agreed": _mean(self.marks),
        }


def records(
    transcripts: Iterable[Mapping[str, Any]],
    comparisons: Iterable[Mapping[str, Any]],
    known: Iterable[Mapping[str, Any]],
) -> dict[str, Record]:
    """Records by the principles' keys, from critique's transcripts, feedback's comparisons, and its known pairs."""
    found = defaultdict[str, Record](Record)
    for transcript in transcripts:
        reply = transcript["draft"]
        for step in transcript["rounds"]:
            record = found[step["key"]]
            record.critiques += 1
            if step.get("dropped") is None:
                record.changes.append(_change(reply, step["revision"]))
                reply = step["revision"]
    for row in comparisons:
        if str(row.get("source", "")).startswith(SOURCE):
            for key in row["source"].removeprefix(SOURCE).split(BETWEEN):
                found[key].margins.append(abs(2 * row["p_chosen"] - 1))
    for row in known:
        if "principle" in row:
            found[row["principle"]].marks.append(row["correct"])
    return found


def _change(before: str, after: str) -> float:
    old, new = set(before.lower().split()), set(after.lower().split())
    return 1 - len(old & new) / len(old | new) if old | new else 0.0


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
