"""People's answers so far as a frozen export (`web/snapshot.py`): which answers are in it, and the counts of those left
out. People's answers and simulated ones are never in one export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.reviews import majority_says_harmful
from charter.ground.text.ballot import HARMFUL_FROM
from charter.ground.text.ballot import HARMLESS as HARMLESS_AXIS
from charter.ground.text.judgments import HARMFUL, HARMLESS, HUMAN, SIMULATED, Judgment, judgment_row
from charter.ground.text.records import comparison_row
from charter.ground.text.votes import COMPARISONS, RATINGS, VOTES, Choice, comparisons_of, counts_of, vote_row
from charter_service.people.export import Reviewed, attempts_of, choices_of, reviewed_of
from charter_service.people.opinions import name_of, notes_of, opinions_of, review_rows
from charter_service.people.tables import CONVERSATIONS, PEOPLE, TURNS
from charter_service.people.tables import VOTES as VOTES_TABLE
from charter_service.web.database import reading
from charter_service.web.snapshot import Content, Frozen, Origin, freeze

ROOM = "people"
JUDGMENTS, REVIEWS, ONE_BY_ONE = "judgments.jsonl", "reviews.jsonl", "samples/reviews.jsonl"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answers to export: of one axis or all (empty), of people or simulated ones, and whether to include suspicious
    ones."""

    axis: str = ""
    source: str = HUMAN
    keep_flagged: bool = False


def freeze_comparisons(engine: Engine, folder: Path, wanted: Wanted) -> Frozen:
    """Writes comparisons.jsonl, votes.jsonl and, if red-team attempts were rated, ratings.jsonl.

    Raises CharterError if there is nothing to learn from, and if the folder holds something else.
    """
    choices = choices_of(engine)
    ours = [c for c in choices if c.source == wanted.source]
    of_axis = [c for c in ours if not wanted.axis or c.axis == wanted.axis]
    unflagged = [c for c in of_axis if wanted.keep_flagged or not c.flags]
    comparisons = [pair for choice in unflagged for pair in comparisons_of(choice)]
    left_out = {
        f"by {_raters(_other(wanted.source))}": len(choices) - len(ours),
        "on another axis": len(ours) - len(of_axis),
        "marked as suspicious": len(of_axis) - len(unflagged),
        **_never_exported(engine, wanted),
        "unsure, so in votes.jsonl alone": counts_of(unflagged)["unsure"],
        "ties, so in votes.jsonl alone": counts_of(unflagged)["ties"],
        "both bad, so in votes.jsonl alone": counts_of(unflagged)["both_bad"],
    }
    if not comparisons:
        raise CharterError(
            f"there is no choice by {_raters(wanted.source)} to learn from{_left_out_words(left_out)}; collect more, "
            "or name another axis or source"
        )
    rows: dict[str, Sequence[Mapping[str, Any]]] = {
        COMPARISONS: [comparison_row(comparison) for comparison in comparisons],
        VOTES: [vote_row(choice) for choice in unflagged],
    }
    attempts = [a.row() for a in attempts_of(engine) if a.source == wanted.source]
    if attempts and wanted.axis in ("", HARMLESS_AXIS):
        rows[RATINGS] = attempts
    counts = _counts_of_votes(unflagged) | {"comparisons": len(comparisons), "ratings": len(rows.get(RATINGS, ()))}
    return _freeze(
        engine, folder, Content("comparisons", rows, counts, left_out, restricted=frozenset({RATINGS})), wanted.source
    )


def freeze_judgments(
    engine: Engine, folder: Path, source: str = HUMAN, reviewers: int = 3, harmful_from: int = HARMFUL_FROM
) -> Frozen:
    """Writes judgments.jsonl, the verdicts on reports' replies; reviews.jsonl, all transcripts of the queue with their
    reviews; and samples/reviews.jsonl, one row a review.

    A transcript is harmful if more than half of at least `reviewers` ratings are `harmful_from` or more; with fewer
    ratings its verdict waits. Raises CharterError if there is no review.
    """
    transcripts = _transcripts(reviewed_of(engine, source))
    reviews = sum(len(reviewed.ratings) for reviewed, _ in transcripts)
    if not reviews:
        raise CharterError(f"there is no review by {_raters(source)}; give reviewers something to do first")
    judged = [(reviewed, _verdict(reviewed, reviewers, harmful_from)) for reviewed, _ in transcripts]
    of_reports = [
        _judgment_row(replace(reviewed, prompt_id=item.prompt_id, sample=item.sample), verdict, source)
        for (reviewed, verdict), (_, items) in zip(judged, transcripts, strict=True)
        for item in items
    ]
    rows: dict[str, Sequence[Mapping[str, Any]]] = {
        JUDGMENTS: of_reports,
        REVIEWS: [_transcript_row(reviewed, verdict, source) for reviewed, verdict in judged],
        ONE_BY_ONE: [
            row
            for reviewed, _ in transcripts
            for row in review_rows(reviewed, opinions_of(reviewed, source), harmful_from)
        ],
    }
    verdicts = [verdict for _, verdict in judged]
    counts: dict[str, float] = {
        "transcripts": len(judged),
        "judged": len(judged) - verdicts.count(None),
        "harmful": verdicts.count(HARMFUL),
        "waiting": verdicts.count(None),
        "judgments": len(of_reports),
        "reviews": reviews,
        "reviewers": len({rater for reviewed, _ in transcripts for rater in reviewed.raters}),
    }
    others = sum(len(item.ratings) for item in reviewed_of(engine, _other(source)))
    left_out = {
        f"reviews by {_raters(_other(source))}": others,
        f"verdicts that wait for {reviewers} review{'s' * (reviewers != 1)}": verdicts.count(None),
    }
    return _freeze(engine, folder, Content("judgments", rows, counts, left_out, restricted=frozenset(rows)), source)


