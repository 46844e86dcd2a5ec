"""Reads essays with a model: the levels in our own words, and a score from 0 to 6 for each reading.

What becomes of the readings: `measure/essays.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from charter.ground.generate.assistant import Assistant, local_of
from charter.ground.generate.sampling import Sampling
from charter.ground.measure.essays import HIGHEST, READINGS, apart
from charter.ground.text.answers import NUMBER, number
from charter.ground.text.dialogue import Message, assistant, user

ANSWER_TOKENS = 8
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
    fitting_prompts = [prompts[n] for n in fitting]
    for n, score in zip(fitting, _scores(examiner, fitting_prompts) if fitting_prompts else [], strict=True):
        scores[n] = score
    return scores


def _scores(examiner: Assistant, prompts: Sequence[list[Message]]) -> list[float | None]:
    if "score" in examiner.capabilities:
        levels = [f" {n}" for n in range(HIGHEST + 1)]
        return [_expected(logprobs) for logprobs in examiner.score([(prompt, levels) for prompt in prompts])]
    replies = examiner.reply(prompts, Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS), 1, [0] * len(prompts))
    return [score_in(completions[0].text) for completions in replies]


def _expected(logprobs: Sequence[float]) -> float:
    weights = np.exp(np.array(logprobs) - max(logprobs))
    return float(weights @ np.arange(HIGHEST + 1) / weights.sum())


def score_in(text: str) -> float | None:
    """The score that an answer gives: its first number, if it lies from 0 to 6."""
    match = NUMBER.search(text.removeprefix(LEAD))
    value = number(match.group()) if match else math.inf
    return value if 0 <= value <= HIGHEST else None


def _holds(examiner: Assistant, prompt: list[Message]) -> bool:
    local = local_of(examiner)
    return local is None or len(local.encode(prompt)) + ANSWER_TOKENS <= local.engine.context


def read_thrice(examiners: Sequence[Assistant], requests: Sequence[tuple[str, str]]) -> list[list[float | None]]:
    """The readings of each (task, essay): two, and a third where these are apart. One examiner for each reading."""
    pairs = zip(*(read_essays(examiners[n], requests, n) for n in range(2)), strict=True)
    readings: list[list[float | None]] = [list(pair) for pair in pairs]
    open_ones = [n for n, (first, second) in enumerate(readings) if apart(first, second)]
    thirds = read_essays(examiners[2], [requests[n] for n in open_ones], 2)
    for n, third in zip(open_ones, thirds, strict=True):
        readings[n].append(third)
    return readings
