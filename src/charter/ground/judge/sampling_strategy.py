"""Sampling strategies: settings, and the order of sampled replies by score. `best_of_n.py` applies them.

    policy      the model itself
    plain       a plain language model: one example conversation before the dialogue, as plain text
    prompted    the HHH prompt before the dialogue: a paragraph and 14 example conversations
    rejection   the best of 16 samples by a preference model
    median      the middle of 17 samples by a preference model

The r-th best of k samples does not have the policy's distribution. Without ties its quantile of the score follows
Beta(a, r) with a = k + 1 - r, so its KL divergence from the policy is

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
    """How replies are sampled from a model."""

    mode: Mode = Field(
        "policy",
        description="policy: the model itself; plain: after one example, as text; prompted: after the HHH prompt; "
        "rejection or median: the best or middle of several samples",
    )
    samples: int = Field(0, ge=0, description="replies to rank; 0: 16 for `rejection`, 17 for `median`")
    sampled: Prompting = Field("policy", description="how the ranked replies are prompted")
    grader: str = Field("", description="reference of the preference model that ranks; empty if an input provides it")
    examples: int = Field(
        EXAMPLES, ge=0, le=EXAMPLES, description="number of conversations of the HHH prompt, counted from its end"
    )
    form: Literal["text", "turns"] | None = Field(
        None, description="form of the HHH prompt; none: text if the engine continues text, else turns of a chat"
    )

    @model_validator(mode="after")
    def _agree(self) -> SamplingStrategy:
        fields = [name for name in ("samples", "grader") if getattr(self, name)]
        fields += ["sampled"] if self.sampled != "policy" else []
        if fields and not self.ranks:
            raise ValueError(f"{fields[0]} belongs to mode rejection or median, not to {self.mode}; leave it out")
        fields = ["examples"] if self.examples != EXAMPLES else []
        fields += ["form"] if self.form is not None else []
        if fields and self.prompting != "prompted":
            raise ValueError(f"{fields[0]} belongs to the HHH prompt, which this mode doesn't use; leave it out")
        return self

    @property
    def ranks(self) -> bool:
        """Whether a preference model chooses among samples."""
        return self.mode in SAMPLES

    @property
    def count(self) -> int:
        """Number of samples to rank."""
        return self.samples or SAMPLES[self.mode] if self.ranks else 1

    @property
    def prompting(self) -> Prompting:
        """How each sample is prompted."""
        return self.sampled if self.mode == "rejection" or self.mode == "median" else self.mode

    @property
    def words(self) -> str:
        """The settings in words, such as "rejection of prompted, 4 samples"."""
        parts = [self.mode if self.sampled == "policy" else f"{self.mode} of {self.sampled}"]
        if self.ranks and self.count != SAMPLES[self.mode]:
            parts.append(_pluralise(self.count, "sample"))
        if self.examples != EXAMPLES:
            parts.append(_pluralise(self.examples, "example"))
        return ", ".join(parts)


def display_name(model: str, strategy: SamplingStrategy) -> str:
    """A model's name in votes and numbers: "start" for the model itself, else such as "start (rejection)"."""
    return model if strategy == SamplingStrategy() else f"{model} ({strategy.words})"


def best_first(scores: Sequence[float], n: int | None = None) -> list[int]:
    """Indices of the n highest scores, best first; ties keep their order."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:n]


def nearest_median(scores: Sequence[float], n: int | None = None) -> list[int]:
    """Indices of the n scores nearest to the median in rank, nearest first; of two equally near, the lower score first.

    So of an even number the lower middle score comes first, which never flatters a policy. Of equal scores the earlier
    ranks higher.
    """
    ranked = best_first(scores)
    middle = (len(ranked) - 1) / 2
    order = sorted(range(len(ranked)), key=lambda rank: (abs(rank - middle), -rank))
    return [ranked[rank] for rank in order][:n]


def repeats_last(order: Sequence[int], texts: Sequence[str]) -> list[int]:
    """The same order with repeated texts at the end: equal replies offer no choice."""
    first = {texts[i]: i for i in reversed(order)}
    return [i for i in order if first[texts[i]] == i] + [i for i in order if first[texts[i]] != i]


def order_statistic_kl(samples: int, place: int = 1) -> float:
    """Upper bound of the KL divergence, in nats, of the reply in `place` (1: the best) of ranked samples from the
    policy."""
    above, below = place - 1, samples - place
    terms = math.lgamma(samples + 1) - math.lgamma(below + 1) - math.lgamma(above + 1)
    return terms + below * _harmonic(below) + above * _harmonic(above) - (samples - 1) * _harmonic(samples)


def _pluralise(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _harmonic(n: int) -> float:
    return math.fsum(1 / i for i in range(1, n + 1))
