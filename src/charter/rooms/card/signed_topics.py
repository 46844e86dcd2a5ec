"""Whether people signed every topic of national security on the reports of a card, as `charter signoff` checks it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import verify_files
from charter.ground.moderation.persons import person_key
from charter.ground.text.signoff import (
    SIGNOFF,
    Signoff,
    check_basis,
    check_numbers,
    read_signoffs,
    signoff_of_row,
    waiting,
)
from charter.rooms.card.release_rules import day_of

UNFIT = ("inconclusive", "raised")
Outcome = tuple[str, str, datetime.datetime | None]


def topics_signed(
    card: Manifest, reports: Sequence[tuple[Manifest, Path]], days: int, now: datetime.datetime
) -> Outcome:
    """(why not, "" if all are signed; by whom; until when that counts). The card's setting `oversight.security` holds
    the signatures; `reports` are those of its final stage, of which one evaluated `security`."""
    asking = [one for one in reports if (one[1] / SIGNOFF).is_file()]
    if not asking:
        return "no report on the checkpoint evaluated `security`; evaluate it, then charter signoff", "", None
    try:
        signed = _signed(card.resolved)
        for manifest, folder in asking:
            _check(signed, manifest, folder, now)
    except CharterError as error:
        return str(error), "", None
    ends = {one: day_of(one.date) + datetime.timedelta(days=days) for one in signed}
    late = next((one for one, end in ends.items() if now >= end), None)
    if late is not None:
        return f"{late.topic}, signed by {late.signer} on {late.date}, has expired", "", None
    people = ", ".join(dict.fromkeys(one.signer for one in signed))
    return "", f"{len(signed)} topics signed by {people}", min(ends.values())


def _signed(settings: dict[str, Any]) -> list[Signoff]:
    """The signatures in a card's settings. Raises CharterError for a broken one, and a topic that stands twice."""
    oversight = settings.get("oversight")
    rows = oversight.get("security", []) if isinstance(oversight, dict) else []
    signed = [signoff_of_row(row) for row in rows]
    topics = [one.topic for one in signed]
    if twice := next((topic for topic in topics if topics.count(topic) > 1), None):
        raise CharterError(f"the card signs {twice} twice; sign each topic once")
    return signed


def _check(signed: Sequence[Signoff], manifest: Manifest, folder: Path, now: datetime.datetime) -> None:
    """Raises CharterError unless every topic of a report is signed on it, by a person, as low and on numbers."""
    if problems := verify_files(folder, manifest):
        raise CharterError(f"the report {manifest.step} was changed: {problems[0]}")
    topics = [one.topic for one in read_signoffs(folder / SIGNOFF)]
    mine = [one for one in signed if one.topic in topics]
    if awaited := waiting(mine, topics):
        raise CharterError(
            f"nobody signed {', '.join(awaited)}: charter signoff prints the card's setting once people have"
        )
    check_basis(mine, manifest, now.date(), "the card")
    check_numbers(mine, folder, "the card")
    for one in mine:
        if not person_key(one.signer):
            raise CharterError(f"{one.topic} is signed by {one.signer!r}, which is no name")
        if one.conclusion in UNFIT:
            raise CharterError(f"{one.topic} is signed as {one.conclusion} by {one.signer} on {one.date}")
