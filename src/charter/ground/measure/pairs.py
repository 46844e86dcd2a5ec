"""Held-out pairs: the accuracy of a preference model, and that of the length rule.

The length rule prefers the longer reply, on the axis harmless the shorter one; equal lengths count half. A model that
is not significantly better, pair by pair (`pair_over_rule`), may know only lengths: length alone explains much of what
is learnt from preferences (Singhal et al. 2023, 2310.03716).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from charter.ground.measure.counts import Row, built_pair, mean, real_pair, real_pair_of
from charter.ground.measure.metric import Metric
from charter.ground.measure.score import Table, points, rank_accuracy, tabulate

PAIRS = "heldout_pairs.jsonl"
AXES = ("helpful", "honest", "harmless", "other")
ALIKE = 0.1  # lengths are about equal if they differ by at most this share of the longer one


def human_pair(row: Row) -> bool:
    """Whether people labelled a real pair."""
    return real_pair(row) and str(row["source"]).partition(":")[0] == "human"


def alike_in_length(row: Row) -> bool:
    """Whether the replies of a real pair are within 10 % of equal length."""
    lengths = row["chosen_tokens"], row["rejected_tokens"]
    return real_pair(row) and max(lengths) - min(lengths) <= ALIKE * max(lengths)


def rule_right(row: Row) -> float:
    """1 if the length rule picks the preferred reply, a half for equal lengths, else 0."""
    longer = row["chosen_tokens"] - row["rejected_tokens"]
    return rank_accuracy(row["p_chosen"], -longer if row["axis"] == "harmless" else longer, 0.0)


def length_rule(where: Callable[[Row], bool] = real_pair) -> Callable[[Sequence[Row]], Table]:
    """Accuracy of the length rule, clustered by first user turn."""
    return lambda rows: tabulate((str(r["id"]), rule_right(r), 1.0) for r in rows if where(r))


def longer(labelled: bool) -> Callable[[Sequence[Row]], Table]:
    """Share of pairs of different lengths whose longer reply has the higher score or, with `labelled`, the better
    label. The difference of the two shares is length bias."""

    def each(rows: Sequence[Row]) -> Iterable[tuple[str, float, float]]:
        for r in rows:
            gap = r["chosen_tokens"] - r["rejected_tokens"]
            if gap and real_pair(r):
                won = r["p_chosen"] - 0.5 if labelled else r["chosen_score"] - r["rejected_score"]
                yield str(r["id"]), points(won * gap, 0.0), 1.0

    return lambda rows: tabulate(each(rows))


# Suffix of a metric's name -> (description of the pairs, test of rows).
PARTS: dict[str, tuple[str, Callable[[Row], bool]]] = {
    "": ("held-out pairs", real_pair),
    **{f"_{axis}": (f"held-out pairs, {axis}", real_pair_of(axis)) for axis in AXES},
    "_human": ("held-out pairs that people labelled", human_pair),
    "_built": ("held-out pairs built of single replies and revisions", built_pair),
}


def _label(label: str, part: str, end: str) -> str:
    if not end:
        return label
    return "Pairs built by the room" if (part, end) == ("Pairs", "_built") else f"{part}, {end.strip('_')}"


OF_PAIRS: tuple[Metric, ...] = (
    *(
        Metric(
            f"pair_accuracy{end}",
            PAIRS,
            mean("correct", where),
            "higher",
            f"{words}, ranked as labelled",
            label=_label("Pair accuracy", "Pairs", end),
        )
        for end, (words, where) in PARTS.items()
    ),
    *(
        Metric(
            f"pair_length_rule{end}",
            PAIRS,
            length_rule(where),
            "neither",
            f"{words}: the length rule's accuracy",
            label=_label("Length rule", "Length rule", end),
        )
        for end, (words, where) in PARTS.items()
    ),
    Metric(
        "pair_accuracy_length_matched",
        PAIRS,
        mean("correct", alike_in_length),
        "higher",
        "held-out pairs within 10 % of equal length, ranked as labelled",
        label="Pairs of about equal length",
    ),
    Metric(
        "pair_longer_preferred",
        PAIRS,
        longer(False),
        "neither",
        "pairs whose longer reply scores higher",
        label="Longer preferred",
    ),
    Metric(
        "pair_longer_labelled",
        PAIRS,
        longer(True),
        "neither",
        "pairs whose longer reply is labelled better",
        label="Longer labelled better",
    ),
)
