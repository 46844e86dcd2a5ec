"""A collection's database for the commands of `charter arena`, and its tables for a terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from sqlalchemy import Engine

from charter.ground.artifact.store import atomic_write
from charter.ground.text.ballot import HARMFUL_FROM
from charter.terminal.tables import console, counted, number, plain_table
from charter_service.arena.config import load_config
from charter_service.people.export import open_people
from charter_service.people.freeze import Wanted, freeze_comparisons, freeze_judgments
from charter_service.people.progress import Progress, progress_of
from charter_service.people.quality import Quality, Share, quality_of_people
from charter_service.people.workers import Person, data_of, disable, find_person, forget, renew_key
from charter_service.web.audit import at_shell, note_act
from charter_service.web.database import reading, writing
from charter_service.web.snapshot import Frozen

CONFIGS = (".yaml", ".yml")
AGREEMENT = ("strength", "gold", "agree", "reviews", "agree")


@dataclass(frozen=True)
class OpenCollection:
    """A collection's database, with its configuration's rules for reviews."""

    engine: Engine
    reviewers: int = 3
    harmful_from: int = HARMFUL_FROM


@contextmanager
def opened(place: str) -> Iterator[OpenCollection]:
    """The database of a configuration, or a database named directly. Raises CharterError if there is none."""
    config = Path(place)
    if config.suffix in CONFIGS:
        settings = load_config(config)
        engine = open_people(settings.database, config.parent, new=False)
        collection = OpenCollection(engine, settings.reviewers, settings.harmful_from)
    else:
        collection = OpenCollection(open_people(place, new=False))
    try:
        yield collection
    finally:
        collection.engine.dispose()


def print_status(place: str, as_json: bool) -> None:
    """Prints the progress of a collection, and how carefully each person works."""
    with opened(place) as collection, reading(collection.engine) as connection:
        progress, people = progress_of(connection, collection.reviewers), quality_of_people(connection)
    if as_json:
        facts = {"progress": progress.row(), "people": [person.row() for person in people]}
        print(json.dumps(facts, ensure_ascii=False))
        return
    screen = console()
    for table in _progress_tables(progress):
        screen.print(table)
    if progress.waiting or progress.failed:
        print(f"{progress.waiting} turns wait for replies, the models of {progress.failed} failed")
    screen.print(_people_table(people) if people else "nobody has joined yet")


def frozen_comparisons(place: str, out: Path, axis: str, source: str, keep_flagged: bool) -> Frozen:
    """Freezes choices."""
    with opened(place) as collection:
        return freeze_comparisons(collection.engine, out, Wanted(axis, source, keep_flagged))


def frozen_judgments(place: str, out: Path, source: str) -> Frozen:
    """Freezes reviews, by the configuration's rules if there is a configuration."""
    with opened(place) as collection:
        return freeze_judgments(collection.engine, out, source, collection.reviewers, collection.harmful_from)


def told_frozen(frozen: Frozen) -> str:
    """The counts of an export and of left-out rows, a line each."""
    counts = {name.replace("_", " "): value for name, value in frozen.counts.items()}
    content = ", ".join(f"{value:g} {name.removesuffix('s') if value == 1 else name}" for name, value in counts.items())
    state = "written" if frozen.new else "already there, and equal"
    lines = [f"{frozen.folder} ({frozen.id[:12]}, {state}): {content}"]
    lines += [f"  left out: {count} {reason}" for reason, count in frozen.left_out.items()]
    return "\n".join(lines)


def person_with_data(collection: OpenCollection, name: str) -> tuple[Person, dict[str, Any], str]:
    """A person, all their data, and its size in words. Raises NotFound."""
    with reading(collection.engine) as connection:
        person = find_person(connection, name)
        data = data_of(connection, person.id)
    parts = ("conversations", "votes", "reviews")
    return person, data, ", ".join(counted(len(data[part]), part) for part in parts)


def hand_out(data: Mapping[str, Any], to: Path) -> None:
    """Writes a person's data to a file that only its owner can read."""
    atomic_write(to, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
    to.chmod(0o600)


def delete(collection: OpenCollection, person: int) -> None:
    """Deletes a person."""
    with writing(collection.engine) as connection:
        forget(connection, person)
        note_act(connection, at_shell(), "member.forget", f"person_{person}")


def lock(collection: OpenCollection, person: int, locked: bool) -> None:
    """Disables a person, or enables them again."""
    with writing(collection.engine) as connection:
        disable(connection, person, locked)
        act = "member.suspend" if locked else "member.admit"
        note_act(connection, at_shell(), act, f"person_{person}", after={"suspended": locked})


def new_key(collection: OpenCollection, person: int) -> str:
    """A new key for a person who lost theirs."""
    with writing(collection.engine) as connection:
        note_act(connection, at_shell(), "member.new_key", f"person_{person}")
        return renew_key(connection, person)


def _progress_tables(progress: Progress) -> Iterator[Table]:
    if progress.tasks:
        names = ("votes", "decided", "unsure", "ties", "both_bad", "edits", "flagged", "gold", "raters", "attempts")
        table = plain_table(
            ("task", "of"), ("open", "done", "skipped", *(n.replace("_", " ") for n in names), "success")
        )
        for task in progress.tasks:
            s = task.states
            states = (s["open"], s["finished"] + s["stopped"], s["skipped"])
            counts = (*states, *(getattr(task, name) for name in names))
            table.add_row(task.axis, task.source, *map(str, counts), number(task.success))
        yield table
    if progress.reviews:
        table = plain_table(("reviews", "of"), ("transcripts", "complete", "done", "needed"))
        for queue in progress.reviews:
            counts = (queue.items, queue.complete, queue.done, queue.needed)
            table.add_row("queue", queue.source, *map(str, counts))
        yield table


def _people_table(people: Sequence[Quality]) -> Table:
    shares = ("fast", "duplicate", "left", "unsure", "tie", "both_bad")
    table = plain_table(
        ("person", "role", "of"), ("votes", "seconds", *(s.replace("_", " ") for s in shares), *AGREEMENT)
    )
    for worker in people:
        name = f"{worker.name} (locked)" if worker.disabled else worker.name
        cells = [str(worker.votes), number(worker.seconds), *(_share(getattr(worker, share)) for share in shares)]
        cells += [number(worker.strength), _with_interval(worker.gold), _with_interval(worker.agreement)]
        cells += [str(worker.reviews), _with_interval(worker.review_agreement)]
        table.add_row(name, worker.role, worker.source, *cells)
    return table


def _share(share: Share) -> str:
    """'0.75', or - without answers."""
    return "-" if share.value is None else f"{share.value:.2f}"


def _with_interval(share: Share) -> str:
    """'6/8 (0.41-0.93)', or - without answers."""
    if share.interval is None:
        return "-"
    low, high = share.interval
    return f"{share.hits}/{share.of} ({low:.2f}-{high:.2f})"
