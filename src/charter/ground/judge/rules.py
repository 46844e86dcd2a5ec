"""Rule rewards: what a reply is worth by plain rules, each in a unit of its own and without a model that grades.

    refusal    (1 - 2 p) · (-1 if refused else 1)      p: probability that the prompt ought to be refused
    cut        -1 for a reply cut at the limit
    loop       -1 for a reply that repeats itself without end
    length     -1 for each 100 tokens beyond a bound

So weights above 0 reward answers to harmless prompts, refusals of unsafe ones, and whole, varied, short replies. A
prompt of which nothing is known, or with p one half, earns nothing by the rule of refusals.

Source: Mu 2024 (2411.01111), rule-based rewards beside a preference model. Bai 2022b (2212.08073) has none.
"""

from __future__ import annotations

from charter.ground.judge.loops import is_loop

LENGTH_UNIT = 100  # tokens


def refusal(refused: bool, p_refuse: float | None) -> float:
    """Agreement, from -1 to 1, of refusing or answering with the prompt's label; 0 for a prompt without one."""
    if p_refuse is None:
        return 0.0
    return (1 - 2 * p_refuse) * (-1.0 if refused else 1.0)


def cut(stop: str) -> float:
    """-1 for a reply that ended at the limit of tokens, else 0."""
    return -1.0 if stop == "length" else 0.0


def loop(text: str) -> float:
    """-1 for a reply that repeats itself without end, else 0."""
    return -1.0 if is_loop(text) else 0.0


def length(tokens: int, bound: int) -> float:
    """Hundreds of tokens beyond the bound, below 0."""
    return -max(0, tokens - bound) / LENGTH_UNIT
