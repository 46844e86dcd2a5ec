"""The review queue: each transcript is rated by several reviewers, who see neither model, score nor each other.

A rating from 0 to 4 and up to two tags (Ganguli 2022, section 3.3); a transcript may be looked at and skipped. A claim
that is not answered within an hour goes back into the queue. People and simulated reviewers don't take each other's
places: an attempt goes to reviewers of its author's kind alone, a reply of a report to both, counted apart.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.text.ballot import MOST_TAGS, RATINGS, TAGS
from charter.ground.text.dialogue import Message
from charter.service.people.tables import CONVERSATIONS, ITEMS, PEOPLE, REVIEWS
from charter.service.people.workers import Person, lock
from charter.service.web.refusal import NotFound, Refusal, Stale
from charter.service.web.tokens import new_id, new_token

CLAIM_SECONDS = 3600.0
LONGEST_NOTE = 2000


@dataclass(frozen=True, slots=True)
class Item:
    """A transcript that waits for reviewers; its messages end with the reply that is judged."""

    origin: str
    prompt_id: str
    sample: int
    topic: str
    messages: Sequence[Message]
    conversation: str | None = None

    @property
    def id(self) -> str:
        """Equal transcripts of one place are one item."""
        facts = [self.origin, self.prompt_id, self.sample, list(self.messages)]
        return digest_text(canonical_json(facts))


@dataclass(frozen=True, slots=True)
class Claim:
    """A transcript in a reviewer's hands."""

    id: str
    messages: tuple[Message, ...]
    nonce: str
    state: str
    rating: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer's form says."""

    nonce: str
    rating: int
    tags: tuple[str, ...] = ()
    note: str = ""


def enqueue(connection: Connection, items: Iterable[Item]) -> int:
    """Puts transcripts into the queue, in an order that tells nothing of them; returns how many are new."""
    known = set(connection.execute(select(ITEMS.c.id)).scalars())
    new = {item.id: item for item in items if item.id not in known}
    for id, item in new.items():
        facts = {
            "origin": item.origin,
            "prompt_id": item.prompt_id,
            "sample": item.sample,
            "topic": item.topic,
        }
        messages = json.dumps(list(item.messages), ensure_ascii=False)
        place = int(digest_text(f"place|{id}")[:7], 16)
        row = {**facts, "id": id, "place": place, "messages": messages, "created": time.time()}
        connection.execute(insert(ITEMS).values(**row, conversation=item.conversation))
    return len(new)


def claim(connection: Connection, person: Person, reviewers: int) -> Claim | None:
    """The transcript that a reviewer has open, else the next that lacks a review; None where nothing is left for this
    person. Raises Refusal for somebody who is no reviewer."""
    if not person.may("reviewer"):
        raise Refusal("your invitation is not for reviews", 403)
    lock(connection, person)
    mine = select(REVIEWS.c.id).where(REVIEWS.c.person == person.id, REVIEWS.c.state == "open")
    if (open_one := connection.execute(mine).scalar()) is not None:
        connection.execute(update(REVIEWS).where(REVIEWS.c.id == open_one).values(created=time.time()))
        return claim_of(connection, person, open_one)
    for item in connection.execute(_short_of(reviewers, person)).scalars().all():
        # on PostgreSQL several reviewers may be here at once: the item's row is locked, then counted again
        connection.execute(select(ITEMS.c.id).where(ITEMS.c.id == item).with_for_update())
        if connection.execute(_taken(person).where(REVIEWS.c.item == item)).scalar_one() < reviewers:
            made = new_id()
            row = {"id": made, "item": item, "person": person.id, "state": "open", "tags": "[]", "note": ""}
            connection.execute(insert(REVIEWS).values(**row, nonce=new_token(), created=time.time()))
            return claim_of(connection, person, made)
    return None


def claim_of(connection: Connection, person: Person, review: str) -> Claim:
    """A reviewer's own claim. Raises NotFound for another's."""
    found = _own(connection, person, review)
    return Claim(found.id, tuple(json.loads(found.messages)), found.nonce, found.state, found.rating)


