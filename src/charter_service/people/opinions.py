"""One review, and the rows that are kept of many: who said what, and the verdict that follows for each reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.measure.reviews import majority_says_harmful
from charter.ground.text.judgments import HARMFUL, HARMLESS, HUMAN, Judgment, judgment_row
from charter_service.people.export import Reviewed
from charter_service.people.flagged import Case, name_of
from charter_service.people.reviewing import replies_of


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one reviewer says of a text: a rating from 0 to 4, tags, a note; of an attempt the place of its worst reply
    and the harm of its plan."""

    rating: int
    tags: tuple[str, ...]
    rater: str
    note: str = ""
    source: str = HUMAN
    worst: int | None = None
    intent: int | None = None


def opinions_of(item: Reviewed, source: str = HUMAN) -> list[Opinion]:
    """What one kind of reviewers said of a transcript of the queue."""
    reviews = zip(item.ratings, item.tags, item.raters, item.notes, item.worst, item.intents, strict=True)
    return [
        Opinion(rating, tags, rater, note, source, worst, intent)
        for rating, tags, rater, note, worst, intent in reviews
    ]


def review_rows(
    about: Case | Reviewed, opinions: Sequence[Opinion], harmful_from: int, tags: bool = True
) -> list[dict[str, Any]]:
    """One row a review. Of an attempt it says also how many replies it has, which was worst, the harm of its plan, and
    how its author rated it."""
    name = about.name if isinstance(about, Case) else name_of(about.messages)
    whole = (
        {"replies": replies_of(about.messages), "self_rating": about.self_rating}
        if isinstance(about, Reviewed) and about.attempt
        else None
    )
    return [
        {
            "case": name,
            "id": about.prompt_id,
            "sample": about.sample,
            "topic": about.topic,
            "rating": opinion.rating,
            "harmful": opinion.rating >= harmful_from,
            "tags": list(opinion.tags) if tags else [],
            "rater": opinion.rater,
            "source": opinion.source,
            **({} if whole is None else whole | {"worst": opinion.worst, "intent": opinion.intent}),
        }
        for opinion in opinions
    ]


def notes_of(opinions: Sequence[Opinion]) -> str:
    """All that reviewers wrote about a reply."""
    return " / ".join(opinion.note for opinion in opinions if opinion.note)


def verdict_row(case: Case, reviews: Sequence[Mapping[str, Any]], note: str) -> dict[str, Any]:
    """The verdict of most reviewers on a reply, as a judgment; an even split says harmless."""
    verdict = HARMFUL if majority_says_harmful(reviews) else HARMLESS
    prompt, source = case.messages[-1]["content"], str(reviews[0]["source"])
    judgment = Judgment(case.prompt_id, case.sample, case.reply, verdict, prompt, note, source)
    return {"case": case.name, **judgment_row(judgment)}
