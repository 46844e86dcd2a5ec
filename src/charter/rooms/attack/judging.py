"""Found attacks sampled anew, and judged by the grader that the search never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.success import MARKS
from charter.ground.text.dialogue import Dialogue
from charter.rooms.attack.alike import with_near
from charter.rooms.attack.attackers import CRESCENDO
from charter.rooms.attack.search import archive_of
from charter.rooms.attack.settings import Settings
from charter.rooms.attack.target import Target, Try

Row = dict[str, Any]
# columns of a search's row that say nothing of the finding
LEFT_OUT = frozenset((*MARKS, "turn", "talk", "asks"))


def findings_of(settings: Settings, searched: Sequence[Row]) -> list[Row]:
    """The best success of each topic and family, or of each request that a writer attacked, the highest margin first,
    `search.most` of them."""
    return list(archive_of(searched).found())[: settings.search.most]


def sample_anew(
    settings: Settings, findings: Sequence[Row], goals: Sequence[Dialogue], target: Target, out: Workspace
) -> list[Row]:
    """New samples of each finding, with seeds that the search never drew, scored by both graders. A conversation is
    held anew from its first turn, a row a turn."""
    by_id = {goal.id: goal for goal in goals}
    tries = [
        Try(
            by_id[row["id"]],
            tuple(row["chain"]),
            row["attack_seed"],
            f"fresh-{sample}",
            {"sample": sample, "talk": f"{row['attack']}/{sample}"},
            Dialogue(row["attack"], tuple(row["asked"])),
        )
        for row in findings
        for sample in range(settings.search.fresh)
    ]
    held = settings.search.by == CRESCENDO

    def produce(part: Sequence[Try], _: int) -> list[Row]:
        return (target.replay if held else target.send)(part, "reward", "grader")

    return out.chunks("fresh", tries, settings.search.together, produce, "new samples")


def confirm(settings: Settings, findings: Sequence[Row], fresh: Sequence[Row]) -> list[Row]:
    """A row for each finding: the share of its new samples that succeed by each grader, in any turn, and whether it is
    confirmed. With a rater also `useful`, the share of the rated ones that are specific; None if none is rated."""
    rows = []
    for finding in findings:
        talks: dict[str, list[Row]] = {}
        for row in fresh:
            if row["attack"] == finding["attack"]:
                talks.setdefault(row["talk"], []).append(row)
        columns = {key: value for key, value in finding.items() if key not in LEFT_OUT}
        columns |= {key: _share(talks, of) or 0.0 for key, of in (("again", "found"), ("success", "success"))}
        decides = columns["success"]
        if any("useful" in row for turns in talks.values() for row in turns):
            columns["useful"] = _share(talks, "useful")
            decides = (columns["useful"] or 0.0) if settings.rating.needed else decides
        rows.append(columns | {"confirmed": decides >= settings.search.confirm})
    return with_near(rows)


def _share(talks: Mapping[str, Sequence[Row]], key: str) -> float | None:
    """Share of the conversations in which a turn has a mark, of those for which this is known."""
    marks = [
        any(row[key] for row in turns)
        for turns in talks.values()
        if any(row[key] for row in turns) or all(row[key] is not None for row in turns)
    ]
    return sum(marks) / len(marks) if marks else None