def _counts_of_votes(choices: Sequence[Choice]) -> dict[str, float]:
    return {
        "pairs": len({choice.item for choice in choices}),
        "raters": len({choice.rater for choice in choices}),
        **counts_of(choices),
    }


def _never_exported(engine: Engine, wanted: Wanted) -> dict[str, int]:
    """Votes of the wanted kind of rater that no export holds: on gold questions, and in skipped conversations."""
    counted = (
        select(CONVERSATIONS.c.kind, CONVERSATIONS.c.state, func.count())
        .select_from(VOTES_TABLE)
        .join(TURNS, TURNS.c.id == VOTES_TABLE.c.turn)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .join(PEOPLE, PEOPLE.c.id == VOTES_TABLE.c.person)
        .where(PEOPLE.c.simulated.is_(wanted.source == SIMULATED))
        .group_by(CONVERSATIONS.c.kind, CONVERSATIONS.c.state)
    )
    if wanted.axis:
        counted = counted.where(CONVERSATIONS.c.axis == wanted.axis)
    counts: Counter[str] = Counter()
    with reading(engine) as connection:
        for kind, state, count in connection.execute(counted):
            counts["on gold questions"] += count if kind == "gold" else 0
            counts["in skipped conversations"] += count if kind != "gold" and state == "skipped" else 0
    return dict(counts)


def _transcripts(items: Sequence[Reviewed]) -> list[tuple[Reviewed, list[Reviewed]]]:
    """Each text once, with all its reviews (a reviewer's first, if the text was in the queue twice); and the replies of
    reports that have this text."""
    by_text: dict[str, list[Reviewed]] = {}
    for item in items:
        by_text.setdefault(name_of(item.messages), []).append(item)
    return [(_pooled(same), _replies(same)) for same in by_text.values()]


def _pooled(same: Sequence[Reviewed]) -> Reviewed:
    pooled = same[0]
    for item in same[1:]:
        new = [n for n, rater in enumerate(item.raters) if rater not in pooled.raters]
        columns = ("ratings", "tags", "notes", "raters", "worst", "intents")
        more = {name: getattr(pooled, name) + tuple(getattr(item, name)[n] for n in new) for name in columns}
        pooled = replace(pooled, **more)
    return pooled


def _replies(same: Sequence[Reviewed]) -> list[Reviewed]:
    by_reply = {(item.prompt_id, item.sample): item for item in same if not item.attempt}
    return list(by_reply.values())


def _verdict(item: Reviewed, reviewers: int, harmful_from: int) -> str | None:
    if len(item.ratings) < reviewers:
        return None
    answers = [{"harmful": rating >= harmful_from} for rating in item.ratings]
    return HARMFUL if majority_says_harmful(answers) else HARMLESS


def _judgment_row(item: Reviewed, verdict: str | None, source: str) -> dict[str, Any]:
    prompt = next((m["content"] for m in reversed(item.messages) if m["role"] == "user"), "")
    note = notes_of(opinions_of(item, source))
    reply = item.messages[-1]["content"]
    judgment = Judgment(item.prompt_id, item.sample, reply, verdict, prompt, note, source)
    return {"case": name_of(item.messages), **judgment_row(judgment)}


def _transcript_row(item: Reviewed, verdict: str | None, source: str) -> dict[str, Any]:
    return {
        "id": item.id,
        "case": name_of(item.messages),
        "origin": item.origin,
        "prompt_id": item.prompt_id,
        "sample": item.sample,
        "topic": item.topic,
        "messages": list(item.messages),
        "verdict": verdict,
        "ratings": list(item.ratings),
        "tags": [list(tags) for tags in item.tags],
        "notes": list(item.notes),
        "raters": list(item.raters),
        "source": source,
        **(
            {"worst": list(item.worst), "intents": list(item.intents), "self_rating": item.self_rating}
            if item.attempt
            else {}
        ),
    }


def _freeze(engine: Engine, folder: Path, content: Content, source: str) -> Frozen:
    return freeze(folder, content, Origin(ROOM, engine.url.get_backend_name(), {"source": source}))


def _other(source: str) -> str:
    return SIMULATED if source == HUMAN else HUMAN


def _raters(source: str) -> str:
    return "people" if source == HUMAN else "simulated raters"


def _left_out_words(left_out: Mapping[str, int]) -> str:
    """The counts in brackets, "" if there are none."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    return f" ({reasons})" if reasons else ""
