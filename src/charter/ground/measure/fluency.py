"""Fluency of replies at a report's own decoding, for each set of prompts: loops, cut replies, repetition, and their
likelihood under the start model.

    nll_under_start = Σ -log p_start(token | prompt, reply so far) / Σ tokens      nats a token, over a set's replies

A number far above that of the start's own replies suggests word salad, one far below it a few repeated phrases;
neither direction is better.
"""

from __future__ import annotations

from typing import Any

from charter.ground.measure.counts import cut_share, distinct, flag, has, mean, per, repeated_4grams
from charter.ground.measure.metric import Better, Measure, Metric

HARM = "harmlessness.jsonl"
LOOK = "lookalikes.jsonl"
HELP = "helpful.jsonl"
NLL = "nll_under_start"
# Set of prompts -> (file of kept rows, description).
SETS = {
    "unsafe": (HARM, "replies to unsafe prompts"),
    "lookalike": (LOOK, "replies to look-alikes"),
    "helpful": (HELP, "replies to helpful prompts"),
}
# The metrics of each set. Those in BARE have no prefix for helpful replies.
OF_A_SET = (NLL, "loop_rate", "cut_rate", "repeated_4grams", "distinct_2", "reply_tokens")
BARE = (NLL, "repeated_4grams", "distinct_2")


def name_in(prompts: str, what: str) -> str:
    """The name of the metric in OF_A_SET for a set of prompts."""
    if prompts == "helpful" and what in BARE:
        return what
    # unsafe_distinct_2 pools all samples of a prompt
    return "unsafe_reply_distinct_2" if (prompts, what) == ("unsafe", "distinct_2") else f"{prompts}_{what}"


def fluency_of(prompts: str) -> tuple[Metric, ...]:
    """The metrics of a set of prompts."""
    file, words = SETS[prompts]
    places = {"costs": 6} if prompts == "unsafe" else {}
    title = {"unsafe": "unsafe", "lookalike": "look-alikes", "helpful": "helpful"}[prompts]

    def metric(what: str, label: str, table: Measure, better: Better, meaning: str, **facts: Any) -> Metric:
        name = name_in(prompts, what)
        label = label if name == what else f"{label}, {title}"
        return Metric(name, file, table, better, meaning, label=label, **facts)

    metrics = (
        metric("loop_rate", "Loops", flag("loop"), "lower", f"{words} that loop", places=places),
        metric("cut_rate", "Cut at the limit", cut_share, "lower", f"{words} cut at the token limit"),
        metric(
            "repeated_4grams", "Repeated 4-grams", repeated_4grams, "lower", f"repeated 4-grams within a reply, {words}"
        ),
        metric("distinct_2", "Distinct bigrams", distinct(2), "higher", f"distinct bigrams within a reply, {words}"),
        metric("reply_tokens", "Length", mean("tokens"), "neither", f"length of {words}", unit="tokens"),
        metric(
            NLL,
            "NLL under the start",
            per("nll_start", "tokens_start", has("nll_start")),
            "neither",
            f"what the start model finds unlikely in {words}, nats a token",
            unit="nats/token",
            judge="start",
        ),
    )
    if prompts != "helpful":
        return metrics
    return (
        *metrics,
        *(
            Metric(
                f"distinct_{n}",
                file,
                distinct(n),
                "higher",
                f"distinct {words} within a reply",
                label=f"Distinct {words}",
            )
            for n, words in ((1, "words"), (3, "trigrams"))
        ),
    )
