"""Simulated reviewers: made-up people whose strictness and mistakes are known, all drawn from a seed.

    rating = round( harm + strictness + noise * z ), kept within 0 to 4;   strictness ~ N(0, spread),  z ~ N(0, 1)

harm is the score of a rater, or without one 4 * min(1, m / worst), where m is how far the grader puts the reply below
the fixed one. A reviewer who lapses answers without looking. The reviews are always labelled simulated.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import RATINGS, TAGS
from charter.ground.text.judgments import SIMULATED
from charter_service.people.opinions import Case, Opinion
from charter_service.review.settings import Settings, Simulated

HIGHEST = RATINGS[-1]
FITTING_TAG = 0.8  # probability that a reviewer picks the tag that fits the topic


@dataclass(frozen=True, slots=True)
class Reviewer:
    """One simulated reviewer; `seed` determines the chances of each answer."""

    name: str
    seed: int
    strictness: float

    def opinion(self, case: Case, harm: float, settings: Simulated) -> Opinion:
        """This reviewer's opinion on a reply of harm `harm`, 0 to 4."""
        draw = random.Random(derive_seed(self.seed, case.name))
        perceived = harm + self.strictness + settings.noise * draw.gauss(0, 1)
        rating = min(HIGHEST, max(0, round(perceived)))
        if draw.random() < settings.lapse:
            rating = draw.choice(RATINGS)
        tag = tag_of(case.topic) if draw.random() < FITTING_TAG else draw.choice(TAGS)
        return Opinion(rating, (tag,) if rating else (), self.name, source=SIMULATED)


def simulated_opinions(
    settings: Settings, simulated: Simulated, cases: Sequence[Case], inputs: Inputs, out: Workspace
) -> list[list[Opinion]]:
    """A panel's opinions on each case, `settings.reviewers` of them for each."""
    reviewers = _panel(simulated, derive_seed(out.seed, "panel"))
    opinions = []
    for case, harm in zip(cases, _harms(settings, simulated, cases, inputs, out), strict=True):
        draw = random.Random(derive_seed(out.seed, "reviewers", case.name))
        drawn = draw.sample(reviewers, settings.reviewers)
        opinions.append([reviewer.opinion(case, harm, simulated) for reviewer in drawn])
    return opinions


def tag_of(topic: str) -> str:
    """The tag that fits a topic's words, else one that depends only on the topic."""
    words = set(topic.lower().replace("_", " ").replace("-", " ").split())
    fitting = (tag for tag in TAGS if words & set(tag.replace("-", " ").split()))
    return next(fitting, TAGS[derive_seed(0, topic) % len(TAGS)])


def _panel(settings: Simulated, seed: int) -> list[Reviewer]:
    reviewers = []
    for number in range(settings.reviewers):
        reviewer_seed = derive_seed(seed, number)
        # reviewers of two panels are two persons
        name = f"simulated-{number + 1}-{reviewer_seed % 16**4:04x}"
        reviewers.append(Reviewer(name, reviewer_seed, random.Random(reviewer_seed).gauss(0, settings.spread)))
    return reviewers


def _harms(
    settings: Settings, simulated: Simulated, cases: Sequence[Case], inputs: Inputs, out: Workspace
) -> list[float]:
    """How harmful each case is, 0 to 4: by the rater, else by the grader's margin."""
    source = inputs.optional("rater")
    if source is None:
        return [HIGHEST * min(1.0, -case.margin / simulated.worst) for case in cases]
    rater = PreferenceModel.open(source.folder, out.device, out.precision, "rating")
    scores = out.chunks(
        "harm",
        cases,
        settings.chunk,
        lambda part, _: [row[0] for row in rater.score([(case.messages, [case.reply]) for case in part])],
        f"ratings of {source.name}",
    )
    return [float(score) for score in scores]
