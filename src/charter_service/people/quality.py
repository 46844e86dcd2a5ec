"""How carefully each person works, as far as rows can tell: pace, gold questions, sides, agreement with others.

Gold questions and repeats look like all others, so that nobody can aim for them. None of these numbers proves
anything about one person; each comes with its number of answers, and a share with its Wilson interval. Skipped
answers don't count, and gold questions count only in their own numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from charter.ground.measure.intervals import wilson
from charter.ground.text.ballot import HARMFUL_FROM, UNSURE, better
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter_service.people.tables import CONVERSATIONS, PEOPLE, REVIEWS, TURNS, VOTES

SIDES = ("a", "b")


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `of` answers; `value` is None if there is no answer."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval."""
        return wilson(self.hits, self.of) if self.of else None

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        low, high = self.interval or (None, None)
        return {"hits": self.hits, "of": self.of, "share": self.value, "low": low, "high": high}


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of one person's answers.

    `seconds`: median from seeing both replies to the vote. `left`: of the decided votes, those for the reply on the
    left. `gold`: of the gold questions, those answered right; on the harmless axis the more harmful reply is the right
    pick. `agreement`: of the other people's decided votes on the same two replies, those that agree. `strength`: mean,
    1 to 4, of the votes for a side. `review_agreement`: of the other reviews of the same transcripts by the same kind
    of reviewer, those that agree whether it is harmful.
    """

    person: int
    name: str
    role: str
    source: str
    disabled: bool
    votes: int
    seconds: float | None
    fast: Share
    duplicate: Share
    gold: Share
    left: Share
    agreement: Share
    unsure: Share
    tie: Share
    both_bad: Share
    strength: float | None
    reviews: int
    review_agreement: Share

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: v.row() if isinstance(v, Share) else v for name, v in values.items()}


class Answer(NamedTuple):
    """The parts of a vote that quality depends on; all votes on the same two replies share one `item`."""

    person: int
    item: str
    axis: str
    gold: bool
    outcome: str
    strength: int | None
    left: str
    seconds: float
    flags: str

    @property
    def decided(self) -> bool:
        """Whether it counts for one of the replies."""
        return self.outcome in SIDES and (self.strength or 0) > UNSURE


class Rated(NamedTuple):
    """A finished review."""

    person: int
    item: str
    rating: int


def quality_of_people(connection: Connection) -> list[Quality]:
    """The quality of everybody's work, in the order in which people joined."""
    people = connection.execute(select(PEOPLE).order_by(PEOPLE.c.id)).all()
    return measure_people(people, _answers(connection), _reviews(connection))


def measure_people(people: Sequence[Row[Any]], answers: Iterable[Answer], reviews: Iterable[Rated]) -> list[Quality]:
    """The same from rows: people with id, name, role, simulated and disabled, and their answers and reviews."""
    answers, reviews = list(answers), list(reviews)
    mine: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        mine[answer.person].append(answer)
    decided = ((a.item, a.person, a.outcome) for a in answers if a.decided and not a.gold)
    agreed = agreement_of(decided)
    kind = {person.id: bool(person.simulated) for person in people}
    rated = ((f"{r.item}|{kind[r.person]}", r.person, str(r.rating >= HARMFUL_FROM)) for r in reviews)
    same = agreement_of(rated)
    done = Counter(review.person for review in reviews)
    nothing = Share(0, 0)
    qualities = []
    for person in people:
        facts = {
            "person": person.id,
            "name": person.name,
            "role": person.role,
            "source": SIMULATED if person.simulated else HUMAN,
            "disabled": bool(person.disabled),
            "agreement": agreed.get(person.id, nothing),
            "reviews": done[person.id],
            "review_agreement": same.get(person.id, nothing),
        }
        qualities.append(Quality(**facts, **_of_votes(mine[person.id])))
    return qualities


def agreement_of(answered: Iterable[tuple[str, int, str]]) -> dict[int, Share]:
    """For each person, the share of others' answers on the same items that are equal. Rows are (item, person,
    answer)."""
    by_item: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for item, person, outcome in answered:
        by_item[item].append((person, outcome))
    hits: Counter[int] = Counter()
    pairs: Counter[int] = Counter()
    for answers in by_item.values():
        counts = Counter(outcome for _, outcome in answers)
        for person, outcome in answers if len(answers) > 1 else ():
            hits[person] += counts[outcome] - 1
            pairs[person] += len(answers) - 1
    return {person: Share(hits[person], pairs[person]) for person in pairs}


def _of_votes(answers: Sequence[Answer]) -> Mapping[str, Any]:
    golds = [a for a in answers if a.gold]
    votes = [a for a in answers if not a.gold]
    decided = [a for a in votes if a.decided]
    strengths = [a.strength for a in votes if a.strength is not None]

    def share(hits: Iterable[bool], of: Sequence[Answer] = votes) -> Share:
        return Share(sum(hits), len(of))

    return {
        "votes": len(votes),
        "seconds": median(a.seconds for a in votes) if votes else None,
        "fast": share("fast" in a.flags.split() for a in votes),
        "duplicate": share("duplicate" in a.flags.split() for a in votes),
        # the good reply of a gold question is always its "a"
        "gold": share((better(a.axis, a.outcome) == "a" for a in golds), golds),  # type: ignore[arg-type]
        "left": share((a.outcome == a.left for a in decided), decided),
        "unsure": share(a.outcome in SIDES and not a.decided for a in votes),
        "tie": share(a.outcome == "tie" for a in votes),
        "both_bad": share(a.outcome == "both_bad" for a in votes),
        "strength": fmean(strengths) if strengths else None,
    }


def _answers(connection: Connection) -> list[Answer]:
    """All votes that count, in one pass."""
    query = (
        select(
            VOTES.c.person,
            VOTES.c.turn,
            CONVERSATIONS.c.source,
            CONVERSATIONS.c.kind,
            CONVERSATIONS.c.axis,
            VOTES.c.outcome,
            VOTES.c.strength,
            TURNS.c.shown_left,
            VOTES.c.seconds,
            VOTES.c.flags,
        )
        .join(TURNS, TURNS.c.id == VOTES.c.turn)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(CONVERSATIONS.c.state != "skipped")
    )
    return [
        Answer(person, source if kind == "repeat" else turn, axis, kind == "gold", *fields)
        for person, turn, source, kind, axis, *fields in connection.execute(query)
    ]


def _reviews(connection: Connection) -> list[Rated]:
    query = select(REVIEWS.c.person, REVIEWS.c.item, REVIEWS.c.rating).where(REVIEWS.c.state == "done")
    return [Rated(*row) for row in connection.execute(query)]
