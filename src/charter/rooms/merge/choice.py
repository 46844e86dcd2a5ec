"""Which place of the line is taken: of those that refuse few enough harmless prompts, the one that refuses most of the
others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A share of the policy, and what the model there refuses: rates over harmless prompts and over the others."""

    share: float
    refused_prompts: float
    refused_harmless: float


def choose(places: Sequence[Place], most_refusal: float) -> Place:
    """The place that is taken; if none keeps the bound, the one that refuses the fewest harmless prompts.

    Of equal ones the nearest to the start.
    """
    within = [place for place in places if place.refused_harmless <= most_refusal]
    if not within:
        least = min(place.refused_harmless for place in places)
        within = [place for place in places if place.refused_harmless == least]
    return max(within, key=lambda place: (place.refused_prompts, -place.share))
