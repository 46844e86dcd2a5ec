"""What's new: one version against the one before, as in `charter compare`, with Holm's correction.

The version before is the start of the run, or the final stage of another card (`previous`).
"""

from __future__ import annotations

from dataclasses import dataclass

from charter.ground.reports.artifact import Artifact
from charter.ground.reports.compare import compare_stages
from charter.rooms.card.gather import Run
from charter.rooms.card.sections import Headline, between, of_model


@dataclass(frozen=True, slots=True)
class News:
    """Metrics of the policy by their corrected verdict. `refused` are those that can't be compared, with the reason."""

    before: str
    after: str
    gains: tuple[Headline, ...]
    losses: tuple[Headline, ...]
    moved: tuple[Headline, ...]
    same: tuple[Headline, ...]
    refused: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def slight(self) -> tuple[Headline, ...]:
        """Worse, not significantly."""
        return tuple(h for h in self.same if h.change is not None and h.change.drop == "any")

    @property
    def groups(self) -> tuple[tuple[str, str, tuple[Headline, ...]], ...]:
        """(key, title, rows) of what is compared, in the order of the page."""
        candidates = (
            ("better", "Gains", self.gains),
            ("worse", "Losses", self.losses),
            ("moved", "Changed, with no direction that is better", self.moved),
            ("slight", "Worse, not significant", self.slight),
            ("same", "Not significant", tuple(h for h in self.same if h not in self.slight)),
        )
        return tuple((key, title, rows) for key, title, rows in candidates if rows)


def whats_new(run: Run) -> News | None:
    """The news from the version before to the final stage; None if there is no version before."""
    before = run.previous or run.start
    return news(before, run.final) if before is not run.final else None


def news(before: Artifact, after: Artifact) -> News:
    """The metrics of two stages by verdict."""
    verdicts = {name: rows[0]["verdict"] for name, rows in compare_stages([before, after]).items()}
    policy = [name for name in verdicts if name in {*of_model(after), *of_model(before)}]
    heads = {h.name: h for h in between(before, after, policy)}

    def of(verdict: str) -> tuple[Headline, ...]:
        return tuple(heads[name] for name in policy if verdicts[name] == verdict)

    sides = (
        (f"only the {word} has it", f"only {s.label} has it")
        for word, s in (("first", before), ("second", after))
    )
    own = dict(sides)
    reasons: dict[str, list[str]] = {}
    for name in policy:
        what, _, why = verdicts[name].partition(": ")
        if what == "not compared":
            reasons.setdefault(own.get(why, why), []).append(name)
    names = before.label, after.label
    if before.label == after.label:
        names = f"{before.label} before", f"{after.label} now"
    refused = tuple((why, tuple(members)) for why, members in reasons.items())
    return News(*names, of("better"), of("worse"), of("changed"), of("not significant"), refused)
