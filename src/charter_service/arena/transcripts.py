"""Fills the review queue: with flagged replies of reports, and with red-team attempts as they are finished."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.places import expand_home
from charter.ground.text.dialogue import Message, assistant, user
from charter_service.arena.config import Config
from charter_service.people.conversations import picked_reply, turns_of
from charter_service.people.export import ATTEMPT, attempts_of
from charter_service.people.flagged import flagged_cases
from charter_service.people.reviewing import Item, enqueue
from charter_service.web.database import writing


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
