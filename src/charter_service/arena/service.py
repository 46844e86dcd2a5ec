"""The parts that all pages share: the database, the rules of the work, the models' replies, limits, one-time
secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, func, insert, or_, select, update
from sqlalchemy import Engine as Database

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import MANIFEST, canonical_json, digest_text
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.places import expand_home
from charter.ground.settings.sources import resolve
from charter.ground.text.dialogue import Message, assistant, user
from charter_service.arena.config import Config, Shown, make_collection
from charter_service.arena.engines import Answers, Speaker
from charter_service.arena.standing import Standings
from charter_service.arena.words import Words, make_words
from charter_service.people.collection import Collection
from charter_service.people.conversations import picked_reply, turns_of
from charter_service.people.export import ATTEMPT, attempts_of, open_people
from charter_service.people.opinions import flagged_cases
from charter_service.people.reviewing import Item, enqueue
from charter_service.people.tables import FACTS, TURNS, VOTES
from charter_service.web.database import writing
from charter_service.web.entrance import Limiter, Once
from charter_service.web.lock import serve_alone


def queue_reports(config: Config, database: Database, folder: Path) -> int:
    """Queues the flagged replies of all named reports; returns the number of new ones."""
    items = [item for place in config.reviews for item in report_items(_folder(place, folder))]
    with writing(database) as connection:
        return enqueue(connection, items)


def queue_attempts(config: Config, database: Database) -> int:
    """Queues finished red-team attempts, if the configuration wants reviews of them; returns the number of new ones."""
    if not config.review_attempts:
        return 0
    items = [attempt_item(attempt.id, attempt.messages) for attempt in attempts_of(database)]
    with writing(database) as connection:
        return enqueue(connection, items)


def queue_attempt(connection: Connection, conversation: str) -> None:
    """Queues one attempt that has just been finished."""
    messages: list[Message] = []
    for turn in turns_of(connection, conversation):
        if turn.outcome is not None:
            messages += [user(turn.prompt), assistant(picked_reply(turn) or "")]
    enqueue(connection, [attempt_item(conversation, tuple(messages))])


def attempt_item(conversation: str, messages: tuple[Message, ...]) -> Item:
    """An attempt as an item for reviewers."""
    return Item(ATTEMPT, conversation, 0, "", messages, conversation)


def report_items(report: Path) -> list[Item]:
    """The flagged replies of a report. Raises CharterError if the folder is not a report."""
    if not (report / MANIFEST).is_file():
        raise CharterError(f"reviews: {report} is not a report; name the folder of an evaluate step")
    return [case.item for case in flagged_cases([(f"reviews: {report}", report, read_manifest(report).id)])]


def _folder(place: str, folder: Path) -> Path:
    path = expand_home(place)
    return next((candidate for candidate in (folder / path, path) if candidate.is_dir()), folder / path)


@dataclass
class Service:
    """A collection that is being served."""

    config: Config
    database: Database
    collection: Collection
    answers: Answers
    words: Words
    keys: Once = field(default_factory=Once)
    links: Once = field(default_factory=Once)

    def __post_init__(self) -> None:
        limits = self.config.limits
        self.by_person = Limiter(limits.person_rate, limits.person_burst)
        self.by_address = Limiter(limits.address_rate, limits.address_burst)
        self.entries = Limiter(limits.entry_rate, limits.entry_burst)
        self.standings = Standings(self.config, self.database)


def open_service(
    config: Config, folder: Path, sources: Mapping[str, Input], speakers: Mapping[str, Speaker]
) -> Service:
    """The service of a configuration. Raises CharterError if one of its files is wrong, the database can't be opened or
    is already served, or a model differs from the one of that name that people judged."""
    collection = make_collection(config, folder)
    database = open_people(config.database, folder)
    try:
        serve_alone(database)
        check_models(config, database, sources, folder)
        queue_reports(config, database, folder)
        queue_attempts(config, database)
    except BaseException:
        database.dispose()
        raise
    return Service(config, database, collection, Answers(database, speakers), make_words(config))


def check_models(config: Config, database: Database, sources: Mapping[str, Input], folder: Path) -> None:
    """Stores the model behind each name. Raises CharterError if earlier votes were on another model."""
    with writing(database) as connection:
        for model in config.models:
            fact = f"model:{digest_text(model.name)[:40]}"
            identity = identity_of(model, sources[model.name], folder)
            value = json.dumps({"name": model.name, "digest": identity})
            stored = connection.execute(select(FACTS.c.value).where(FACTS.c.name == fact)).scalar()
            if stored == value:
                continue
            if stored is None:
                connection.execute(insert(FACTS).values(name=fact, value=value))
                continue
            named = or_(TURNS.c.model_a == model.name, TURNS.c.model_b == model.name)
            voted = select(func.count()).select_from(VOTES.join(TURNS, TURNS.c.id == VOTES.c.turn)).where(named)
            if votes := connection.execute(voted).scalar_one():
                raise CharterError(
                    f"{model.name} was another model when {votes} votes on it were given; serve that one again, or "
                    "give the new one another name"
                )
            connection.execute(update(FACTS).where(FACTS.c.name == fact).values(value=value))


def identity_of(model: Shown, source: Input, folder: Path) -> str:
    """A digest of a model and its mode."""
    grader = resolve(model.grader, folder).digest if model.ranks else ""
    way = model.model_dump(exclude={"name", "model", "grader"})
    return digest_text(canonical_json([source.id, way, grader]))
