"""Measures the screen of an acceptable use policy: how much it finds, and how many harmless texts it takes.

It uses the report under `acceptable_use`, else the last stage that measured a screen. Every number is from the half of
the texts that chose no threshold. Numbers by set and by topic are counted here from the kept rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.measure.plots import SERIES, Line, canvas, curves, inline
from charter.ground.measure.score import Table, tabulate
from charter.ground.measure.screening import (
    ATTEMPT,
    LEVELS,
    LOOKALIKE,
    MEASURED,
    ORDINARY,
    PAIR,
    PLACED,
    SCREENED,
    VIOLATING,
    WORK,
    measured_rows,
)
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import FEW, PLAIN, SHARE, Number
from charter.rooms.card.drawing import WIDTH, compute_number
from charter.rooms.card.figure import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

ROWS, PLACED_ROWS = f"samples/{SCREENED}", f"samples/{PLACED}"
OVERALL = ("screen_recall", "screen_precision", "screen_lookalikes", "screen_ordinary", "screen_work")
OF_REPLIES = ("screen_reply_recall", "screen_reply_lookalikes", "screen_reply_ordinary")
APART = (
    "screen_auroc_lookalikes",
    "screen_auroc_ordinary",
    "screen_reply_auroc",
    "screen_reply_pairs",
    "screen_disclosed",
)
KINDS = {
    ("prompt", VIOLATING): "violating",
    ("prompt", ATTEMPT): "people's attempts, some harmless",
    ("prompt", LOOKALIKE): "harmless look-alikes",
    ("prompt", ORDINARY): "ordinary",
    ("prompt", WORK): "harmless work",
    ("reply", VIOLATING): "violating replies",
    ("reply", LOOKALIKE): "refusals",
    ("reply", ORDINARY): "ordinary replies",
}
# A set or a topic with fewer texts has no row of its own.
FEWEST = 10
CURVE_POINTS, MOST_TAKEN = 200, 0.2
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tally:
    """One row of a table: what it counts, and its number at each sensitivity level."""

    label: str
    note: str
    numbers: tuple[Number | None, ...]


@dataclass(frozen=True, slots=True)
class Screened:
    """A measured screen. `apart` are numbers that depend on no threshold. `thresholds` are (name, value, share of the
    harmless half that reaches it)."""

    step: str
    policy: str
    classifiers: str
    overall: tuple[Tally, ...]
    sets: tuple[Tally, ...]
    topics: tuple[Tally, ...]
    places: tuple[Tally, ...]
    apart: tuple[tuple[str, Number], ...]
    thresholds: tuple[tuple[str, Number, Number], ...]


def screen_of(run: Run) -> Artifact | None:
    """The report that measured a screen; None if there is none."""
    candidates = (run.screen,) if run.screen else tuple(reversed(run.stages))
    return next((report for report in candidates if report.report.get("acceptable_use")), None)


def describe_screen(run: Run) -> Screened | None:
    """Everything that the card says about the screen; None if none was measured."""
    report = screen_of(run)
    if report is None:
        return None
    facts = report.report["acceptable_use"]
    rows = [row for row in report.rows(ROWS) if row["half"] == MEASURED and row["kind"] != PAIR]
    names = [*OVERALL, *OF_REPLIES]
    overall = [
        Tally(
            report.own[f"{name}_standard"].label.rsplit(",", 1)[0],
            "",
            tuple(report.own.get(f"{name}_{lv}") for lv in LEVELS),
        )
        for name in names
        if f"{name}_standard" in report.own
    ]
    policy = facts["policy"]
    return Screened(
        report.name,
        f"{policy['name']} version {policy['version']} ({policy['id'][:12]})",
        ", ".join(f"{name} {version[:12]}" for name, version in facts["classifiers"].items()),
        tuple(overall),
        tuple(_lines(report, rows, "set")),
        tuple(_lines(report, [r for r in rows if r["kind"] == VIOLATING and r["side"] == "prompt"], "topic")),
        tuple(_places(report)),
        tuple((report.own[name].label, report.own[name]) for name in APART if name in report.own),
        tuple(_thresholds(report, facts["thresholds"], list(facts["classifiers"]))),
    )


def _lines(report: Artifact, rows: Sequence[Row], key: str) -> Iterable[Tally]:
    """A row for each set, or for each topic of a set that has topics, with the share found at each level."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row[key]:
            name = (row["side"], row["kind"], row["set"]) + ((row["topic"],) if key == "topic" else ())
            groups.setdefault(name, []).append(row)
    for name, members in groups.items():
        if len(members) < FEWEST:
            continue
        words = re.sub("[_.]", " ", ": ".join(name[2:]))
        yield Tally(words, KINDS[name[0], name[1]], _count_found(report, "/".join(name), members, ROWS))


