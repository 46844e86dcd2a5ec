"""A screen under another policy: the same models, other rules and, where people set them, other thresholds.

A classifier that reads the policy's text gets a new version with the policy; it keeps the thresholds that it had, since
nobody has measured it anew. Thresholds set by people are named after the classifier, so that they outlive its version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.actions import LEVELS
from charter.ground.moderation.classifiers.classifier import OfPolicy
from charter.ground.moderation.policy import Policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import Levels, Thresholds
from charter.ground.settings.problems import suggest

SIDES = ("prompt", "reply", "high_risk")
Values = Mapping[str, Mapping[str, Mapping[str, float]]]  # by classifier, side and level


def under(screen: Screen, policy: Policy, values: Values | None = None) -> Screen:
    """The screen of another policy. `values`: thresholds set by people. Raises CharterError for a classifier, side or
    level that the screen doesn't have, and for a value that is not from 0 to 1."""
    values = values or {}
    names = [classifier.name for classifier in screen.classifiers]
    if unknown := [name for name in values if name not in names]:
        raise CharterError(f"threshold of {unknown[0][:80]}: no such classifier; {suggest(unknown[0], names)}")
    classifiers, thresholds = [], {}
    for classifier in screen.classifiers:
        changed = classifier.under(policy) if isinstance(classifier, OfPolicy) else classifier
        stored = screen.thresholds[classifier.version].model_copy(update={"classifier": changed.version})
        classifiers.append(changed)
        thresholds[changed.version] = _set(stored, classifier.name, values.get(classifier.name, {}))
    return Screen(policy, classifiers, thresholds)


def values_of(screen: Screen) -> Iterator[tuple[str, str, str, float]]:
    """Classifier, side, level and value of each threshold."""
    for classifier in screen.classifiers:
        for side in SIDES:
            levels: Levels | None = getattr(screen.thresholds[classifier.version], side)
            for level in LEVELS if levels is not None else ():
                if levels is not None:
                    yield classifier.name, side, level, levels.at(level)


def _set(thresholds: Thresholds, name: str, values: Mapping[str, Mapping[str, float]]) -> Thresholds:
    """Thresholds with the values that people set; the measured figures stay those of the value before."""
    sides: dict[str, Levels] = {}
    for side, by_level in values.items():
        levels: Levels | None = getattr(thresholds, side) if side in SIDES else None
        if levels is None:
            raise CharterError(f"threshold of {name}: it has no side {side[:40]}")
        for level, value in by_level.items():
            if level not in LEVELS:
                raise CharterError(f"threshold of {name}, {side}: {suggest(level[:40], LEVELS)}")
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise CharterError(f"threshold of {name}, {side}, {level}: expected a number from 0 to 1")
            levels = levels.model_copy(update={level: getattr(levels, level).model_copy(update={"value": value})})
        sides[side] = levels
    return thresholds.model_copy(update=sides)
