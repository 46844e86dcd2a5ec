"""Simulated raters: made-up people whose taste, biases and mistakes are known, all drawn from a seed.

A rater sees a left and a right reply, each with a utility u (the score of a preference model that nobody in the loop
learns from), and perceives, as a random utility model does (McFadden 1974),

    v = ±u + noise * g + length_bias * ln(characters) + position_bias * [on the left],   g ~ Gumbel(0, 1)

with - if the question is which reply is worse, as on the harmless axis. Differences of g are logistic: without
biases the rater picks by the Bradley-Terry model, P(left) = σ((u_left - u_right) / noise). The margin v_left - v_right
becomes an answer on eight points, a tie, or, if both replies please too little, "both bad". A rater who lapses answers
without looking.

The answers are always labelled simulated.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import HARMLESS, STRENGTHS

# least margins, in units of the rater's strictness, of the answers above the weakest
CUTS = (0.25, 1.0, 2.0)


class Simulated(Frozen):
    """A panel of simulated raters; utilities are scores of a preference model, so that these are in its units."""

    raters: int = Field(8, ge=1, description="raters in the panel")
    noise: float = Field(
        1.0, ge=0, description="scale of what a rater's taste adds to a score; 0: the better one always wins"
    )
    position_bias: float = Field(0.1, description="what standing on the left is worth, in score units")
    length_bias: float = Field(0.1, description="what e times the characters are worth to a rater, in score units")
    lapse: float = Field(0.02, ge=0, le=1, description="share of answers given without a look")
    strictness: float = Field(1.0, gt=0, description="how large margins must be for each strength of an answer")
    spread: float = Field(
        0.3, ge=0, description="how raters differ: each value times exp(spread * z), z of a normal distribution"
    )
    tie_within: float = Field(0.0, ge=0, description="a smaller margin is called a tie; 0: only equal replies")
    both_bad_below: float | None = Field(
        None, description="both replies perceived below this score are called bad; none: never"
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A reply as a rater sees it, and its utility."""

    text: str
    utility: float


@dataclass(frozen=True, slots=True)
class Rater:
    """One simulated rater with their own values; `seed` determines the chances of each answer."""

    name: str
    seed: int
    noise: float
    position_bias: float
    length_bias: float
    lapse: float
    strictness: float
    tie_within: float
    both_bad_below: float | None

    def answer(self, item: str, axis: str, left: Seen, right: Seen) -> str:
        """This rater's answer on an item, in the words of the form: "-4" (left, by far) to "-1", "1" to "4" (right, by
        far), "tie" or "both_bad". On the harmless axis the rater picks the more harmful reply.

        Taste depends on the reply and not on its place: without position bias, the same replies in the other order get
        the same answer, mirrored.
        """
        if left.text == right.text:
            return "tie"
        if self._draw(item, "lapse").random() < self.lapse:
            return self._careless(item)
        perceived = [self._perceived(item, reply) for reply in (left, right)]
        if self.both_bad_below is not None and max(perceived) < self.both_bad_below:
            return "both_bad"
        sign = -1 if axis == HARMLESS else 1
        margin = sign * (perceived[0] - perceived[1]) + self.position_bias
        margin += self.length_bias * (_log_length(left) - _log_length(right))
        if abs(margin) < self.tie_within or margin == 0:
            return "tie"
        strength = strength_of(abs(margin) / self.strictness)
        return str(-strength if margin > 0 else strength)

    def _perceived(self, item: str, reply: Seen) -> float:
        chance = self._draw(item, "taste", reply.text).random()
        return reply.utility - self.noise * math.log(-math.log(min(max(chance, 1e-12), 1 - 1e-12)))

    def _careless(self, item: str) -> str:
        draw = self._draw(item, "careless")
        return str(draw.choice((-1, 1)) * draw.choice(STRENGTHS))

    def _draw(self, item: str, *names: str) -> random.Random:
        return random.Random(derive_seed(self.seed, item, *names))


def panel(settings: Simulated, seed: int) -> list[Rater]:
    """The raters of a panel, all drawn from one seed."""
    return [_rater(settings, derive_seed(seed, "rater", number), number) for number in range(settings.raters)]


def raters_of(item: str, raters: list[Rater], count: int, seed: int) -> list[Rater]:
    """The raters of an item: `count` of the panel, drawn independently of everything else."""
    return random.Random(derive_seed(seed, "raters", item)).sample(raters, min(count, len(raters)))


def strength_of(margin: float) -> int:
    """The strength, 1 (unsure) to 4, of a margin in units of the rater's strictness."""
    return 1 + sum(margin >= cut for cut in CUTS)


def _rater(settings: Simulated, seed: int, number: int) -> Rater:
    draw = random.Random(seed)

    def varied(value: float) -> float:
        return value * math.exp(settings.spread * draw.gauss(0, 1))

    return Rater(
        name=f"simulated-{number + 1}-{seed % 16**4:04x}",  # raters of two panels are two persons
        seed=seed,
        noise=varied(settings.noise),
        position_bias=varied(settings.position_bias),
        length_bias=varied(settings.length_bias),
        lapse=min(1.0, varied(settings.lapse)),
        strictness=varied(settings.strictness),
        tie_within=varied(settings.tie_within),
        both_bad_below=settings.both_bad_below,
    )


def _log_length(reply: Seen) -> float:
    return math.log(max(1, len(reply.text)))
