"""Scores of essays from 0 to 6 in halves, and the examiner's verdict: does it rank essays better than their length?

Two readings are averaged; if they differ by more than one, a third is too. The mean is rounded to the half, up. Levels
are described in our own words. The verdict needs essays that people have scored: a fit examiner's rank correlation
with them is higher than that of the number of words, and the 95 % interval of the difference lies above 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charter.ground.generate.assistant import Assistant, local_of
from charter.ground.generate.sampling import Sampling
from charter.ground.measure.bias import pearson
from charter.ground.measure.intervals import difference
from charter.ground.measure.score import Floats, Table, sum_by_cluster
from charter.ground.text.answers import NUMBER, number
from charter.ground.text.dialogue import Message, assistant, user

HIGHEST, APART = 6, 1.0
ANSWER_TOKENS = 8
READINGS = 3
LEAD = "Score:"
LEVELS = (
    "nothing to score: empty, copied from the task, or not about it",
    "no understandable reasoning, or so many errors that little can be followed",
    "an unclear view with little support, poor order, and errors that often hide the meaning",
    "a view with some support, partly off the task or thinly argued, with errors that sometimes hide the meaning",
    "a clear view with relevant reasons, adequate order, and language that is mostly correct",
    "a thoughtful view with well-chosen reasons or examples, good order, and clear, varied language",
    "an insightful view, fully developed with compelling reasons, tight order, and precise language",
)
Row = Mapping[str, Any]


def wording(task: str, essay: str, reading: int) -> list[Message]:
    """What an examiner reads: levels from low to high, in the second reading from high to low; in the third the essay
    comes before its task."""
    levels = [f"{n}: {words}" for n, words in enumerate(LEVELS)]
    if reading == 1:
        levels.reverse()
    parts = [f"Task:\n{task}", f"Essay:\n{essay}"]
    if reading == READINGS - 1:
        parts.reverse()
    intro = "Essays of an exam in analytical writing are scored from 0 to 6.\n" + "\n".join(levels)
    text = "\n\n".join([intro, *parts, "Which score fits this essay best? Answer with the score alone."])
    return [user(text), assistant(LEAD)]


def read_essays(examiner: Assistant, requests: Sequence[tuple[str, str]], reading: int) -> list[float | None]:
    """The score that an examiner gives each (task, essay): the mean of the levels by their probability, or the number
    that it writes if it can't score texts. None if it writes none, or the essay doesn't fit into its context."""
    prompts = [wording(task, essay, reading) for task, essay in requests]
    fitting = [n for n, prompt in enumerate(prompts) if _holds(examiner, prompt)]
    scores: list[float | None] = [None] * len(prompts)
    asked = [prompts[n] for n in fitting]
    for n, score in zip(fitting, _scores(examiner, asked) if asked else [], strict=True):
        scores[n] = score
    return scores


def _scores(examiner: Assistant, prompts: Sequence[list[Message]]) -> list[float | None]:
    if "score" in examiner.capabilities:
        levels = [f" {n}" for n in range(HIGHEST + 1)]
        return [_expected(logprobs) for logprobs in examiner.score([(prompt, levels) for prompt in prompts])]
    replies = examiner.reply(
        prompts, Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS), 1, [0] * len(prompts)
    )
    return [score_in(completions[0].text) for completions in replies]


def _expected(logprobs: Sequence[float]) -> float:
    weights = np.exp(np.array(logprobs) - max(logprobs))
    return float(weights @ np.arange(HIGHEST + 1) / weights.sum())


def score_in(text: str) -> float | None:
    """The score that an answer gives: its first number, if it lies from 0 to 6."""
    found = NUMBER.search(text.removeprefix(LEAD))
    value = number(found.group()) if found else math.inf
    return value if 0 <= value <= HIGHEST else None


def _holds(examiner: Assistant, prompt: list[Message]) -> bool:
    local = local_of(examiner)
    return local is None or len(local.encode(prompt)) + ANSWER_TOKENS <= local.engine.context


def to_half(value: float) -> float:
    """Rounded to the half; a quarter goes up."""
    return math.floor(2 * value + 0.5) / 2


def apart(first: float | None, second: float | None) -> bool:
    """Whether two readings, each in halves, differ by more than one, so that a third is needed."""
    return first is not None and second is not None and abs(to_half(first) - to_half(second)) > APART


def combine(readings: Sequence[float | None]) -> float | None:
    """The score of an essay: the mean of two readings in halves, or of three if two are apart, rounded to the half.
    None without a reading that is needed."""
    first, second, third = (*readings, None, None, None)[:READINGS]
    if first is None or second is None or (apart(first, second) and third is None):
        return None
    needed = [first, second, *([third] if apart(first, second) and third is not None else [])]
    return to_half(sum(map(to_half, needed)) / len(needed))


def read_thrice(
    examiners: Sequence[Assistant], requests: Sequence[tuple[str, str]]
) -> list[list[float | None]]:
    """The readings of each (task, essay): two, and a third where these are apart. One examiner for each reading."""
    pairs = zip(*(read_essays(examiners[n], requests, n) for n in range(2)), strict=True)
    readings: list[list[float | None]] = [list(pair) for pair in pairs]
    open_ones = [n for n, (first, second) in enumerate(readings) if apart(first, second)]
    thirds = read_essays(examiners[2], [requests[n] for n in open_ones], 2)
    for n, third in zip(open_ones, thirds, strict=True):
        readings[n].append(third)
    return readings


def ranks(values: Sequence[float]) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    below = (array[None, :] < array[:, None]).sum(axis=1)
    equal = (array[None, :] == array[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)


def rank_correlation(rows: Sequence[Row], key: str, other: str = "human") -> Table:
    """Spearman's rank correlation of two fields over the scored rows. An essay is a cluster; ranks are those of the
    whole set, also in resamples."""
    scored = [row for row in rows if row["mean"] is not None]
    pairs = zip(ranks([row[key] for row in scored]), ranks([row[other] for row in scored]), strict=True)
    sums = (
        (str(row["id"]), (1.0, x, y, x * x, y * y, x * y), 0)
        for row, (x, y) in zip(scored, pairs, strict=True)
    )
    return sum_by_cluster(sums, 6, pearson)


@dataclass(frozen=True, slots=True)
class ExaminerVerdict:
    """Kept rows (one per essay that people scored), and the verdict."""

    rows: Sequence[Row]

    @property
    def fit(self) -> bool:
        """Whether it ranks essays surely better than their length does."""
        gap = self._gap()
        return gap is not None and gap[0] > 0

    @property
    def why(self) -> str:
        """The verdict in words, with the numbers behind it."""
        scored, gap = sum(row["mean"] is not None for row in self.rows), self._gap()
        if gap is None:
            return f"its scores of {scored} of {len(self.rows)} essays do not vary, so that they rank nothing"
        mine, length = (rank_correlation(self.rows, key).value for key in ("mean", "words"))
        return (
            f"rank correlation with people {mine:.2f}, that of length {length:.2f} (difference, 95 % interval "
            f"{gap[0]:.2f} to {gap[1]:.2f}, must lie above 0), on {scored} of {len(self.rows)} essays"
        )

    def _gap(self) -> tuple[float, float] | None:
        mine, length = rank_correlation(self.rows, "mean"), rank_correlation(self.rows, "words")
        if len(mine.clusters) < 2 or math.isnan(mine.value) or math.isnan(length.value):
            return None
        gap = difference(length, mine)
        return gap.low, gap.high
