"""Statistics by the names that reports store, so values can be recomputed from stored tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.agreement import cohen
from charter.ground.measure.bias import pearson, scaled_leaning
from charter.ground.measure.position import fitted_constant, fitted_exponent
from charter.ground.measure.reviews import fleiss
from charter.ground.measure.scaling import Ladder, LawStatistic, Model
from charter.ground.measure.score import Statistic, leaning, ratio
from charter.ground.measure.translation import OverGroups, bleu, chrf

PLAIN: Mapping[str, Statistic] = {
    "ratio": ratio,
    "leaning": leaning,
    "scaled_leaning": scaled_leaning,
    "pearson": pearson,
    "bleu": bleu,
    "chrf": chrf,
    "position_constant": fitted_constant,
    "position_exponent": fitted_exponent,
    "fleiss": fleiss,
    "cohen": cohen,
}
NAMES = {statistic: name for name, statistic in PLAIN.items()}


def encode_statistic(statistic: Statistic) -> str | dict[str, Any]:
    """A statistic as JSON. Raises CharterError for one that has no name here."""
    if isinstance(statistic, OverGroups):
        return {"over_groups": encode_statistic(statistic.of), "groups": statistic.groups, "above": statistic.above}
    if isinstance(statistic, LawStatistic):
        return {"scaling": statistic.name, "models": [asdict(model) for model in statistic.ladder.models]}
    if statistic not in NAMES:
        raise CharterError(f"the statistic {statistic!r} has no name in measure/statistics.py; add it")
    return NAMES[statistic]


def decode_statistic(spec: str | Mapping[str, Any]) -> Statistic:
    """The statistic from `encode_statistic`'s JSON. Raises KeyError or TypeError if it is none."""
    if isinstance(spec, str):
        return PLAIN[spec]
    if "scaling" in spec:
        return LawStatistic(spec["scaling"], Ladder(tuple(Model(**model) for model in spec["models"])))
    return OverGroups(decode_statistic(spec["over_groups"]), tuple(spec["groups"]), spec["above"])
