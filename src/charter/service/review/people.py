"""The reviews of people: flagged replies put into their queue, answers read, and waited for where there are too few.

What people are asked lies beside the run, in a folder that no sweep removes: `arena.yaml`, the service's configuration,
and, unless the recipe names another, the database. A review is on a text: reviews of the same reply that another
report, or the same one made again, had put into the queue count as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import yaml

from charter.ground.artifact.errors import Waiting
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.service.people.export import Reviewed, open_people, reviewed_of
from charter.service.people.flagged import Case, name_of
from charter.service.people.opinions import Opinion, opinions_of
from charter.service.people.reviewing import enqueue
from charter.service.review.settings import Settings
from charter.service.web.database import writing

DATABASE, CONFIG = "people.sqlite", "arena.yaml"


def peoples_opinions(settings: Settings, cases: Sequence[Case], out: Workspace) -> list[list[Opinion]]:
    """What people said of each transcript. Those that nobody was shown yet are put into the queue.

    Raises Waiting while any has fewer reviews than are wanted, after writing what the service needs.
    """
    if not cases:
        return []
    out.people.mkdir(parents=True, exist_ok=True)
    engine = open_people(settings.database or DATABASE, out.people)
    try:
        known: dict[str, list[Reviewed]] = {}
        for item in reviewed_of(engine):
            known.setdefault(name_of(item.messages), []).append(item)
        with writing(engine) as connection:
            enqueue(connection, (case.item for case in cases if case.name not in known))
    finally:
        engine.dispose()
    found = [_opinions(known.get(case.name, ())) for case in cases]
    lacking = sum(len(said) < settings.reviewers for said in found)
    if lacking:
        _write_config(settings, out)
        reviews = f"{settings.reviewers} review{'s' * (settings.reviewers != 1)}"
        raise Waiting(
            f"waits for {reviews} each of {lacking} of {len(cases)} flagged transcripts: charter arena serve "
            f"{out.people / CONFIG}, then run again"
        )
    return found


def _opinions(items: Iterable[Reviewed]) -> list[Opinion]:
    """What people said of a text; somebody who was shown it twice counts once."""
    found: dict[str, Opinion] = {}
    for item in items:
        for opinion in opinions_of(item):
            found.setdefault(opinion.rater, opinion)
    return list(found.values())


def _write_config(settings: Settings, out: Workspace) -> None:
    """Writes what `charter arena serve` reads: reviews alone, without a model."""
    content = {
        "name": out.step,
        "database": settings.database or DATABASE,
        "reviewers": settings.reviewers,
        "harmful_from": settings.harmful_from,
    }
    atomic_write(out.people / CONFIG, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