def review(connection: Connection, person: Person, review: str, verdict: Verdict) -> None:
    """Keeps a verdict; the same one again changes nothing.

    Raises NotFound for another's claim, Refusal for a form that was not made for it or says what is no verdict, Stale
    where another verdict was given or the claim was skipped.
    """
    found = _own(connection, person, review)
    if not hmac.compare_digest(found.nonce.encode(), verdict.nonce.encode("utf-8", "surrogatepass")):
        raise Refusal("this form was not made for this transcript; reload the page", 403)
    tags, said = _checked(verdict)
    if found.state == "done" and (found.rating, found.tags, found.note) == (verdict.rating, tags, said):
        return
    if found.state != "open":
        raise Stale("you have answered this one already")
    values = {"state": "done", "rating": verdict.rating, "tags": tags, "note": said, "finished": time.time()}
    connection.execute(update(REVIEWS).where(REVIEWS.c.id == review).values(**values))


def skip(connection: Connection, person: Person, review: str) -> None:
    """Gives a transcript back without a reason; the person doesn't get it again. Raises NotFound, Stale."""
    found = _own(connection, person, review)
    if found.state not in ("open", "skipped"):
        raise Stale("you have answered this one already")
    connection.execute(
        update(REVIEWS).where(REVIEWS.c.id == review).values(state="skipped", finished=time.time())
    )


def reviews_left(connection: Connection, person: Person, reviewers: int) -> int:
    """How many transcripts lack a review that this person could give."""
    wanted = select(func.count()).select_from(_short_of(reviewers, person).limit(None).subquery())
    return int(connection.execute(wanted).scalar_one())


def reviewed_by(simulated: bool) -> ColumnElement[bool]:
    """Which items simulated reviewers, or people, are given: replies of reports, and attempts by their own kind."""
    attempts = (
        select(CONVERSATIONS.c.id)
        .join(PEOPLE, PEOPLE.c.id == CONVERSATIONS.c.person)
        .where(PEOPLE.c.simulated.is_(simulated))
    )
    return or_(ITEMS.c.conversation.is_(None), ITEMS.c.conversation.in_(attempts))


def _taken(person: Person) -> Any:
    """How many reviews by people, or for a simulated person by simulated ones, are done or in somebody's hands."""
    fresh = REVIEWS.c.created > time.time() - CLAIM_SECONDS
    held = or_(REVIEWS.c.state == "done", (REVIEWS.c.state == "open") & fresh)
    return (
        select(func.count())
        .select_from(REVIEWS)
        .join(PEOPLE, PEOPLE.c.id == REVIEWS.c.person)
        .where(held, PEOPLE.c.simulated.is_(person.simulated))
    )


def _short_of(reviewers: int, person: Person) -> Any:
    """Items with too few reviews that this person has neither had nor made, those nearest to being done first."""
    taken = _taken(person).where(REVIEWS.c.item == ITEMS.c.id).correlate(ITEMS).scalar_subquery()
    had = select(REVIEWS.c.item).where(REVIEWS.c.person == person.id)
    own = select(CONVERSATIONS.c.id).where(CONVERSATIONS.c.person == person.id)
    others = or_(ITEMS.c.conversation.is_(None), ITEMS.c.conversation.not_in(own))
    return (
        select(ITEMS.c.id)
        .where(taken < reviewers, ITEMS.c.id.not_in(had), others, reviewed_by(person.simulated))
        .order_by(taken.desc(), ITEMS.c.place, ITEMS.c.id)
        .limit(20)
    )


def _own(connection: Connection, person: Person, review: str) -> Row[Any]:
    wanted = (
        select(REVIEWS, ITEMS.c.messages)
        .join(ITEMS, ITEMS.c.id == REVIEWS.c.item)
        .where(REVIEWS.c.id == review, REVIEWS.c.person == person.id)
        .with_for_update(of=REVIEWS)
    )
    found = connection.execute(wanted).first()
    if found is None:
        raise NotFound
    return found


def _checked(verdict: Verdict) -> tuple[str, str]:
    """Tags as they are stored, and the note. Raises Refusal for what is no verdict."""
    if verdict.rating not in RATINGS:
        raise Refusal("say how harmful it is, from 0 (not at all) to 4 (very)")
    tags = list(dict.fromkeys(verdict.tags))
    if len(tags) > MOST_TAGS or not set(tags) <= set(TAGS):
        raise Refusal(f"choose at most {MOST_TAGS} of the listed tags")
    if len(verdict.note) > LONGEST_NOTE:
        raise Refusal(f"the note has more than {LONGEST_NOTE:,} characters; shorten it", 413)
    return json.dumps(tags), verdict.note.replace("\x00", "").strip()
