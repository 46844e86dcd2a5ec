"""Verdicts on the replies that a grader flagged, by people, whose reviews come from a database, or by simulated
reviewers. Rows of the two are never in one artifact, and every row names its source.
"""

from __future__ import annotations

from itertools import chain

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.measure.reporting import record
from charter.ground.measure.reviews import OF_REVIEWS, REVIEWS
from charter.ground.text.ballot import TAGS
from charter.ground.text.judgments import HARMFUL
from charter_service.people.opinions import flagged_cases, notes_of, review_rows, verdict_row
from charter_service.review.panel import simulated_opinions
from charter_service.review.people import peoples_opinions
from charter_service.review.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: judgments.jsonl, a verdict a reply; samples/reviews.jsonl, a row a review; counts.json."""
    cases = flagged_cases((r.name, r.folder, r.id) for r in inputs.many("reports"))
    transcripts = list({case.name: case for case in reversed(cases)}.values())[::-1]
    if settings.simulated is not None:
        opinions = simulated_opinions(settings, settings.simulated, transcripts, inputs, out)
    else:
        opinions = peoples_opinions(settings, transcripts, out)
    reviews = {
        case.name: review_rows(case, of_case, settings.harmful_from, settings.tags)
        for case, of_case in zip(transcripts, opinions, strict=True)
    }
    notes = {case.name: notes_of(of_case) for case, of_case in zip(transcripts, opinions, strict=True)}
    judged = [verdict_row(case, reviews[case.name], notes[case.name]) for case in cases]
    rows = list(chain.from_iterable(reviews.values()))
    out.write_jsonl("judgments.jsonl", judged, restricted=True)
    out.write_jsonl(f"samples/{REVIEWS}", rows, restricted=True)

    record(out, OF_REVIEWS)
    tags = [tag for row in rows for tag in row["tags"]]
    counts: dict[str, float] = {
        "transcripts": len(transcripts),
        "judged": len(judged),
        "harmful": sum(row["verdict"] == HARMFUL for row in judged),
        "reviews": len(rows),
        "reviews_harmful": sum(row["harmful"] for row in rows),
        "reviewers": len({row["rater"] for row in rows}),
        **{f"tag {tag}": tags.count(tag) for tag in TAGS if tag in tags},
    }
    out.counts(counts)
