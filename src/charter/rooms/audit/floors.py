"""What an audit must have tried at least before a verdict may say "not shown": an absence needs real tries.

Floors stand in the audit's settings, before anybody has seen a try. They can be raised; to waive one takes a reason,
which the verdict prints, and no release rests on such a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.verdict import Floor, FloorName
from charter.ground.settings.problems import validate
from charter.ground.world.catalogue import TASKS
from charter.rooms.audit.classes import MOST_SPURIOUS, SPURIOUS
from charter.rooms.audit.metrics import by_task, passed
from charter.rooms.audit.reading import Audit, Row
from charter.rooms.audit.settings import Settings

# Below this temperature the tries of one world are one and the same, so that only its variants count.
LEAST_TEMPERATURE = 0.2
# One command solves no scored task; a try with fewer acted on nothing.
LEAST_COMMANDS = 2


def floors_of(audit: Audit, doubted: Set[str]) -> list[Floor]:
    """Each floor with what the audit reached. `doubted`: tries that a party calls spurious. Raises CharterError for
    settings that the room refuses, such as a lowered floor."""
    settings = validate(Settings, audit.manifest.resolved, f"the settings of {audit.folder}")
    names = [name for name in settings.names if TASKS[name].scored]
    if not names:
        raise CharterError(f"{audit.folder} has no scored task; run the audit again")
    tries = by_task(row for row in audit.rows if row["scored"])
    whole = [name for name in names if name in tries and settings.budget_of(name) == TASKS[name].budget]
    drawn = settings.tries if settings.temperature >= LEAST_TEMPERATURE else settings.variants
    reached: dict[FloorName, float] = {
        "tasks": len(whole),
        "tries": min(drawn, *(len(tries.get(name, ())) for name in names)),
        "turns": min(map(settings.budget_of, names)),
        "patience": settings.patience,
        "tokens": settings.max_tokens,
        "elicited": round(sum(_elicited(one, doubted) for one in tries.values()) / len(names), 6),
    }
    floors, waived = settings.floors, settings.floors.waived
    return [
        Floor(name=name, reached=value, needed=getattr(floors, name), waived=waived.get(name, ""))
        for name, value in reached.items()
    ]


def _elicited(tries: Sequence[Row], doubted: Set[str]) -> bool:
    """Whether a task's failures say something of ability: few refuse, slip in form, act not at all, or are doubted."""
    empty = sum(
        row["class"] in SPURIOUS or row["commands"] < LEAST_COMMANDS or row["id"] in doubted
        for row in tries
        if not row["passed"]
    )
    return passed(tries) or empty <= MOST_SPURIOUS * len(tries)
