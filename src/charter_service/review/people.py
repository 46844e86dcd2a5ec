"""The reviews of people: puts flagged replies into the queue, reads the answers, and waits if there are too few.

The files of the queue are beside the run, in a folder that no sweep removes: `arena.yaml`, the service's configuration,
and, unless the recipe names another, the database. A review belongs to a text: reviews of the same reply from another
report, or from the same report made again, count as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from charter.ground.artifact.errors import Waiting
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.notation import write_yaml
from charter_service.people.export import Reviewed, open_people, reviewed_of
from charter_service.people.opinions import Case, Opinion, name_of, opinions_of
from charter_service.people.reviewing import enqueue
from charter_service.review.settings import Settings
from charter_service.web.database import writing

DATABASE, CONFIG = "people.sqlite", "arena.yaml"


def peoples_opinions(settings: Settings, cases: Sequence[Case], out: Workspace) -> list[list[Opinion]]:
    """People's opinions on each transcript. Transcripts that nobody has seen yet go into the queue.

    Raises Waiting while any has too few reviews, after writing the files that the service needs.
    """
    if not cases:
        return []
    out.people.mkdir(parents=True, exist_ok=True)
    engine = open_people(settings.database or DATABASE, out.people)
    try:
        reviewed: dict[str, list[Reviewed]] = {}
        for item in reviewed_of(engine):
            reviewed.setdefault(name_of(item.messages), []).append(item)
        with writing(engine) as connection:
            enqueue(connection, (case.item for case in cases if case.name not in reviewed))
    finally:
        engine.dispose()
    opinions = [_opinions(reviewed.get(case.name, ())) for case in cases]
    lacking = sum(len(of_case) < settings.reviewers for of_case in opinions)
    if lacking:
        _write_config(settings, out)
        reviews = f"{settings.reviewers} review{'s' * (settings.reviewers != 1)}"
        raise Waiting(
            f"waits for {reviews} each of {lacking} of {len(cases)} flagged transcripts: charter arena serve "
            f"{out.people / CONFIG}, then run again"
        )
    return opinions


def _opinions(items: Iterable[Reviewed]) -> list[Opinion]:
    """People's opinions on a text; a person who saw it twice counts once."""
    by_rater: dict[str, Opinion] = {}
    for item in items:
        for opinion in opinions_of(item):
            by_rater.setdefault(opinion.rater, opinion)
    return list(by_rater.values())


def _write_config(settings: Settings, out: Workspace) -> None:
    """Writes the configuration for `charter arena serve`: only reviews, without a model."""
    content = {
        "name": out.step,
        "database": settings.database or DATABASE,
        "reviewers": settings.reviewers,
        "harmful_from": settings.harmful_from,
    }
    atomic_write(out.people / CONFIG, write_yaml(content))
