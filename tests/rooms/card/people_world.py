"""What people give, added to the synthetic run: votes between its models, red-team attempts, reviews; from a seed."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import card_world
from card_world import write_rows

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.text.ballot import Ballot, Outcome
from charter.ground.text.dialogue import assistant, user
from charter.ground.text.records import comparison_row
from charter.ground.text.votes import Choice, comparisons_of, counts_of, vote_row
from charter_service.review.run import run as run_review
from charter_service.review.settings import Settings as ReviewSettings
from charter_service.review.settings import Simulated

TRUE = {"taught": 0.0, "sl": 60.0, "rl": 180.0}


def choices(
    axis: str, source: str, count: int, seed: int = 0, elo: Mapping[str, float] = TRUE, raters: int = 9
) -> list[Choice]:
    """Votes whose winners follow from true Elo; a fifth of the pairs is judged by two raters."""
    rng, votes = random.Random(f"{axis}{source}{seed}"), []
    for n in range(count):
        a, b = rng.sample(sorted(elo), 2)
        chance = 1 / (1 + 10 ** ((elo[b] - elo[a]) / 400))
        for second in range(1 + (rng.random() < 0.2)):
            better = "a" if rng.random() < chance else "b"
            picked: Outcome = better if axis != "harmless" else ("b" if better == "a" else "a")  # type: ignore[assignment]
            outcome: Outcome = "tie" if rng.random() < 0.04 else picked
            strength = None if outcome == "tie" else rng.choice((1, 2, 2, 3, 3, 4))
            name = f"{source}-{(n + 3 * second) % raters}"
            votes.append(
                Choice(
                    id=f"{axis}-{source}-{n}-{second}",
                    item=f"{axis}-{source}-{n}",
                    axis=axis,
                    kind="given",
                    messages=(user(f"Question {n}?"),),
                    replies=("One way.", "Another way."),
                    models=(a, b),
                    ballot=Ballot(outcome, strength),  # type: ignore[arg-type]
                    rater=name,
                    source=source,
                    left="a",
                )
            )
    return votes


def attempts(count: int, source: str = "human", models: Sequence[str] = ("taught", "rl")) -> list[dict[str, Any]]:
    rng = random.Random(f"attempts{source}")
    rows = []
    for n in range(count):
        model = models[n % len(models)]
        rating = min(4, max(0, round(rng.gauss(2.6 if model == "taught" else 1.0, 1.1))))
        talk = [user(f"Attack {n}?"), assistant("Well."), user("Go on."), assistant("No.")]
        facts = {"plan": "ask twice", "models": [model, model], "rater": f"{source}-{n % 6}"}
        rows.append({"id": f"attempt-{source}-{n}", "messages": talk, "rating": rating, "source": source, **facts})
    return rows


def add_votes(run: Path, votes: Sequence[Choice], ratings: Sequence[dict[str, Any]] = (), step: str = "votes") -> Path:
    """An artifact as the arena room leaves it."""
    folder = run / step
    write_rows(folder / "votes.jsonl", [vote_row(choice) for choice in votes])
    comparisons = [comparison for choice in votes for comparison in comparisons_of(choice)]
    write_rows(folder / "comparisons.jsonl", [comparison_row(comparison) for comparison in comparisons])
    if ratings:
        write_rows(folder / "ratings.jsonl", ratings)
    counts = {"comparisons": len(comparisons), "raters": len({c.rater for c in votes}), **counts_of(votes)}
    (folder / "counts.json").write_text(json.dumps(counts | {"ratings": len(ratings)}))
    card_world.finish(run, step, "arena", "comparisons", parents=tuple(("models", m) for m in TRUE),
                      external=(("prompts", "shipped:helpful.train"),), resolved={"base": ""})  # fmt: skip
    return folder


def add_reviews(run: Path, reports: Sequence[str] = ("eval_2", "eval_3"), step: str = "reviews") -> Path:
    """An artifact of the review room, by simulated reviewers."""
    settings = ReviewSettings(simulated=Simulated(noise=0.8))
    entries = []
    for report in reports:
        m = read_manifest(run / report)
        entries.append(Input("reports", report, m.kind, None, run / report, report, m.id))
    work = Workspace(run.parent / f"{run.name}-reviews", step=step)
    run_review(settings, Inputs(entries), work)
    shutil.rmtree(run / step, ignore_errors=True)
    shutil.move(work.path, run / step)
    shutil.rmtree(work.folder)
    card_world.finish(run, step, "review", "judgments", parents=tuple(("reports", r) for r in reports),
                      resolved=settings.model_dump(mode="json"))  # fmt: skip
    return run / step


def humanised(run: Path, step: str = "reviews") -> None:
    """The same reviews as if people had given them."""
    for file in ("judgments.jsonl", "samples/reviews.jsonl"):
        rows = [row | {"source": "human"} for row in card_world.read_rows(run / step / file)]
        write_rows(run / step / file, rows)
    m = read_manifest(run / step)
    card_world.finish(run, step, "review", "judgments", parents=tuple((p.role, p.path) for p in m.parents),
                      resolved=m.resolved | {"simulated": None})  # fmt: skip


def everything(run: Path) -> tuple[tuple[str, str], ...]:
    """Votes on three axes by people, on one by simulated raters, attempts and reviews; returns the card's parents."""
    people = [c for axis in ("helpful", "honest", "harmless") for c in choices(axis, "human", 160)]
    add_votes(run, [*people, *choices("helpful", "simulated", 240)], attempts(40))
    add_reviews(run)
    return (*card_world.CARD_PARENTS, ("votes", "votes"), ("judgments", "reviews"))


def expected_share(first: float, second: float) -> float:
    """P(first beats second) of two Elo numbers."""
    return 1 / (1 + math.pow(10, (second - first) / 400))
