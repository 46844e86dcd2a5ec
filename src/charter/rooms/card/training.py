"""What training leaves: the corpora with their sizes and drops, a ladder of pretrained models, snapshots of replies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.curves import read_object
from charter.ground.measure.counts import has, mean
from charter.ground.measure.drift import DRIFT, LENGTH, RATES, REPLIES, Row, Rows, snapshots
from charter.ground.measure.metric import VERSION
from charter.ground.measure.scaling import BITS, SCALING, Ladder
from charter.ground.measure.scaling_plots import prepare_figure, scaling_figure
from charter.ground.measure.score import tabulate
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import COUNT, FEW, FLOPS, PLAIN, SHARE, Number
from charter.rooms.card.drawing import WIDTH, Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

COMPOSITION = "composition.json"
GROUPS = (("source", "Source"), ("language", "Language"), ("licence", "Licence"))
SIZES = ("documents", "heldout", "bytes", "tokens")
# Listed rows of a group, those with most bytes first.
MOST_PARTS = 12
LADDER_ROWS = f"samples/{SCALING}"
# Listed snapshots: the first, the last, and some between at even distances.
MOST_SNAPSHOTS = 16
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
class Part:
    """Documents learnt from (with repeats) and held out of one source, language or licence, their bytes and tokens."""

    name: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """One corpus: its parts by kind with the number of parts that aren't listed, and documents dropped by reason."""

    step: str
    read: Number
    kept: Number
    total: Part
    groups: tuple[tuple[str, tuple[Part, ...], Number | None], ...]
    dropped: tuple[tuple[str, Number], ...]


def corpora(run: Run) -> tuple[Corpus, ...]:
    """The corpora among a card's ancestors."""
    artifacts = (a for a in run.lineage if a.manifest.kind == "corpus" and (a.path / COMPOSITION).is_file())
    return tuple(_corpus(artifact) for artifact in artifacts)


def _corpus(artifact: Artifact) -> Corpus:
    composition: dict[str, Any] = read_object(artifact.path / COMPOSITION)

    def count(name: str, value: float) -> Number:
        return artifact.count(name, value, COMPOSITION)

    def part(key: str, name: str, sizes: Mapping[str, float]) -> Part:
        return Part(name, tuple(count(f"{key}/{size}", sizes.get(size, 0)) for size in SIZES))

    groups = []
    for key, title in GROUPS:
        parts = sorted(composition["by"][key].items(), key=lambda item: (-item[1].get("bytes", 0), item[0]))
        others = count(f"{key}/others", len(parts) - MOST_PARTS) if len(parts) > MOST_PARTS else None
        listed = tuple(part(f"{key}/{name}", name, sizes) for name, sizes in parts[:MOST_PARTS])
        groups.append((title, listed, others))
    dropped = sorted(composition["dropped"].items(), key=lambda item: (-item[1], item[0]))
    return Corpus(
        artifact.name,
        count("read", sum(source.get("read", 0) for source in composition["by"]["source"].values())),
        count("kept", composition["total"]["unique"]),
        part("all", "all", composition["total"]),
        tuple(groups),
        tuple((reason.replace("_", " "), count(f"reason {reason}", n)) for reason, n in dropped if n),
    )


@dataclass(frozen=True, slots=True)
class Rung:
    """One model of the ladder."""

    name: str
    parameters: Number
    tokens: Number
    compute: Number
    loss: Number


def scaling_table(run: Run) -> tuple[str, tuple[Rung, ...]] | None:
    """The step of the scaling report and the models behind its law; None without one."""
    report = run.scaling
    if report is None:
        return None
    rows = report.rows(LADDER_ROWS)
    return report.name, tuple(_rung(report, model.run, rows) for model in Ladder.of(rows).models)


def _rung(report: Artifact, name: str, rows: Sequence[dict[str, Any]]) -> Rung:
    run_rows = [row for row in rows if row["run"] == name]

    def count(key: str, unit: str = COUNT) -> Number:
        return report.number(f"{key} of {name}", run_rows[0][key], LADDER_ROWS, unit)

    bits = tabulate((str(row["id"]), row["nats"] / math.log(2), float(row["bytes"])) for row in run_rows)
    loss = report.measure(f"bits_per_byte of {name}", bits, BITS, LADDER_ROWS)
    return Rung(name, count("parameters"), count("tokens"), count("compute", FLOPS), loss)


