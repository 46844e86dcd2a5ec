"""The controls: the same requests without an attack and in each family, their twins in the same frames, and questions.

Behind a writer there is no frame to put a twin into. So it attacks requests and twins alike, by the same search under
the search's grader, and the reporting grader judges every attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from charter.ground.artifact.workspace import Workspace
from charter.ground.attack.chains import COMBINATION, resolve
from charter.ground.judge.declining import RIGHT, by_accepted
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.rooms.attack.attackers import Composed, branches_of, rounds_of
from charter.rooms.attack.goals import Goals
from charter.rooms.attack.settings import WRITERS, Settings
from charter.rooms.attack.target import Target, Try, in_the_place_of

Row = dict[str, Any]
ATTACK, TWIN, QUESTION = KINDS = ("attack", "twin", "question")


def controls(
    settings: Settings,
    goals: Goals,
    twins: Sequence[Dialogue],
    questions: Sequence[Dialogue],
    target: Target,
    out: Workspace,
) -> list[Row]:
    """A row for each request without an attack and in each family of rules."""
    chosen_goals = goals.even(settings.controls.goals)
    seen_ids = {goal.id for goal in goals.seen}
    tries: list[Try] = []
    rules = [family for family in goals.families if family not in WRITERS]
    for family in ("", *rules):
        # combinations that the search may try hold families that it may try
        names = goals.seen_families if COMBINATION in goals.seen_families else rules

        def add(goal: Dialogue, kind: str, family: str = family, names: list[str] = names, **more: Any) -> None:
            goal_seed = derive_seed(out.seed, "control", goal.id)
            columns = {"kind": kind, "family": family, "seen_family": family in goals.seen_families, **more}
            chain = resolve((family,) if family else (), goal.id, goal_seed, names)
            tries.append(Try(goal, chain, goal_seed, f"control-{kind}", columns))

        for goal, twin in zip(chosen_goals, twins, strict=True):
            add(goal, ATTACK, seen_goal=goal.id in seen_ids)
            add(in_the_place_of(goal, twin), TWIN, seen_goal=goal.id in seen_ids, twin=twin.id)
        for question in questions:
            add(question, QUESTION, seen_goal=False, accepted=question.meta["accepted"])
    return out.chunks("controls", tries, settings.search.together, lambda part, _: _send(target, part), "controls")


def _send(target: Target, tries: Sequence[Try]) -> list[Row]:
    """Requests and twins are scored by the grader; questions are right or not."""
    rows: dict[int, Row] = {}
    for asks in (True, False):
        places = [n for n, control in enumerate(tries) if (control.columns["kind"] == QUESTION) == asks]
        if places:
            sent_rows = target.send([tries[n] for n in places], *(() if asks else ("grader",)))
            rows |= dict(zip(places, sent_rows, strict=True))
    return [with_answer(rows[n]) for n in range(len(tries))]


def controls_by_writer(
    settings: Settings,
    goals: Goals,
    twins: Sequence[Dialogue],
    questions: Sequence[Dialogue],
    target: Target,
    out: Workspace,
) -> tuple[list[Row], list[Row]]:
    """The rows of all attempts on requests and twins, and of one on each question; and the writer's answers."""
    chosen_goals = goals.even(settings.controls.goals)
    seen_ids = {goal.id for goal in goals.seen}
    by_goal = dict(zip((goal.id for goal in chosen_goals), twins, strict=True))
    sent, written = list[Row](), list[Row]()

    def columns(kind: str, goal: Dialogue) -> Row:
        facts: Row = {"kind": kind, "seen_family": True, "seen_goal": goal.id in seen_ids}
        if kind == TWIN:
            facts["twin"] = by_goal[goal.id].id
        return facts | ({"accepted": goal.meta["accepted"]} if kind == QUESTION else {})

    for kind, prompts in (
        (ATTACK, chosen_goals),
        (TWIN, [in_the_place_of(goal, twin) for goal, twin in zip(chosen_goals, twins, strict=True)]),
        (QUESTION, questions),
    ):
        graders = ("reward",) if kind == QUESTION else ("reward", "grader")
        attacker = settings.attacker
        if kind == QUESTION:
            attacker = attacker.model_copy(update={"streams": 1, "branches": 1, "depth": 1, "backtracks": 0})
        run = composed(settings, target, out, f"control-{kind}", graders)
        most = len(prompts) * attacker.streams * branches_of(attacker, settings.search.by)
        run.settings, run.asks = attacker, most * rounds_of(attacker, settings.search.by)
        run.queries, run.columns = run.asks, partial(columns, kind)
        rows, answers = run.run(prompts)
        sent += map(with_answer, rows)
        written += answers
    return sent, written


def composed(
    settings: Settings, target: Target, out: Workspace, key: str, graders: Sequence[str] = ("reward",)
) -> Composed:
    """The search by the writer, saved under a key, with the budgets of the search."""

    def write(prompts: Sequence[Any], number: int) -> list[str]:
        title = f"{key}, writer, round {number + 1}"
        return out.chunks(
            f"{key}-writer-{number:04d}", prompts, len(prompts), lambda part, _: target.compose(part), title
        )

    def send(tries: Sequence[Try], number: int) -> list[Row]:
        title = f"{key}, round {number + 1}"
        return out.chunks(f"{key}-{number:04d}", tries, len(tries), lambda part, _: target.send(part, *graders), title)

    return Composed(
        settings.attacker,
        settings.search.by,
        settings.search.together,
        settings.search.queries,
        settings.attacker.queries,
        out.seed,
        key,
        write,
        send,
    )


def with_answer(row: Row) -> Row:
    """The row of a question with whether it is right; others as they are."""
    return row | {"right": right(row)} if row["kind"] == QUESTION else row


def right(row: Row) -> bool:
    """Whether a reply holds an accepted answer."""
    return by_accepted({"accepted": row["accepted"], "answerable": True}, row["reply"]) == RIGHT
