"""Votes on pairs of replies: their validation, and their counts by axis, source, pair and rater.

A vote is a row with `model_a`, `model_b` and `winner` (a, b, tie, both_bad or unsure), and optionally `axis`, `rater`,
`source` (human, simulated, ai or ai:NAME) and `item` (the pair of replies). Votes of people, simulated people and
models are never counted together: each source has its own tally. Votes without a source count as people's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.bradley_terry import Ints
from charter.ground.measure.score import Floats
from charter.ground.settings.problems import suggest

Vote = Mapping[str, Any]

WINNERS = ("a", "b", "tie", "both_bad", "unsure")
AXIS, SOURCE = "all", "human"
SOURCES = ("human", "simulated", "ai", "ai:NAME")
# outcomes of a pair with models sorted by name
FIRST, SECOND, TIE, BOTH_BAD, UNSURE = range(5)
_AS_SHOWN = dict(zip(WINNERS, (FIRST, SECOND, TIE, BOTH_BAD, UNSURE), strict=True))
_SWAPPED = _AS_SHOWN | {"a": SECOND, "b": FIRST}


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes of one axis and source. `rater` and `item` (-1 if unnamed), `pair`, `outcome` and `count` [K] give the
    number of votes by rater, pair and outcome; `pairs` [P, 2] are indices of models, the lower one first. Models and
    raters are sorted by name. `patterns`: for items with several raters, the number of votes per outcome. `one_model`:
    excluded votes on two replies of one model."""

    axis: str
    source: str
    models: tuple[str, ...]
    raters: tuple[str, ...]
    items: int
    pairs: Ints
    rater: Ints
    item: Ints
    pair: Ints
    outcome: Ints
    count: Floats
    patterns: tuple[tuple[int, ...], ...]
    first_named: str
    one_model: int

    @property
    def shared_items(self) -> bool:
        """Whether several votes are about one item."""
        return bool((np.bincount(self.item[self.item >= 0], self.count[self.item >= 0]) > 1).any())


Key = tuple[Any, Any, Any, Any, Any, Any, Any]


def _key(row: Vote) -> Key:
    """The fields that decide how a vote counts."""
    get = row.get
    return (get("axis"), get("source"), get("model_a"), get("model_b"), get("winner"), get("rater"), get("item"))


def check_votes(rows: Sequence[Vote], place: Callable[[int], str]) -> None:
    """Raises CharterError for the first row that is no vote; `place` names a row by its index. Only rows with a `kind`,
    which our own collections write, may compare two replies of one model."""
    if any(key[2] == key[3] for key in _count(rows, place)):
        for number, row in enumerate(rows):
            if row["model_a"] == row["model_b"] and "kind" not in row:
                raise CharterError(
                    f"{place(number)}: {row['model_a']} is compared with itself; expected two different models"
                )


def _count(rows: Sequence[Vote], place: Callable[[int], str]) -> Counter[Key]:
    """Counts equal votes; searches for the invalid row only if there is one."""
    if not rows:
        raise CharterError("there are no votes; expected one row a vote with model_a, model_b and winner")
    try:
        counts = Counter(map(_key, rows))
        items = {type(key[-1]) for key in counts} <= {str, int, type(None)}
        if items and not any(_problem(*key, None) for key in {key[:-1] for key in counts}):
            return counts
    except TypeError:  # a list where a name should be
        pass
    number, problem = next((n, p) for n, row in enumerate(rows) if (p := _problem(*_key(row))))
    raise CharterError(f"{place(number)}: {problem}")


def _problem(axis: Any, source: Any, model_a: Any, model_b: Any, winner: Any, rater: Any, item: Any) -> str:
    """The problem of a vote, else ""."""
    columns = {"model_a": model_a, "model_b": model_b, "winner": winner}
    for name, value in columns.items():
        if value is None:
            return f"a vote without {name}; expected model_a, model_b and winner"
    for name, value in (columns | {"axis": axis or AXIS, "source": source or SOURCE}).items():
        if not isinstance(value, str) or not value.strip():
            return f"{name} is {value!r}; expected a text"
    if winner not in WINNERS:
        return f"unknown winner {winner!r}; {suggest(winner, WINNERS)}"
    if not is_source(source or SOURCE):
        return f"unknown source {source!r}; {suggest(source, SOURCES)}"
    for name, value in {"rater": rater, "item": item}.items():
        if not isinstance(value, str | int | None):
            return f"{name} is {value!r}; expected a name or a number"
    return ""


