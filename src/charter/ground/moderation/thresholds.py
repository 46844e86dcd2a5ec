"""Thresholds chosen from data: the lowest score that no more than a target share of harmless texts reaches.

    threshold = min t:  #(harmless scores >= t) / n  <=  target

Each is stored with its target, the number of harmless texts, how many of them reach it, and the Wilson interval of that
share: n texts can't distinguish a rate below 1 / n from 0. A script measures those of `charter-aup` and writes the
shipped file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import wilson
from charter.ground.moderation.actions import LEVELS, Level, Side
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_yaml_file
from charter.ground.settings.problems import validate
from charter.ground.settings.sources import shipped

SHIPPED = "acceptable_use_thresholds"
TARGETS: Mapping[Level, float] = {"standard": 0.01, "enhanced": 0.05}  # of harmless look-alikes


RELIEF = 0.5  # log odds
CLOSEST = 1e-6  # least distance of a score from 0 and from 1


class Threshold(Frozen):
    """A threshold, and the data that it was chosen on."""

    value: float = Field(ge=0, description="scores at or above it act")
    target: float = Field(gt=0, lt=1, description="the target false-positive rate")
    n: int = Field(ge=1, description="harmless texts that it was chosen on")
    hits: int = Field(ge=0, description="of these, how many reach it")
    low: float = Field(ge=0, le=1, description="95 % Wilson interval of hits / n, lower end")
    high: float = Field(ge=0, le=1, description="its upper end")


class Levels(Frozen):
    """The threshold of each sensitivity level."""

    standard: Threshold = Field(description="for most accounts")
    enhanced: Threshold = Field(description="while an account is under the enhanced filter")

    def at(self, level: Level) -> float:
        """The score that acts at a level."""
        return (self.standard if level == "standard" else self.enhanced).value

    def running_score(self, turns: Sequence[float]) -> float:
        """The score of a conversation from the scores of its user turns, in order: a cumulative sum (Page 1954) of how
        far each is above the enhanced threshold, in log odds. A single turn keeps its score. Turns between the two
        thresholds add up; one below them subtracts at most RELIEF, so that idle talk between two attempts doesn't hide
        them."""
        reference, total = _log_odds(self.enhanced.value), 0.0
        for score in turns:
            total = max(0.0, total + max(_log_odds(score) - reference, -RELIEF))
        return 1 / (1 + math.exp(-(reference + total))) if total else 0.0


class Thresholds(Frozen):
    """The thresholds of one classifier, for prompts, replies and high-risk rules."""

    classifier: str = Field(description="version of the classifier whose scores these are for")
    prompt: Levels | None = Field(None, description="violation scores of prompts")
    reply: Levels | None = Field(None, description="violation scores of replies")
    high_risk: Levels | None = Field(None, description="scores of high-risk rules, prompts only")

    def of(self, side: Side) -> Levels | None:
        """The thresholds of a side's violation scores."""
        return self.prompt if side == "prompt" else self.reply


def choose(harmless: Sequence[float], target: float) -> Threshold:
    """The threshold for a target rate on harmless scores. Raises CharterError if there are none."""
    if not harmless:
        raise CharterError("a threshold is chosen on scores of harmless texts; there are none")
    ordered = sorted(harmless, reverse=True)
    most = math.floor(target * len(ordered) + 1e-9)  # how many may reach it
    value = math.nextafter(ordered[most], math.inf) if most < len(ordered) else 0.0
    hits = sum(score >= value for score in ordered)
    low, high = wilson(hits, len(ordered))
    return Threshold(value=value, target=target, n=len(ordered), hits=hits, low=low, high=high)


def choose_levels(*groups: Sequence[float], targets: Mapping[Level, float] = TARGETS) -> Levels:
    """The threshold of every level: the highest that any group of harmless scores needs, so that each group keeps
    its target. Empty groups are ignored."""
    nonempty = [group for group in groups if group]
    thresholds = {level: [choose(group, targets[level]) for group in nonempty] for level in LEVELS}
    if not nonempty:
        raise CharterError("a threshold is chosen on scores of harmless texts; there are none")
    return Levels(**{level: max(candidates, key=lambda t: t.value) for level, candidates in thresholds.items()})


def read_thresholds(path: Path) -> dict[str, Thresholds]:
    """Thresholds of a YAML file by version of the classifier. Raises CharterError."""
    raw = read_yaml_file(path, "file of thresholds", "thresholds", "the acceptable_use evaluation")
    return by_version(validate(Thresholds, entry, path) for entry in raw.get("thresholds", []))


def by_version(entries: Iterable[Thresholds]) -> dict[str, Thresholds]:
    """Thresholds by the version of their classifier."""
    return {entry.classifier: entry for entry in entries}


@lru_cache(maxsize=1)
def shipped_thresholds() -> dict[str, Thresholds]:
    """The thresholds that come with charter, measured on the default classifier."""
    return read_thresholds(shipped(SHIPPED))


def _log_odds(score: float) -> float:
    bounded = min(max(score, CLOSEST), 1 - CLOSEST)
    return math.log(bounded / (1 - bounded))
