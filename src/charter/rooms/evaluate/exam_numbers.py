"""The numbers of an exam: its score, what was not asked and its bounds, and what no reader of the questions earns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from charter.ground.measure import counts
from charter.ground.measure.intervals import interval
from charter.ground.measure.metric import Metric
from charter.ground.measure.score import Table, tabulate
from charter.ground.text.exam_answers import all_right
from charter.ground.text.exam_items import blank_ranges, chance_of
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.task import UNANSWERED, Marks, accuracy

REMOVED = "image removed"
THIRD = 2


def was_asked(row: Marks) -> bool:
    """Whether a kept row is of an item that was asked."""
    return bool(row["outcome"] != REMOVED)


def guess(row: Marks) -> float:
    """The share right by guessing evenly among what the item's kind allows."""
    return chance_of(row["kind"], len(row["options"]), row["blanks"])


def longest(row: Marks) -> float:
    """Whether the longest option, of each blank, is right: the first of equal ones, and of an equivalence two."""
    options = row["options"]
    if row["kind"] == "equivalence":
        chosen = sorted(range(len(options)), key=lambda n: -len(options[n]))[:2]
    else:
        chosen = [max(places, key=lambda n: len(options[n])) for places in _lists(row)]
    return float(all_right(row["right"], chosen or None))


def always_third(row: Marks) -> float:
    """Whether the third option, (C) in a list of its own, is right of each blank."""
    places = [list(each)[THIRD] for each in _lists(row) if len(each) > THIRD]
    return float(bool(places) and all_right(row["right"], places))


def _lists(row: Marks) -> list[range]:
    if row["blanks"]:
        return blank_ranges(row["blanks"])
    return [range(len(row["options"]))] if row["options"] else []


def against_guessing(rows: Sequence[Marks]) -> dict[str, Any]:
    """Whether the 95 % interval of the score lies above the share that even guessing earns, below it, or neither."""
    low, high = interval(_mean_of(lambda row: float(row["correct"]))(rows))
    guessing = _mean_of(guess)(rows).value
    above, below = low is not None and low > guessing, high is not None and high < guessing
    words = "above guessing" if above else "below guessing" if below else "not above guessing"
    return {"guessing": guessing, "low": low, "high": high, "verdict": words}


def _mean_of(value: Callable[[Marks], float]) -> Callable[[Sequence[Marks]], Table]:
    return lambda rows: tabulate((str(r["id"]), value(r), 1.0) for r in rows if was_asked(r))


def _bound(of_removed: Callable[[Marks], float]) -> Callable[[Sequence[Marks]], Table]:
    """The score over all items, of which removed ones earn `of_removed`; nothing if none was removed."""

    def table(rows: Sequence[Marks]) -> Table:
        if all(map(was_asked, rows)):
            return tabulate([])
        earned = ((r, float(r["correct"]) if was_asked(r) else of_removed(r)) for r in rows)
        return tabulate((str(r["id"]), points, 1.0) for r, points in earned)

    return table


def metrics(name: str, meaning: str, parts: Sequence[tuple[str, str, str, str]] = ()) -> tuple[Metric, ...]:
    """The numbers of an exam: its score, what was not asked, bounds, and scores without reading the questions.

    parts: (name, field, value, label) of the parts that have a score of their own.
    """
    plain = {"better": "neither", "about": "data"}
    own = [
        (f"{name}_guessing", _mean_of(guess), f"{meaning}: share right by even guessing"),
        (
            f"{name}_longest",
            _mean_of(longest),
            f"{meaning}: share right by always choosing the longest option",
        ),
        (f"{name}_always_c", _mean_of(always_third), f"{meaning}: share right by always choosing (C)"),
    ]
    return (
        _asked(accuracy(name, f"{meaning}, answered right")),
        lower(
            f"{name}_unanswered",
            counts.outcome(*UNANSWERED, where=was_asked),
            f"{meaning}: answers in which no choice could be read, and questions that could not be asked",
            kind="fault",
        ),
        *(Metric(key, "", table, meaning=words, **plain) for key, table, words in own),  # type: ignore[arg-type]
        *_bounds(name, meaning),
        *(
            higher(
                f"{name}_{part}",
                counts.mean("correct", _part(field, value)),
                f"{meaning}: {label}",
                kind="part",
            )
            for part, field, value, label in parts
        ),
    )


def _bounds(name: str, meaning: str) -> tuple[Metric, ...]:
    """The score if every item without its picture is wrong, and if it is guessed."""
    ends = (("wrong", lambda row: 0.0, "counts as wrong"), ("guessed", guess, "is guessed"))
    return tuple(
        higher(
            f"{name}_if_removed_{end}",
            _bound(earned),
            f"{meaning}: share right if every item without its picture {words}",
            kind="part",
        )
        for end, earned, words in ends
    )


def _asked(metric: Metric) -> Metric:
    return Metric(metric.name, "", counts.mean("correct", was_asked), metric.better, metric.meaning)


def _part(field: str, value: str) -> Callable[[Marks], bool]:
    return lambda row: was_asked(row) and row[field] == value


KIND_PARTS = {
    "completion": "completions with all blanks right",
    "equivalence": "sentence equivalence, both words right",
    "single": "one right option",
    "select_all": "all options that apply",
    "comparison": "comparisons of two quantities",
    "numeric": "numbers",
}


def kind_parts(*kinds: str) -> list[tuple[str, str, str, str]]:
    """The parts of a task by kind."""
    return [(kind, "kind", kind, KIND_PARTS[kind]) for kind in kinds]
