"""p-values corrected for multiple tests.

Source: Holm 1979, A simple sequentially rejective multiple test procedure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def holm(raw: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's step-down correction: p-values valid over all tests together."""
    adjusted: dict[Key, float] = {}
    highest = 0.0
    for place, (name, p) in enumerate(sorted(raw.items(), key=lambda entry: entry[1])):
        highest = max(highest, min(1.0, p * (len(raw) - place)))
        adjusted[name] = highest
    return adjusted
