"""How a model is shown to people: settings, and which of several sampled replies are shown. `shown.py` does it.

    policy      as it is
    plain       a language model without character: one example conversation before the dialogue, as plain text
    prompted    the HHH prompt before it: a paragraph and 14 example conversations
    rejection   of 16 samples the best by a preference model
    median      of 17 samples the middle one by a preference model

The r-th best of k samples is no draw of the policy: if no two scores tie, its distribution over quantiles of the score
is Beta(a, r) with a = k + 1 - r, which is

    KL = ln(k! / ((a - 1)! (r - 1)!)) + (a - 1) H_(a-1) + (r - 1) H_(r-1) - (k - 1) H_k     nats from the policy at most

with H_n = 1 + 1/2 + ... + 1/n. For the best, r = 1, that is ln k - (k - 1)/k.

Sources: Askell 2021 (2112.00861); Bai 2022a (2204.05862) 2.6, 4.3 and B.4; Ganguli 2022 (2209.07858) section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from charter.ground.settings.frozen import Frozen

Prompting = Literal["policy", "plain", "prompted"]
Mode = Literal["policy", "plain", "prompted", "rejection", "median"]
SAMPLES = {"rejection": 16, "median": 17}
EXAMPLES = 14


class SamplingStrategy(Frozen):
    """How one model is shown."""

    mode: Mode = Field(
        "policy",
        description="as it is; behind one example as plain text; behind the HHH prompt; or best or median of samples",
    )
    samples: int = Field(0, ge=0, description="replies that are ranked; 0: 16 of `rejection`, 17 of `median`")
    sampled: Prompting = Field("policy", description="how the model is asked for the replies that are ranked")
    grader: str = Field(
        "", description="reference of the preference model that ranks; empty where it comes along otherwise"
    )
    examples: int = Field(
        EXAMPLES, ge=0, le=EXAMPLES, description="conversations of the HHH prompt, the last ones"
    )
    form: Literal["text", "turns"] | None = Field(
        None,
        description="of the HHH prompt; none: text where the engine continues text, turns of a chat elsewhere",
    )

    @model_validator(mode="after")
    def _agree(self) -> SamplingStrategy:
        fields = [name for name in ("samples", "grader") if getattr(self, name)]
        fields += ["sampled"] if self.sampled != "policy" else []
        if fields and not self.ranks:
            raise ValueError(
                f"{fields[0]} belongs to mode rejection or median, not to {self.mode}; leave it out"
            )
        fields = ["examples"] if self.examples != EXAMPLES else []
        fields += ["form"] if self.form is not None else []
        if fields and self.prompting != "prompted":
            raise ValueError(f"{fields[0]} belongs to the HHH prompt, which is not shown here; leave it out")
        return self

    @property
    def ranks(self) -> bool:
        """Whether replies are chosen among samples by a preference model."""
        return self.mode in SAMPLES

    @property
    def count(self) -> int:
        """Samples that are ranked."""
        return self.samples or SAMPLES[self.mode] if self.ranks else 1

    @property
    def prompting(self) -> Prompting:
        """How the model itself is asked."""
        return self.sampled if self.mode == "rejection" or self.mode == "median" else self.mode

    @property
    def words(self) -> str:
        """The mode in words that tell settings apart, such as "rejection of prompted, 4 samples"."""
        parts = [self.mode if self.sampled == "policy" else f"{self.mode} of {self.sampled}"]
        if self.ranks and self.count != SAMPLES[self.mode]:
            parts.append(_pluralise(self.count, "sample"))
        if self.examples != EXAMPLES:
            parts.append(_pluralise(self.examples, "example"))
        return ", ".join(parts)


def display_name(model: str, strategy: SamplingStrategy) -> str:
    """What a model is called where votes or numbers name it: "start" as it is, else "start (rejection)"."""
    return model if strategy == SamplingStrategy() else f"{model} ({strategy.words})"


def best_first(scores: Sequence[float], n: int | None = None) -> list[int]:
    """Places of the n highest scores of a preference model, best first; of equal scores the earlier first."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:n]


def nearest_median(scores: Sequence[float], n: int | None = None) -> list[int]:
    """Places of the n scores nearest to the median in rank, nearest first; equally near, the lower score first.

    So an even number has the lower of its two middle ones, and a policy is never flattered. Of equal scores the
    earlier counts as the higher.
    """
    ranked = best_first(scores)
    middle = (len(ranked) - 1) / 2
    order = sorted(range(len(ranked)), key=lambda rank: (abs(rank - middle), -rank))
    return [ranked[rank] for rank in order][:n]


def repeats_last(order: Sequence[int], texts: Sequence[str]) -> list[int]:
    """The same order, but a text that has come before goes to the end: two equal replies are nothing to choose from."""
    first = {texts[i]: i for i in reversed(order)}
    return [i for i in order if first[texts[i]] == i] + [i for i in order if first[texts[i]] != i]


def order_statistic_kl(samples: int, place: int = 1) -> float:
    """At most how far, in nats, the reply in `place` (1: the best) of ranked samples is from a draw of the policy."""
    above, below = place - 1, samples - place
    terms = math.lgamma(samples + 1) - math.lgamma(below + 1) - math.lgamma(above + 1)
    return terms + below * _harmonic(below) + above * _harmonic(above) - (samples - 1) * _harmonic(samples)


def _pluralise(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _harmonic(n: int) -> float:
    return math.fsum(1 / i for i in range(1, n + 1))