def scaling(run: Run, ledger: Ledger) -> Figure | None:
    """Loss against compute over a ladder of pretrained models, with the law, its band, and its predictions."""
    report = run.scaling
    if report is None:
        return None
    rows = report.rows(LADDER_ROWS)
    ladder, documents = Ladder.of(rows), len({row["id"] for row in rows})
    if documents < FEW:
        ledger.undrawn["Loss against compute"] = None
        return None
    numbers = [n for n in report.numbers.values() if n.metric and n.metric.file == SCALING]
    description = "; ".join(
        f"{n.label}: {ledger.value(n)}" + (f" ({ends})" if (ends := ledger.span(n)) else "") for n in numbers
    )
    sizes = {"models": len(ladder.models), "sizes": len(ladder.sizes), "documents": documents}
    counts = [report.count(f"drawn {words}", number, LADDER_ROWS) for words, number in sizes.items()]
    models, of_sizes, of_documents = map(ledger.value, counts)
    seeds = (
        "Each size was trained once, so the interval leaves out how far another seed moves its loss. "
        if len(ladder.models) == len(ladder.sizes)
        else "Documents and the seeds of a size are drawn anew in each resample. "
    )
    caption = (
        f"Held-out loss of {models} models of {of_sizes} sizes, both axes log, with the law L(C) = E + (C₀ / C)^a, its "
        f"95 % band and its prediction beyond them. {description}. n = {of_documents} documents. {seeds}"
        "Bars are 95 % intervals (bootstrap over documents)."
    )
    drawing = scaling_figure(prepare_figure(rows), WIDTH)
    return Figure("scaling", "Loss against compute", "data").draw(drawing, caption, description, [*numbers, *counts])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Replies of RL from the `first` to the `last` round: figures, and n-grams that grew most with their share; each
    with whether it differs from the first snapshot's."""

    first: Number
    last: Number
    replies: Number
    figures: tuple[tuple[Number | None, bool], ...]
    grams: tuple[tuple[str, Number, bool], ...]


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
    names = [
        name
        for name in COLUMNS
        if name == LENGTH or any(name in row["rates"] or row.get(name) is not None for row in rows)
    ]
    last = len(rows) - 1
    listed = sorted({round(n * last / (MOST_SNAPSHOTS - 1)) for n in range(MOST_SNAPSHOTS)})
    if last < MOST_SNAPSHOTS:
        listed = list(range(last + 1))
    alarmed = sum(bool(row["alarms"]) for row in rows)
    return DriftTable(
        rl.name,
        tuple(COLUMNS[name] for name in names),
        tuple(_snapshot(rl, rows[n], replies[n], names) for n in listed),
        rl.count("snapshots of replies", len(rows), DRIFT),
        rl.count("snapshots with an alarm", alarmed, DRIFT),
    )


def _snapshot(rl: Artifact, row: Row, replies: Rows, names: Sequence[str]) -> Snapshot:
    key, limit = f"snapshot {row['snapshot']}", row["bound"]

    def grams() -> Iterator[tuple[str, Number, bool]]:
        for gram in row["ngrams"]:
            share = rl.number(f"{key} n-gram {gram['words']}", gram["now"], DRIFT, SHARE, version=VERSION)
            yield gram["words"], share, limit is not None and gram["z"] > limit

    first, last = (rl.count(f"{key} {end}", row["rounds"][n], DRIFT) for n, end in enumerate(("from", "to")))
    figures = tuple((_figure(rl, f"{key} {name}", name, row, replies), name in row["alarms"]) for name in names)
    return Snapshot(first, last, rl.count(f"{key} replies", row["replies"], DRIFT), figures, tuple(grams()))


def _figure(rl: Artifact, key: str, name: str, row: Row, replies: Rows) -> Number | None:
    """A rate or length with its interval, counted again from the replies; the gap as the row gives it."""
    if name in RATES:
        table = RATES[name].table(replies)
        return rl.measure(key, table, SHARE, REPLIES) if table.clusters else None
    if name == "gap":
        return None if row["gap"] is None else rl.number(key, row["gap"], DRIFT, PLAIN, version=VERSION)
    field, unit = ("tokens", "tokens") if name == LENGTH else ("kl", "nats")
    return rl.measure(key, mean(field, has(field))(replies), unit, REPLIES)
