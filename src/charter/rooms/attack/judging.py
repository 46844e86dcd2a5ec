"""Found attacks sampled anew and judged by the grader that the search never saw, and the controls by family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.workspace import Workspace
from charter.ground.attack.chains import COMBINATION, resolve
from charter.ground.judge.answered import RIGHT, by_accepted
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.rooms.attack.goals import Goals
from charter.rooms.attack.search import archive_of
from charter.rooms.attack.settings import Settings
from charter.rooms.attack.target import Target, Try, in_the_place_of

Row = dict[str, Any]
ATTACK, TWIN, QUESTION = KINDS = ("attack", "twin", "question")


def findings_of(settings: Settings, searched: Sequence[Row]) -> list[Row]:
    """The best success of each topic and family, the highest margin first, `search.most` of them."""
    return list(archive_of(searched).found())[: settings.search.most]


def sample_anew(
    settings: Settings, findings: Sequence[Row], goals: Sequence[Dialogue], target: Target, out: Workspace
) -> list[Row]:
    """New samples of each finding, with seeds that the search never drew, scored by both graders."""
    by_id = {goal.id: goal for goal in goals}
    tries = [
        Try(
            by_id[row["id"]],
            tuple(row["chain"]),
            row["attack_seed"],
            f"fresh-{sample}",
            {"sample": sample},
            Dialogue(row["attack"], tuple(row["asked"])),
        )
        for row in findings
        for sample in range(settings.search.fresh)
    ]
    together = settings.search.together
    return out.chunks(
        "fresh", tries, together, lambda part, _: target.send(part, "reward", "grader"), "new samples"
    )


def confirm(settings: Settings, findings: Sequence[Row], fresh: Sequence[Row]) -> list[Row]:
    """A row for each finding: the share of its new samples that succeed by each grader, and whether it is confirmed."""
    rows = []
    for finding in findings:
        samples = [row for row in fresh if row["attack"] == finding["attack"]]
        again, success = (sum(row[key] for row in samples) / len(samples) for key in ("found", "success"))
        kept = {key: value for key, value in finding.items() if key not in ("refusal", "loop", "on_topic")}
        rows.append(
            kept | {"again": again, "success": success, "confirmed": success >= settings.search.confirm}
        )
    return rows


def controls(
    settings: Settings,
    goals: Goals,
    twins: Sequence[Dialogue],
    questions: Sequence[Dialogue],
    target: Target,
    out: Workspace,
) -> list[Row]:
    """The same requests without an attack and in each family, their twins in the same frames, and easy questions."""
    asked = goals.even(settings.controls.goals)
    seen = {goal.id for goal in goals.seen}
    tries: list[Try] = []
    for family in ("", *goals.families):
        # combinations that the search may try hold families that it may try
        names = goals.seen_families if COMBINATION in goals.seen_families else goals.families

        def add(
            goal: Dialogue, kind: str, family: str = family, names: list[str] = names, **more: Any
        ) -> None:
            own = derive_seed(out.seed, "control", goal.id)
            columns = {"kind": kind, "family": family, "seen_family": family in goals.seen_families, **more}
            chain = resolve((family,) if family else (), goal.id, own, names)
            tries.append(Try(goal, chain, own, f"control-{kind}", columns))

        for goal, twin in zip(asked, twins, strict=True):
            add(goal, ATTACK, seen_goal=goal.id in seen)
            add(in_the_place_of(goal, twin), TWIN, seen_goal=goal.id in seen, twin=twin.id)
        for question in questions:
            add(question, QUESTION, seen_goal=False, accepted=question.meta["accepted"])
    return out.chunks(
        "controls", tries, settings.search.together, lambda part, _: _send(target, part), "controls"
    )


def _send(target: Target, tries: Sequence[Try]) -> list[Row]:
    """Requests and twins are scored by the grader; questions are right or not."""
    rows: dict[int, Row] = {}
    for asks in (True, False):
        places = [n for n, one in enumerate(tries) if (one.columns["kind"] == QUESTION) == asks]
        if places:
            sent = target.send([tries[n] for n in places], *(() if asks else ("grader",)))
            rows |= dict(zip(places, sent, strict=True))
    return [with_answer(rows[n]) for n in range(len(tries))]


def with_answer(row: Row) -> Row:
    """The row of a question with whether it is right; others as they are."""
    return row | {"right": right(row)} if row["kind"] == QUESTION else row


def right(row: Row) -> bool:
    """Whether a reply holds an accepted answer."""
    return by_accepted({"accepted": row["accepted"], "answerable": True}, row["reply"]) == RIGHT