def _places(report: Artifact) -> Iterable[Tally]:
    """A row for each place or encoding and each kind of prompt; none if no prompt was placed."""
    if not report.own.get(f"screen_placed_{VIOLATING}_standard"):
        return
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows(PLACED_ROWS):
        groups.setdefault((row["place"], row["kind"]), []).append(row)
    for (place, kind), members in groups.items():
        yield Tally(
            place, KINDS["prompt", kind], _count_found(report, f"{place}/{kind}", members, PLACED_ROWS)
        )


def _count_found(report: Artifact, name: str, rows: Sequence[Row], file: str) -> tuple[Number, ...]:
    """The share of some rows that the screen finds, at each level."""

    def at(level: str) -> Table:
        return tabulate((str(row["id"]), float(row[level]), 1.0) for row in rows)

    return tuple(compute_number(report, f"screen {level} {name}", at(level), SHARE, file) for level in LEVELS)


def _thresholds(
    report: Artifact, entries: Sequence[dict[str, Any]], names: Sequence[str]
) -> Iterable[tuple[str, Number, Number]]:
    source = (report.source("report.json"),)
    for name, entry in zip(names, entries, strict=True):
        for what in ("prompt", "reply", "high_risk"):
            for level in LEVELS:
                if entry.get(what) is None:
                    continue
                t, key = entry[what][level], f"{report.name}/threshold {name} {what} {level}"
                value = Number(key, "threshold", t["value"], unit=PLAIN, stage=report.label, sources=source)
                rate = Number(
                    f"{key} rate",
                    "calibration rate",
                    t["hits"] / t["n"],
                    t["low"],
                    t["high"],
                    t["n"],
                    unit=SHARE,
                    stage=report.label,
                    sources=source,
                )
                yield f"{name}, {what.replace('_', ' ')}, {level}", value, rate


def tradeoff(run: Run, ledger: Ledger) -> Figure | None:
    """The share that a screen finds against the share of harmless texts that it takes, over useful thresholds."""
    report = screen_of(run)
    if report is None:
        return None
    rows = report.rows(ROWS)
    scores = {
        kind: [r["score"] for r in rows if measured_rows("prompt", kind)(r)]
        for kind in (VIOLATING, LOOKALIKE, ORDINARY)
    }
    lines, counts = [], [f"{len(scores[VIOLATING]):,} violating prompts"]
    for n, (kind, words) in enumerate(((LOOKALIKE, "look-alikes"), (ORDINARY, "ordinary"))):
        if min(len(scores[VIOLATING]), len(scores[kind])) >= FEW:
            lines.append(Line(words, *_curve(scores[VIOLATING], scores[kind]), SERIES[n], dashed=n > 0))
            counts.append(f"{len(scores[kind]):,} {words}")
    if not lines:
        ledger.undrawn["Acceptable use: found and taken"] = None
        return None
    figure, (axes,) = canvas(WIDTH, 2.9)
    curves(axes, "Violating prompts found", lines, "share of harmless prompts taken for violations", True)
    caption = (
        "Violating prompts found, against harmless look-alikes and ordinary prompts taken for violations, at every "
        f"threshold that takes at most {100 * MOST_TAKEN:.0f} % of these; no intervals. n = {', '.join(counts)}, of "
        "the measured half. A screen that guesses would find as large a share as it takes."
    )
    svg = inline(figure, "screen", "What the screen finds and what it costs", caption)
    return Figure(
        "screen", "Acceptable use: found and taken", caption, svg, (report.source(ROWS),), section="screen"
    )


def _curve(violating: Sequence[float], harmless: Sequence[float]) -> tuple[list[float], list[float]]:
    """Shares of harmless and of violating scores at or above each score, up to MOST_TAKEN of the harmless. At most
    about CURVE_POINTS points are kept."""
    cuts = sorted({*violating, *harmless}, reverse=True)
    points = [(share_above(harmless, cut), share_above(violating, cut)) for cut in cuts]
    head = [(0.0, 0.0), *(point for point in points if point[0] <= MOST_TAKEN)]
    step = max(1, len(head) // CURVE_POINTS)
    thinned = [*head[::step], head[-1]]
    return [x for x, _ in thinned], [y for _, y in thinned]


def share_above(scores: Sequence[float], cut: float) -> float:
    """The share of scores at or above a cut."""
    return sum(score >= cut for score in scores) / len(scores)
