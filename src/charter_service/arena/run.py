"""Votes between unnamed models, by people, whose answers come from a database, or by simulated raters.

Rows of the two are never in one artifact, and every row names its source.
"""

from __future__ import annotations

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.text.records import comparison_row
from charter.ground.text.votes import COMPARISONS, RATINGS, VOTES, Choice, comparisons_of, counts_of, vote_row
from charter_service.arena.pairs import model_names
from charter_service.arena.panel import simulated_choices
from charter_service.arena.people import peoples_answers
from charter_service.arena.settings import Settings
from charter_service.people.export import Attempt


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: comparisons.jsonl and votes.jsonl, and ratings.jsonl if people rated their attempts."""
    names = model_names(settings, inputs)
    if settings.base and settings.base not in names:
        raise CharterError(f"base names {settings.base!r}, which is not a model here; name one of {', '.join(names)}")
    choices: list[Choice]
    attempts: list[Attempt] = []
    if settings.simulated is not None:
        choices = simulated_choices(settings, settings.simulated, inputs, out)
    else:
        choices, attempts = peoples_answers(settings, inputs, out)
    comparisons = [comparison for choice in choices for comparison in comparisons_of(choice)]
    if not comparisons:
        raise CharterError(
            f"none of {len(choices)} answers prefers a reply; ask for more comparisons, other models, or "
            "less strict raters"
        )
    out.write_jsonl(VOTES, [vote_row(choice) for choice in choices])
    out.write_jsonl(COMPARISONS, [comparison_row(comparison) for comparison in comparisons])
    if attempts:
        out.write_jsonl(RATINGS, [attempt.row() for attempt in attempts], restricted=True)

    picked = [choice for choice in choices if choice.ballot.decided and choice.left is not None]
    counts: dict[str, float] = {
        "pairs": len({choice.item for choice in choices}),
        "comparisons": len(comparisons),
        "raters": len({choice.rater for choice in choices}),
        **counts_of(choices),
        "ratings": len(attempts),
        "left_share": sum(c.ballot.outcome == c.left for c in picked) / max(1, len(picked)),
    }
    out.counts(counts)
