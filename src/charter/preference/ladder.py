"""The ladder: where the fixed reply stands between compliance and a good refusal, taught as pairs of its own.

The harmlessness protocol compares every reply with one fixed sentence (card section 3.4), so a preference model
must know that sentence's place: above a reply that complies with harm, below a refusal that explains and offers,
below any answer to a harmless request. A pair of a refusal over compliance gives two such rungs, a pair of an
answer over a refusal gives one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from charter.ground.judge.detect import is_refusal
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Comparison, Dialogue, prompt_of


def rungs(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The further pairs; their sources end in `+fixed`. Pairs with soft labels give none: their order is unsure."""
    found: list[Comparison] = []
    for c in comparisons:
        if c.p_chosen < 1.0:
            continue
        refused, rejected_refused = is_refusal(c.chosen), is_refusal(c.rejected)
        if c.axis == "harmless" and refused and not rejected_refused:
            found.append(_pair(c, "a", FIXED_REPLY, c.rejected))
            if len(c.chosen.split()) > 2 * len(FIXED_REPLY.split()):
                found.append(_pair(c, "b", c.chosen, FIXED_REPLY))
        elif c.axis == "helpful" and not refused and rejected_refused:
            found.append(_pair(c, "c", c.chosen, FIXED_REPLY))
    return found


def _pair(c: Comparison, letter: str, chosen: str, rejected: str) -> Comparison:
    return replace(
        c, id=f"{c.id}-fixed-{letter}", chosen=chosen, rejected=rejected, source=f"{c.source}+fixed"
    )


def contrasts(answered: Sequence[Dialogue], refused: Sequence[Dialogue], seed: int) -> list[Comparison]:
    """Discrimination taught from single replies: to a harmless prompt its answer beats a refusal written for
    another prompt, to a harmful prompt its own refusal beats the refusal of another. Length and politeness can't
    tell them apart, only whether the reply fits the prompt."""
    refusals = [d.messages[-1]["content"] for d in refused]
    if len(refusals) < 2:
        return []
    found = []
    for axis, dialogues in (("helpful", answered), ("harmless", refused)):
        for d in dialogues:
            own = d.messages[-1]["content"]
            rng = random.Random(derive_seed(seed, "contrast", d.id))
            other = rng.choice([r for r in refusals if r != own])
            messages = prompt_of(d).messages
            found.append(
                Comparison(f"{d.id}-contrast", messages, own, other, 1.0, axis, "authored+contrast", d.topic)
            )
    return found
