"""Rule rewards: rewards of a reply by simple rules without a grader. Each rule has its own unit.

    refusal    (1 - 2 p) · (-1 if refused else 1)      p: probability that the prompt should be refused
    cut        -1 for a reply cut at the limit
    loop       -1 for a reply that repeats itself without end
    length     -1 per 100 tokens beyond a bound
    answer     1 right, 0 declined, -t / (1 - t) wrong     t: target accuracy

Positive weights reward answers to harmless prompts, refusals of unsafe ones, and complete, varied, short replies. The
refusal rule gives 0 for a prompt without a label or with p one half, the answer rule for one without accepted answers.
An answer that is right with a probability above t earns more than a decline, one below t less.

Sources: Mu 2024 (2411.01111), rule-based rewards beside a preference model; Kalai 2025 (2509.04664), the penalty of
wrong answers. Bai 2022b (2212.08073) has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charter.ground.judge.answered import RIGHT, WRONG, by_accepted
from charter.ground.judge.loops import is_loop

LENGTH_UNIT = 100  # tokens


def refusal(refused: bool, p_refuse: float | None) -> float:
    """Agreement with the prompt's label, from -1 to 1; 0 for a prompt without a label."""
    if p_refuse is None:
        return 0.0
    return (1 - 2 * p_refuse) * (-1.0 if refused else 1.0)


def cut(stop: str) -> float:
    """-1 for a reply that ended at the token limit, else 0."""
    return -1.0 if stop == "length" else 0.0


def loop(text: str) -> float:
    """-1 for a reply that repeats itself without end, else 0."""
    return -1.0 if is_loop(text) else 0.0


def length(tokens: int, bound: int) -> float:
    """Minus the hundreds of tokens beyond the bound."""
    return -max(0, tokens - bound) / LENGTH_UNIT


def answer(text: str, meta: Mapping[str, Any], target: float) -> float:
    """Points of a reply to a question with `accepted` answers in its prompt's meta: an empty list means that nothing
    can be known, where a decline earns 0 and all else the penalty. 0 for a prompt without `accepted`."""
    if "accepted" not in meta:
        return 0.0
    outcome = by_accepted({"accepted": meta["accepted"], "answerable": bool(meta["accepted"])}, text)
    if outcome == WRONG:
        return -target / (1 - target)
    return float(outcome == RIGHT and bool(meta["accepted"]))
