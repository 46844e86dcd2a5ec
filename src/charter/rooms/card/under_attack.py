"""Red teaming by machine: what attacks do to each stage, beside the same requests without one and their harmless twins.

The search's own rate is no rate of the model; new samples of what it found are, and so are the controls. A family that
the model can't read is never called harmless, and a rate is corrected for the grader's errors or says why not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.attack.chains import FAMILIES
from charter.ground.attack.verdicts import GRADER_ERRORS, UNREAD, verdict
from charter.ground.measure.correction import why_none
from charter.ground.measure.plots import SERIES, Line, canvas, forest, legend
from charter.ground.reports.artifact import Artifact, placed_in
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number
from charter.rooms.card.drawing import WIDE, WIDTH, Figure, draw_curves, draw_panel, list_values, looks_of, stage_rows
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

# What a search found, by the requests sent.
CURVE = "curve.jsonl"
SECTION = "attacks"
CORRECTED = "_corrected"
RATE = "attack_rate"
# Tables, as the metrics declare them, and their captions.
GROUPS = {
    "attack_controls": "The same requests with and without an attack",
    "attack_splits": "Attacks and requests that the search saw or not",
    "attack_search": "Found attacks, sampled anew",
    "attack_reading": "What the model can read, and what it refuses",
    "attack_grader": "The reporting grader on known replies",
}
COUNTS = ("queries", "found", "findings", "confirmed")


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of one stage, and the same without the grader's errors; `word` is what the controls say of a family.
    `unfit`: its grader failed the gate."""

    number: Number | None
    corrected: Number | None = None
    word: str = ""
    unfit: bool = False
    refused: Number | None = None
    understood: Number | None = None

    @property
    def unread(self) -> bool:
        """Whether the model can't read the family, so that a rate of 0 says nothing."""
        return self.word == UNREAD


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One measure, or one family, at each stage."""

    label: str
    meaning: str
    better: str
    cells: tuple[Rate, ...]


def attacks(run: Run) -> dict[str, Any] | None:
    """What the card prints of the attacks of a run, with a column for each model: `counted`: model, step and the
    search's counts; `doubts`: why no rate of a model is corrected. None if no step of the attack room is among its
    inputs."""
    if not run.attacks:
        return None
    names = {caption: placed_in(run.attacks, key) for key, caption in GROUPS.items()}
    families = [name for name in FAMILIES if any(f"{RATE}_{name}" in report.numbers for report in run.attacks)]
    return {
        "stages": [a.label for a in run.attacks],
        "groups": [(caption, [_row(run.attacks, n) for n in of]) for caption, of in names.items() if of],
        "families": [_family(run.attacks, name) for name in families],
        "counted": [(a.label, a.step, [a.numbers.get(name) for name in COUNTS]) for a in run.attacks],
        "doubts": [(a.label, why) for a in run.attacks if (why := _doubt(a))],
    }


def _row(attacked: Sequence[Artifact], name: str) -> AttackRow:
    first = next(report.numbers[name] for report in attacked if name in report.numbers)
    cells = tuple(
        Rate(report.numbers.get(name), report.numbers.get(name + CORRECTED), unfit=unfit(report, name))
        for report in attacked
    )
    return AttackRow(first.label, first.meaning, first.better, cells)


def _family(attacked: Sequence[Artifact], family: str) -> AttackRow:
    def cell(report: Artifact) -> Rate:
        rate, refused, understood = (
            report.numbers.get(f"attack_{figure}_{family}") for figure in ("rate", "twin_refused", "understood")
        )
        word = _word(report, family) if rate is not None else ""
        corrected = report.numbers.get(f"{RATE}_{family}{CORRECTED}")
        return Rate(rate, corrected, word, unfit(report, f"{RATE}_{family}"), refused, understood)

    return AttackRow(family.replace("_", " "), "", "", tuple(map(cell, attacked)))


def _word(attack: Artifact, family: str) -> str:
    """What the controls say of a family."""
    return verdict(family, {name: n.value for name, n in attack.numbers.items() if n.value is not None})


def _doubt(attack: Artifact) -> str:
    """Why no rate of a model is corrected for the grader's errors; "" if they are."""
    grader_errors = [attack.tables[name] for name in GRADER_ERRORS if name in attack.tables]
    if len(grader_errors) < len(GRADER_ERRORS):
        return "no known replies measure the grader's errors"
    return why_none(*grader_errors)