def is_source(source: str) -> bool:
    """Whether a source names people, simulated people or models."""
    return source in ("human", "simulated", "ai") or (source.startswith("ai:") and len(source) > 3)


def of_source(rows: Iterable[Vote], source: str) -> list[Vote]:
    """The votes of one source; `ai` pools those of all models and sets their source to `ai`."""
    if source == "ai":
        return [{**row, "source": "ai"} for row in rows if (row.get("source") or SOURCE).split(":")[0] == "ai"]
    return [row for row in rows if (row.get("source") or SOURCE) == source]


def count_votes(rows: Sequence[Vote]) -> list[Tally]:
    """The tallies of votes, in order of first appearance of axes and then sources. Votes on two replies of one model
    say nothing about models and are excluded.

    Raises CharterError for a row that is no vote, and if all are excluded.
    """
    groups: dict[tuple[str, str], dict[Key, int]] = defaultdict(dict)
    alone: Counter[tuple[str, str]] = Counter()
    for key, count in _count(rows, lambda number: f"vote {number + 1}").items():
        group = key[0] or AXIS, key[1] or SOURCE
        if key[2] == key[3]:
            alone[group] += count
        else:
            groups[group][key] = count
    if not groups:
        raise CharterError("every vote compares a model with itself; expected votes on two different models")
    axes = list(dict.fromkeys(axis for axis, _ in groups))
    ordered = sorted(groups, key=lambda group: axes.index(group[0]))
    return [_tally(group, groups[group], alone[group]) for group in ordered]


def _tally(group: tuple[str, str], counts: Mapping[Key, int], alone: int) -> Tally:
    models = sorted({model for key in counts for model in key[2:4]})
    raters = sorted({str(key[5]) for key in counts if _has_name(key[5])})
    items = sorted({str(key[6]) for key in counts if _has_name(key[6])})
    model_number = {name: n for n, name in enumerate(models)}
    rater_number = {name: n for n, name in enumerate(raters)}
    item_number = {name: n for n, name in enumerate(items)}
    cells: Counter[tuple[int, int, int, int, int]] = Counter()
    outcomes_by_item: dict[tuple[int, int, int], dict[int, int]] = defaultdict(dict)
    for (_, _, model_a, model_b, winner, rater_name, item_name), count in counts.items():
        first, second, outcome = model_number[model_a], model_number[model_b], _AS_SHOWN[winner]
        if first > second:
            first, second, outcome = second, first, _SWAPPED[winner]
        rater = rater_number[str(rater_name)] if _has_name(rater_name) else -1
        item = item_number[str(item_name)] if _has_name(item_name) else -1
        cells[rater, first, second, outcome, item] += count
        if rater >= 0 and item >= 0:  # a rater's first vote on two replies counts for agreement
            outcomes_by_item[item, first, second].setdefault(rater, outcome)
    table = np.array([(*cell, count) for cell, count in sorted(cells.items())], dtype=np.int64)
    pairs, pair = np.unique(table[:, 1:3], axis=0, return_inverse=True)
    shared = [list(outcomes.values()) for outcomes in outcomes_by_item.values() if len(outcomes) > 1]
    return Tally(
        axis=group[0],
        source=group[1],
        models=tuple(models),
        raters=tuple(raters),
        items=len(items),
        pairs=pairs,
        rater=table[:, 0],
        item=table[:, 4],
        pair=pair.reshape(-1),
        outcome=table[:, 3],
        count=table[:, 5].astype(np.float64),
        patterns=tuple(tuple(map(outcomes.count, range(len(WINNERS)))) for outcomes in shared),
        first_named=next(iter(counts))[2],
        one_model=alone,
    )


def _has_name(name: str | int | None) -> bool:
    return name is not None and name != ""
