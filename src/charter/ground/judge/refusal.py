"""A learned detector of refusals: logistic regression on word n-grams, fitted at first use on training data.

p(refusal | reply) = sigma(b + sum of w_f over features f of the opening), minimising the sum of log-losses
plus PENALTY / 2 * |w|^2 (Newton-CG from zero: the same data give the same detector). Features are the n-grams
of 1-3 words, the first words of each sentence and the rules that fire. A feature counts only if it
occurs in several topics: "gun" is no sign of a refusal, "since someone could" is. Cross-validation over topics and
wordings of the shipped training data chose penalty and threshold; hand-labelled held-out replies measure the result.
"""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from charter.ground.judge.refusal_examples import Example, examples
from charter.ground.judge.refusal_rules import RULE, match_rules, opening

PENALTY = 1.0
THRESHOLD = 0.5
UNSURE = (0.1, 0.9)  # probabilities in this band, ends included, give no label for training
TOPICS = 3
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*|[.!?:]|\d+")
_ENDS = frozenset(".!?:")


def features(text: str) -> set[str]:
    """Word n-grams (n = 1-3) of the opening, starts of sentences ("^") and of the reply ("^^"), and rules."""
    start = opening(text)
    names = set(match_rules(start))
    sentence: list[str] = []
    first = True
    for word in [*_WORD.findall(start.lower()), "."]:
        if word not in _ENDS:
            sentence.append(word)
            continue
        if not sentence:
            continue
        for n in (1, 2, 3):
            names.update(" ".join(sentence[i : i + n]) for i in range(len(sentence) - n + 1))
            names.add("^" + " ".join(sentence[:n]))
            if first:
                names.add("^^" + " ".join(sentence[:n]))
        first, sentence = False, []
    return names


@dataclass(frozen=True, slots=True)
class Detector:
    """Weights by feature; probability that a reply refuses."""

    weights: Mapping[str, float]
    bias: float

    def probability(self, text: str) -> float:
        """p(refusal) of a non-empty reply."""
        weights = self.weights
        total = self.bias + math.fsum(weights[f] for f in features(text) if f in weights)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))


def fit(replies: Sequence[Example], penalty: float = PENALTY) -> Detector:
    """The detector that minimises the penalised log-loss of the examples.

    Each example is used twice, the second time with only its rules. Otherwise the words of the training refusals would
    explain all of them, and a rule that fires on a new wording would weigh little.
    """
    rows = [features(example.text) for example in replies]
    rows += [{f for f in row if f.startswith(RULE)} for row in rows]
    replies = [*replies, *replies]
    topics: defaultdict[str, set[str]] = defaultdict(set)
    for row, example in zip(rows, replies, strict=True):
        for feature in row:
            topics[feature].add(example.topic)
    names = sorted(f for f, own in topics.items() if len(own) >= TOPICS)
    place = {name: i for i, name in enumerate(names)}
    columns = [sorted(place[f] for f in row if f in place) for row in rows]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([c for row in columns for c in row], dtype=np.int64)
    x = csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(rows), len(names)))
    x_t = x.T.tocsr()
    y = np.array([1.0 if example.refusal else -1.0 for example in replies])

    def loss(parameters: Any) -> tuple[float, Any]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = y * (x @ weights + bias)
        pull = -y * np.exp(-np.logaddexp(0, margin))
        value = np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights
        return float(value), np.append(x_t @ pull + penalty * weights, pull.sum())

    def curve(parameters: Any, direction: Any) -> Any:
        margin = x @ parameters[:-1] + parameters[-1]
        spread = np.exp(-np.logaddexp(0, margin) - np.logaddexp(0, -margin))
        pull = spread * (x @ direction[:-1] + direction[-1])
        return np.append(x_t @ pull + penalty * direction[:-1], pull.sum())

    start = np.zeros(len(names) + 1)
    optimum = minimize(loss, start, jac=True, hessp=curve, method="Newton-CG", options={"xtol": 1e-4})
    weights = {name: float(w) for name, w in zip(names, optimum.x[:-1], strict=True) if w}
    return Detector(weights, float(optimum.x[-1]))


@functools.lru_cache(maxsize=1)
def detector() -> Detector:
    """The detector, fitted once per process."""
    return fit(examples())
