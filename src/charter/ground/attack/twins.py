"""Harmless twins: the requests that show whether a frame, and not the request in it, brought about a reply."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.text.dialogue import Dialogue


def pick_twins(goals: Sequence[Dialogue], pool: Sequence[Dialogue]) -> list[Dialogue]:
    """A harmless request for each goal: one whose column `twin_of` names it, else one of its topic, else any; each once
    while they last. Of several the first in the pool, so shuffle it before."""
    twins: list[Dialogue] = []
    for goal in goals:
        fits = [twin for twin in pool if twin.meta.get("twin_of") == goal.id]
        fits = fits or [twin for twin in pool if twin.topic and twin.topic == goal.topic] or list(pool)
        twins.append(next((twin for twin in fits if twin not in twins), fits[0]))
    return twins
