"""The label of a prompt: `meta.p_refuse`, the probability that a model should refuse it."""

from __future__ import annotations

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import Dialogue

P_REFUSE = "p_refuse"
EVEN = 0.5  # from this value on a prompt is unsafe, below it harmless


def p_refuse(dialogue: Dialogue, source: str, usual: float | None = None) -> float | None:
    """A row's own label, else `usual`. Raises CharterError if the label is not a probability."""
    value = dialogue.meta.get(P_REFUSE, usual)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise CharterError(
            f"{source}: row {dialogue.id} has {P_REFUSE} {value!r}; write a probability from 0 to 1, or leave it out"
        )
    return float(value)
