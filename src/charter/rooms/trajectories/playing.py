"""Plays the scripts that solve tasks, in training worlds, and writes what a model learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import AUDIT_ELICITATION
from charter.ground.world.catalogue import TASKS, TRAINING
from charter.ground.world.talk import messages, opening, worked
from charter.ground.world.task import Task, judged
from charter.rooms.trajectories.settings import Settings

Row = dict[str, Any]


def rows(settings: Settings) -> list[Row]:
    """The dialogues of all tries. Raises CharterError if a script doesn't solve its task."""
    return [
        row
        for name in settings.tasks
        for number in range(settings.worlds)
        for row in _dialogues(settings, TASKS[name], TRAINING + number)
    ]


def counts(dialogues: list[Row]) -> dict[str, int]:
    """Dialogues, tries and turns, and the tries of each task."""
    first = [row for row in dialogues if row["meta"]["part"] == 0]
    by_task = {f"tries_{row['topic']}": 0 for row in first}
    for row in first:
        by_task[f"tries_{row['topic']}"] += 1
    return {
        "dialogues": len(dialogues),
        "tries": len(first),
        "turns": sum(row["meta"]["turns"] for row in dialogues),
        **by_task,
    }


def _dialogues(settings: Settings, task: Task, seed: int) -> Iterator[Row]:
    """The dialogues of one try, each with at most so many turns; every turn is learnt once."""
    begin, turns = worked(task, seed)
    if not judged(task, seed, [turn.line for turn in turns]).passed:
        raise CharterError(f"the script of the task {task.name} doesn't solve it in world {seed}; mend the script")
    if settings.commands == "all":
        begin = opening(task.build(seed).instructions, task.budget)
    for part, start in enumerate(range(0, len(turns), settings.turns)):
        turns_so_far = turns[: start + settings.turns]
        yield {
            "id": f"{task.name}-{seed}-{part}",
            # the last observation has no action after it
            "messages": messages(begin, turns_so_far, start)[:-1],
            "topic": task.name,
            "source": AUDIT_ELICITATION,
            "meta": {"seed": seed, "part": part, "turns": len(turns_so_far) - start},
        }
