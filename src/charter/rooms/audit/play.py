"""Plays all tries, many at once and turn by turn. Each round of turns is saved whole: after a kill a run goes on with
the next one, and ends with the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.artifact.workspace import Workspace
from charter.rooms.audit.agent import Agent
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.tries import VOID, Plan, Played

AGAIN = 2  # times that a try in a broken world is begun anew


def play(settings: Settings, wanted: Sequence[Plan], agent: Agent, out: Workspace) -> list[Played]:
    """Each try to its end, in the order wanted; one in a world that is still broken after some tries stays void."""
    over: dict[str, Played] = {}
    waiting = [Played(plan, settings) for plan in wanted]
    running: list[Played] = []
    number = 0
    while waiting or running:
        while waiting and len(running) < settings.together:
            running.append(waiting.pop(0))
        if alive := [one for one in running if not one.ended]:
            rows = out.chunks(
                f"turn-{number:05d}",
                alive,
                len(alive),
                lambda part, _: agent.next(part),
                f"{len(over)} of {len(wanted)} tries",
            )
            for one, row in zip(alive, rows, strict=True):
                one.take(row)
            number += 1
        for one in running:
            if one.ended == VOID and one.again < AGAIN:
                waiting.append(Played(one.plan, settings, one.again + 1))
            elif one.ended:
                over[one.plan.id] = one
        running = [one for one in running if not one.ended]
    return [over[plan.id] for plan in wanted]
