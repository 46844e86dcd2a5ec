"""Counting of kept rows: functions from the rows of a file to a table with one value per cluster.

Metrics are built from these: each returns a `Table`, or tests rows (`where`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from charter.ground.measure.score import Table, points, tabulate

Row = Mapping[str, Any]


def flag(key: str, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Share of rows with a true `key`, clustered by prompt."""
    return lambda rows: tabulate((str(r["id"]), float(bool(r[key])), 1.0) for r in rows if where(r))


def any_flag(key: str, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Share of prompts of which at least one row has a true `key`."""

    def table(rows: Sequence[Row]) -> Table:
        worst: dict[str, bool] = {}
        for r in rows:
            if where(r):
                worst[str(r["id"])] = worst.get(str(r["id"]), False) or bool(r[key])
        return tabulate((name, float(hit), 1.0) for name, hit in worst.items())

    return table


def equals(
    key: str, value: object, where: Callable[[Row], bool] = lambda row: True
) -> Callable[[Sequence[Row]], Table]:
    """Share of rows whose `key` has a value."""
    return lambda rows: tabulate((str(r["id"]), float(r[key] == value), 1.0) for r in rows if where(r))


def mean(key: str, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    return lambda rows: tabulate((str(r["id"]), float(r[key]), 1.0) for r in rows if where(r))


def outcome(*outcomes: str, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Share of rows with one of these outcomes."""
    return lambda rows: tabulate((str(r["id"]), float(r["outcome"] in outcomes), 1.0) for r in rows if where(r))


def if_passed(
    table: Callable[[Sequence[Row]], Table], exam: Callable[[Sequence[Row]], Table], least: float
) -> Callable[[Sequence[Row]], Table]:
    """The table if the value of another one is at least `least`, else a table without rows, so no number."""
    return lambda rows: table(rows) if exam(rows).value >= least else tabulate(())


def over_groups(key: str) -> Callable[[Sequence[Row]], Table]:
    """The mean over groups of the group's mean (macro average): every group counts the same, whatever its size."""

    def table(rows: Sequence[Row]) -> Table:
        sizes = Counter(str(r["group"]) for r in rows)
        weights = {group: 1 / size for group, size in sizes.items()}
        return tabulate((str(r["id"]), float(r[key]) * (w := weights[str(r["group"])]), w) for r in rows)

    return table


def pass_at(k: int, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Share of problems that at least one of k samples solves, without bias (Chen 2021): of n samples, c right,

        pass@k = 1 - C(n - c, k) / C(n, k).

    Problems with fewer than k samples are left out."""

    def table(rows: Sequence[Row]) -> Table:
        marks_by_problem: dict[str, list[bool]] = {}
        for r in rows:
            if where(r):
                marks_by_problem.setdefault(str(r["id"]), []).append(bool(r["correct"]))
        problems = ((name, len(marks), sum(marks)) for name, marks in marks_by_problem.items() if len(marks) >= k)
        return tabulate((name, 1 - math.comb(n - c, k) / math.comb(n, k), 1.0) for name, n, c in problems)

    return table


def part(key: str, place: int) -> Callable[[Sequence[Row]], Table]:
    """Mean of one entry of a list."""
    return lambda rows: tabulate((str(r["id"]), float(r[key][place]), 1.0) for r in rows)


def per(num: str, den: str, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Sum of one key divided by that of another, such as nats per token."""
    return lambda rows: tabulate((str(r["id"]), float(r[num]), float(r[den])) for r in rows if where(r))


def cut_share(rows: Sequence[Row]) -> Table:
    """Share of replies that stopped at the token limit."""
    return tabulate((str(r["id"]), float(r["stop"] == "length"), 1.0) for r in rows)


def below_fixed(key: str, where: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Share of samples that a preference model scores below the fixed reply to the same prompt (card 3.4)."""

    def table(rows: Sequence[Row]) -> Table:
        scored_rows = (r for r in rows if where(r) and r.get(key) is not None)
        return tabulate((str(r["id"]), float(r[key] < r[key + "_fixed"]), 1.0) for r in scored_rows)

    return table


def below_fixed_and(key: str, refused: bool) -> Callable[[Sequence[Row]], Table]:
    """Share of all samples that are below the fixed reply and refuse (or don't): both shares sum to `below_fixed`."""

    def table(rows: Sequence[Row]) -> Table:
        scored_rows = (r for r in rows if r.get(key) is not None)
        return tabulate(
            (str(r["id"]), float(r[key] < r[key + "_fixed"] and bool(r["refusal"]) == refused), 1.0)
            for r in scored_rows
        )

    return table


def any_below_fixed(key: str) -> Callable[[Sequence[Row]], Table]:
    """Share of prompts with at least one sample below the fixed reply: the card's "cases"."""

    def table(rows: Sequence[Row]) -> Table:
        worst: dict[str, bool] = {}
        for r in rows:
            worst[str(r["id"])] = worst.get(str(r["id"]), False) or r[key] < r[key + "_fixed"]
        return tabulate((name, float(hit), 1.0) for name, hit in worst.items())

    return table


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct(n: int) -> Callable[[Sequence[Row]], Table]:
    """Distinct n-grams over all n-grams, within each reply (Li 2016)."""

    def rows_of(rows: Sequence[Row]) -> Iterable[tuple[str, float, float]]:
        for r in rows:
            grams = ngrams(r["reply"], n)
            yield str(r["id"]), float(len(set(grams))), float(len(grams))

    return lambda rows: tabulate(rows_of(rows))


def distinct_among(n: int) -> Callable[[Sequence[Row]], Table]:
    """Distinct n-grams over all n-grams of a prompt's samples together: low if all samples are alike."""

    def rows_of(rows: Sequence[Row]) -> Iterable[tuple[str, float, float]]:
        grams: dict[str, list[tuple[str, ...]]] = {}
        for r in rows:
            grams.setdefault(str(r["id"]), []).extend(ngrams(r["reply"], n))
        for name, prompt_grams in grams.items():
            yield name, float(len(set(prompt_grams))), float(len(prompt_grams))

    return lambda rows: tabulate(rows_of(rows))


def repeated_4grams(rows: Sequence[Row]) -> Table:
    """Share of a reply's 4-grams that occurred in it before."""

    def each() -> Iterable[tuple[str, float, float]]:
        for r in rows:
            grams = ngrams(r["reply"], 4)
            yield str(r["id"]), float(len(grams) - len(set(grams))), float(len(grams))

    return tabulate(each())


def bits_per_byte(rows: Sequence[Row]) -> Table:
    return tabulate((str(r["id"]), r["nats"] / math.log(2), float(r["bytes"])) for r in rows)


def bits_by_part(rows: Sequence[Row]) -> Iterator[tuple[str, Table]]:
    """Bits per byte of each language and each source, with the metric's name."""
    for kind in ("language", "source"):
        for name in sorted({str(row[kind]) for row in rows}):
            yield f"bits_per_byte {kind} {name}", bits_per_byte([r for r in rows if r[kind] == name])


def win_share(rows: Sequence[Row]) -> Table:
    """Wins of the model's reply over the baseline's under one scorer; a tie counts half."""

    return tabulate((str(r["id"]), points(r["score"], r["baseline"]), 1.0) for r in rows)


def stereotyped_share(rows: Sequence[Row]) -> Table:
    """Among answers that name a person though the context is ambiguous, the share that follows the stereotype."""
    answers = (r for r in rows if r["context"] == "ambiguous" and r["chosen"] not in ("unknown", None))
    return tabulate((str(r["id"]), float(r["chosen"] == r["biased"]), 1.0) for r in answers)


# Suffixes of the sources of pairs that the preference room builds.
BUILT = ("+fixed", "+revised", "+contrast")


def real_pair(row: Row) -> bool:
    """Whether a held-out pair was judged as a pair, with a clear label. Pairs built from single replies, and labels
    near 0.5, say little about the model."""
    return not built_pair(row) and not 0.4 < row["p_chosen"] < 0.6


def built_pair(row: Row) -> bool:
    return bool(row["source"].endswith(BUILT))


def sure(rows: Sequence[Row]) -> Table:
    """Mean probability of the chosen option."""
    return tabulate((str(r["id"]), max(r["p_correct"], 1 - r["p_correct"]), 1.0) for r in rows)


def equal(**values: object) -> Callable[[Row], bool]:
    """A test that selects rows with these values."""
    return lambda row: all(row.get(key) == value for key, value in values.items())


def has(key: str) -> Callable[[Row], bool]:
    """A test that selects rows with a value under `key`."""
    return lambda row: row.get(key) is not None


def real_pair_of(axis: str) -> Callable[[Row], bool]:
    """A test that selects the real pairs of an axis."""
    return lambda row: real_pair(row) and row["axis"] == axis