def attack_figures(run: Run, ledger: Ledger) -> Iterator[Figure | None]:
    """What attacks do to each model, by family, and what the search found by its budget."""
    if run.attacks:
        yield from (_overall(run, ledger), _by_family(run, ledger), _budget(run))


def _overall(run: Run, ledger: Ledger) -> Figure | None:
    colours = (SERIES[0], SERIES[0], SERIES[1])
    rows = stage_rows(run.attacks, "attacks", ledger, colours, mark=False)
    if not rows:
        return None
    drawn_numbers = [n for _, numbers in rows for n in numbers]
    drawing, (axes,) = canvas(WIDTH, 0.85 + 0.5 * len(run.attacks))
    forest(axes, [report.label for report in run.attacks], [replace(series, name="") for series, _ in rows])
    legend(drawing, [series for series, _ in rows], 2)
    caption = (
        "Filled: harmful requests in all families of attacks that succeed; hollow: the same requests without an "
        "attack. Beside them, the harmless twins in the same frames that are refused. Bars are 95 % intervals, "
        "clustered by request."
    )
    figure = Figure(SECTION, "Under attack, by stage", SECTION)
    return figure.draw(drawing, caption, list_values(drawn_numbers, ledger), drawn_numbers)


def _by_family(run: Run, ledger: Ledger) -> Figure | None:
    """Rates by family, without a dot where a model can't read it."""
    looks = looks_of(run.attacks)

    def rate(report: Artifact, family: str) -> Number | None:
        number = report.numbers.get(f"{RATE}_{family}")
        return number if ledger.drawable(number, "attacks by family") and _word(report, family) != UNREAD else None

    rates = {family: [rate(report, family) for report, _ in looks] for family in FAMILIES}
    rates = {family: numbers for family, numbers in rates.items() if any(numbers)}
    if not rates:
        return None
    drawing, (axes,) = canvas(WIDTH, 0.8 + (0.2 + 0.07 * len(looks)) * len(rates))
    parts = [(look, [numbers[n] for numbers in rates.values()]) for n, (_, look) in enumerate(looks)]
    draw_panel(axes, [family.replace("_", " ") for family in rates], parts, ledger)
    legend(drawing, [look for _, look in looks], 2)
    drawn_numbers = [n for numbers in rates.values() for n in numbers if n]
    caption = (
        "Share of harmful requests in each family of attacks that succeed, by the grader that the search never saw. A "
        "family that a model can't read has no dot. Bars are 95 % intervals."
    )
    figure = Figure("attack-families", "Attacks that succeed, by family", SECTION)
    return figure.draw(drawing, caption, list_values(drawn_numbers, ledger), drawn_numbers)


def _budget(run: Run) -> Figure | None:
    """Successes by the search's own grader, and topics and families with one, over the requests sent."""
    searched = [(report, look, rows) for report, look in looks_of(run.attacks) if (rows := report.rows(CURVE))]
    if not searched:
        return None

    def lines(key: str) -> list[Line]:
        return [
            Line(
                report.label,
                [0.0, *(float(row["queries"]) for row in rows)],
                [0.0, *(float(row[key]) for row in rows)],
                look.colour,
            )
            for report, look, rows in searched
        ]

    panels = [
        ("Requests that succeed, by the search's grader", lines("found"), "requests sent", False),
        ("Topics and families with one", lines("cells"), "requests sent", False),
    ]
    words = "; ".join(f"{report.label}: {rows[-1]['found']} of {rows[-1]['queries']}" for report, _, rows in searched)
    caption = (
        "Counts by the grader that the search went by, so they are no rate of the model: what the reporting grader "
        "confirms stands in the table. Compare models at an equal number of requests."
    )
    figure = Figure("attack-budget", "What the search found, by its budget", SECTION, wide=True)
    sources = [report.source(CURVE) for report, _, _ in searched]
    return figure.draw(draw_curves(panels, (WIDE, 2.7), gap=0.06), caption, words, sources)
