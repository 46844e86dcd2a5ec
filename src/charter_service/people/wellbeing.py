"""How people say that they feel after red-team attempts, for those who can act on it, and a break for one person.

People who attack models read what harms. Ganguli 2022, section 3, asks them how they feel after each task. An answer is
1 (bad) to 5 (very well), and nobody must give one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from charter_service.people.tables import CONVERSATIONS, PEOPLE
from charter_service.people.workers import DAY, Person, note
from charter_service.web.refusal import NotFound, Refusal

LOW = 2
RECENT = 3  # answers that decide whether somebody should ask


@dataclass(frozen=True, slots=True)
class Wellbeing:
    """What one person said, the newest answer last. `paused`: until when they have a break, if they have one now."""

    person: int
    name: str
    simulated: bool
    feelings: tuple[int, ...]
    finished: int
    paused: float | None

    @property
    def mean(self) -> float | None:
        """The mean of all answers; None without one."""
        return sum(self.feelings) / len(self.feelings) if self.feelings else None

    @property
    def low(self) -> bool:
        """Whether somebody should ask how they are: the newest answer is bad, or two of the last three are low."""
        recent = self.feelings[-RECENT:]
        return bool(recent) and (recent[-1] == 1 or sum(feeling <= LOW for feeling in recent) > 1)


def wellbeing_of_people(connection: Connection) -> list[Wellbeing]:
    """All who finished a red-team attempt or have a break; those whom somebody should ask come first."""
    query = (
        select(PEOPLE.c.id, PEOPLE.c.name, PEOPLE.c.simulated, PEOPLE.c.paused, CONVERSATIONS.c.feeling)
        .join(CONVERSATIONS, CONVERSATIONS.c.person == PEOPLE.c.id)
        .where(CONVERSATIONS.c.state == "finished", CONVERSATIONS.c.rating.is_not(None))
        .order_by(CONVERSATIONS.c.finished, CONVERSATIONS.c.id)
    )
    feelings: dict[int, list[int | None]] = {}
    facts = {}
    for row in connection.execute(query):
        feelings.setdefault(row.id, []).append(row.feeling)
        facts[row.id] = row
    for row in connection.execute(select(PEOPLE).where(PEOPLE.c.paused > time.time())):
        feelings.setdefault(row.id, [])
        facts[row.id] = row
    people = [
        Wellbeing(
            person,
            row.name,
            bool(row.simulated),
            tuple(feeling for feeling in feelings[person] if feeling is not None),
            len(feelings[person]),
            row.paused if row.paused and row.paused > time.time() else None,
        )
        for person, row in facts.items()
    ]
    return sorted(people, key=lambda wellbeing: (not wellbeing.low, wellbeing.name.lower()))


def pause(connection: Connection, person: int, days: float) -> float | None:
    """Gives a person a break of so many days from now, or ends it (0); returns until when. Raises NotFound."""
    until = time.time() + days * DAY if days else None
    changed = connection.execute(update(PEOPLE).where(PEOPLE.c.id == person).values(paused=until))
    if not changed.rowcount:
        raise NotFound
    note(connection, person, "break" if days else "break ended", f"{days:g} days" if days else "")
    return until


def check_break(connection: Connection, person: Person) -> None:
    """Raises Refusal, 403, while a person has a break; what they began can still be finished, stopped or skipped."""
    until = connection.execute(select(PEOPLE.c.paused).where(PEOPLE.c.id == person.id)).scalar()
    if until is not None and until > time.time():
        when = time.strftime("%d %B, %H:%M UTC", time.gmtime(until))
        raise Refusal(f"you have a break until {when}, so that you can rest; your work and your place are kept", 403)
