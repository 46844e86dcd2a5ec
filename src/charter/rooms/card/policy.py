"""Measures the screen of an acceptable use policy: how much it finds, and how many harmless texts it takes.

It uses the report under `acceptable_use`, else the last stage that measured a screen. Every number is from the half of
the texts that chose no threshold. Numbers by set and by topic are counted here from the kept rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from charter.ground.measure.plots import SERIES, Line
from charter.ground.measure.score import tabulate
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
from charter.ground.reports.artifact import REPORT, Artifact, placed_in
from charter.ground.reports.number import FEW, PLAIN, SHARE, Number
from charter.rooms.card.drawing import WIDTH, Figure, draw_curves
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

ROWS, PLACED_ROWS = f"samples/{SCREENED}", f"samples/{PLACED}"
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
# One row of a table: what it counts, a note, and its number at each sensitivity level.
Tally = tuple[str, str, tuple[Number | None, ...]]


def screen_of(run: Run) -> Artifact | None:
    """The report that measured a screen; None if there is none."""
    candidates = (run.screen,) if run.screen else tuple(reversed(run.stages))
    return next((report for report in candidates if report.report.get("acceptable_use")), None)


def describe_screen(run: Run) -> dict[str, Any] | None:
    """Everything that the card says about the screen; None if none was measured."""
    report = screen_of(run)
    if report is None:
        return None
    facts = report.report["acceptable_use"]
    rows = [row for row in report.rows(ROWS) if row["half"] == MEASURED and row["kind"] != PAIR]
    overall, apart = (
        [report.own[name] for name in placed_in([report], key) if name in report.own]
        for key in ("screen", "screen_apart")
    )
    policy = facts["policy"]
    prompts = [r for r in rows if r["kind"] == VIOLATING and r["side"] == "prompt"]
    return {
        "step": report.name,
        "policy": f"{policy['name']} version {policy['version']} ({policy['id'][:12]})",
        "classifiers": ", ".join(f"{name} {version[:12]}" for name, version in facts["classifiers"].items()),
        "overall": [
            (
                n.label.rsplit(",", 1)[0],
                "",
                tuple(report.own.get(n.name.removesuffix(LEVELS[0]) + level) for level in LEVELS),
            )
            for n in overall
        ],
        "sets": list(_lines(report, rows, "set")),
        "topics": list(_lines(report, prompts, "topic")),
        "places": list(_places(report)),
        # numbers that depend on no threshold
        "apart": apart,
        # (name, value, share of the harmless half that reaches it)
        "thresholds": list(_thresholds(report, facts["thresholds"], list(facts["classifiers"]))),
    }


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
        yield words, KINDS[name[0], name[1]], _count_found(report, "/".join(name), members, ROWS)


def _places(report: Artifact) -> Iterable[Tally]:
    """A row for each place or encoding and each kind of prompt; none if no prompt was placed."""
    if not report.own.get(f"screen_placed_{VIOLATING}_standard"):
        return
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows(PLACED_ROWS):
        groups.setdefault((row["place"], row["kind"]), []).append(row)
    for (place, kind), members in groups.items():
        yield place, KINDS["prompt", kind], _count_found(report, f"{place}/{kind}", members, PLACED_ROWS)


def _count_found(report: Artifact, name: str, rows: Sequence[Row], file: str) -> tuple[Number, ...]:
    """The share of some rows that the screen finds, at each level."""
    tables = {level: tabulate((str(row["id"]), float(row[level]), 1.0) for row in rows) for level in LEVELS}
    return tuple(report.measure(f"screen {level} {name}", t, SHARE, file) for level, t in tables.items())


def _thresholds(
    report: Artifact, entries: Sequence[dict[str, Any]], names: Sequence[str]
) -> Iterable[tuple[str, Number, Number]]:
    for name, entry in zip(names, entries, strict=True):
        for part in ("prompt", "reply", "high_risk"):
            for level in LEVELS:
                if entry.get(part) is None:
                    continue
                t, key = entry[part][level], f"threshold {name} {part} {level}"
                value = replace(report.number(key, t["value"], REPORT, PLAIN), name="threshold")
                ends = {part: t[part] for part in ("low", "high", "n")}
                rate = report.number(f"{key} rate", t["hits"] / t["n"], REPORT, SHARE, **ends)
                rate = replace(rate, name="calibration rate")
                yield f"{name}, {part.replace('_', ' ')}, {level}", value, rate


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
    x_label = "share of harmless prompts taken for violations"
    drawing = draw_curves([("Violating prompts found", lines, x_label, True)], (WIDTH, 2.9))
    caption = (
        "Violating prompts found, against harmless look-alikes and ordinary prompts taken for violations, at every "
        f"threshold that takes at most {100 * MOST_TAKEN:.0f} % of these; no intervals. n = {', '.join(counts)}, of "
        "the measured half. A screen that guesses would find as large a share as it takes."
    )
    figure = Figure("screen", "Acceptable use: found and taken", "screen")
    name = "What the screen finds and what it costs"
    return figure.draw(drawing, caption, caption, [report.source(ROWS)], name)


def _curve(violating: Sequence[float], harmless: Sequence[float]) -> tuple[list[float], list[float]]:
    """Shares of harmless and of violating scores at or above each score, up to MOST_TAKEN of the harmless. At most
    about CURVE_POINTS points are kept."""
    cuts = sorted({*violating, *harmless}, reverse=True)

    def above(scores: Sequence[float], cut: float) -> float:
        return sum(score >= cut for score in scores) / len(scores)

    points = [(above(harmless, cut), above(violating, cut)) for cut in cuts]
    head = [(0.0, 0.0), *(point for point in points if point[0] <= MOST_TAKEN)]
    step = max(1, len(head) // CURVE_POINTS)
    thinned = [*head[::step], head[-1]]
    return [x for x, _ in thinned], [y for _, y in thinned]
