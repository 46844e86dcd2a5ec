"""Drift during training: a row for each snapshot of the replies of RL, and what must follow from the kept replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.measure.counts import has, mean
from charter.ground.measure.drift import (
    DRIFT,
    LENGTH,
    RATES,
    REPLIES,
    Row,
    Rows,
    snapshots,
)
from charter.ground.measure.metric import VERSION
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import PLAIN, SHARE, Number
from charter.rooms.card.drawing import compute_number
from charter.rooms.card.gather import Run

# Listed snapshots: the first, the last, and some between at even distances.
MOST = 16
COLUMNS = {
    "boilerplate": "Stock phrases",
    "harsh": "Scolding",
    "loop": "Loops",
    "cut": "Cut at the limit",
    "evasion": "Evasions",
    "refusal_harmless": "Harmless refused",
    "refusal_prompts": "Others refused",
    LENGTH: "Length",
    "kl": "KL to the start",
    "gap": "Reward less held-out",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a snapshot. `alarm`: it differs from the first snapshot's."""

    number: Number | None
    alarm: bool


@dataclass(frozen=True, slots=True)
class Gram:
    """An n-gram that grew, with its share of the replies."""

    words: str
    share: Number
    alarm: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row, with its `first` and `last` round."""

    first: Number
    last: Number
    replies: Number
    figures: tuple[Figure, ...]
    grams: tuple[Gram, ...]


@dataclass(frozen=True, slots=True)
class DriftTable:
    """The listed snapshots of one step, and the counts of all of them."""

    step: str
    columns: tuple[str, ...]
    rows: tuple[Snapshot, ...]
    total: Number
    alarmed: Number


def drift_table(run: Run) -> DriftTable | None:
    """The snapshots of the RL step; None if it kept none."""
    rl = run.rl
    if rl is None or not (rows := rl.rows(DRIFT)):
        return None
    replies = list(snapshots(rl.rows(REPLIES)))
    names = [name for name in COLUMNS if any(_has(row, name) for row in rows)]
    last = len(rows) - 1
    listed = sorted({round(n * last / (MOST - 1)) for n in range(MOST)}) if last >= MOST else range(last + 1)
    alarmed = sum(bool(row["alarms"]) for row in rows)
    return DriftTable(
        rl.name,
        tuple(COLUMNS[name] for name in names),
        tuple(_snapshot(rl, rows[n], replies[n], names) for n in listed),
        rl.count("snapshots of replies", len(rows), DRIFT),
        rl.count("snapshots with an alarm", alarmed, DRIFT),
    )


def _has(row: Row, name: str) -> bool:
    return name == LENGTH or name in row["rates"] or row.get(name) is not None


def _snapshot(rl: Artifact, row: Row, replies: Rows, names: Sequence[str]) -> Snapshot:
    key = f"snapshot {row['snapshot']}"
    first, last = (rl.count(f"{key} {end}", row["rounds"][n], DRIFT) for n, end in enumerate(("from", "to")))
    limit = row["bound"]
    grams = tuple(
        Gram(
            gram["words"],
            _plain(rl, f"{key} n-gram {gram['words']}", gram["now"], SHARE),
            limit is not None and gram["z"] > limit,
        )
        for gram in row["ngrams"]
    )
    figures = tuple(Figure(_figure(rl, key, name, row, replies), name in row["alarms"]) for name in names)
    return Snapshot(first, last, rl.count(f"{key} replies", row["replies"], DRIFT), figures, grams)


def _figure(rl: Artifact, key: str, name: str, row: Row, replies: Rows) -> Number | None:
    """A rate or length with its interval, counted again from the replies; KL and gap as the row gives them."""
    if name in RATES:
        table = RATES[name].table(replies)
        return compute_number(rl, f"{key} {name}", table, SHARE, REPLIES) if table.clusters else None
    if name == "gap":
        return None if row["gap"] is None else _plain(rl, f"{key} gap", row["gap"], PLAIN)
    what, unit = ("tokens", "tokens") if name == LENGTH else ("kl", "nats")
    return compute_number(rl, f"{key} {name}", mean(what, has(what))(replies), unit, REPLIES)


def _plain(rl: Artifact, name: str, value: float, unit: str) -> Number:
    return Number(
        f"{rl.name}/{name}",
        name,
        value,
        version=VERSION,
        unit=unit,
        stage=rl.label,
        sources=(rl.source(DRIFT),),
    )
