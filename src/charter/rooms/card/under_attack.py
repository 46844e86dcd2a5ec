"""Red teaming by machine: what attacks do to each stage, beside the same requests without one and their harmless twins.

The search's own rate is no rate of the model; new samples of what it found are, and so are the controls. A family that
the model can't read is never called harmless, and a rate is corrected for the grader's errors or says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from charter.ground.attack.chains import FAMILIES
from charter.ground.attack.verdicts import GRADER_ERRORS, UNREAD, verdict
from charter.ground.measure.correction import why_none
from charter.ground.measure.plots import SERIES, Line, Point, Series, canvas, curves, forest, inline, legend
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number
from charter.rooms.card.drawing import WIDTH, by_stage, note_point, sources_of
from charter.rooms.card.figure import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

# What a search found, by the requests sent.
CURVE = "curve.jsonl"

SECTION = "attacks"
CORRECTED = "_corrected"
RATE, PLAIN_RATE, REFUSED = "attack_rate", "attack_rate_none", "attack_twin_refused"
SPLITS = tuple(f"attack_rate_{a}_{b}" for a in ("seen", "unseen") for b in ("seen", "unseen"))
GROUPS = (
    (
        "The same requests with and without an attack",
        (RATE, PLAIN_RATE, "attack_twin_rate", "attack_twin_rate_none", "attack_beyond_twins"),
    ),
    ("Attacks and requests that the search saw or not", SPLITS),
    (
        "Found attacks, sampled anew",
        ("attack_success", "attack_found_again", "attack_gap", "attack_confirmed", "attack_search_rate"),
    ),
    (
        "What the model can read, and what it refuses",
        (REFUSED, f"{REFUSED}_none", "attack_understood", "attack_understood_none"),
    ),
    ("The reporting grader on known replies", GRADER_ERRORS),
)
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


@dataclass(frozen=True, slots=True)
class AttackGroup:
    """Measures of one kind."""

    caption: str
    rows: tuple[AttackRow, ...]


@dataclass(frozen=True, slots=True)
class Attacks:
    """All attacks of a card: a column for each model. `counted`: model, step and the search's counts; `doubts`: why no
    rate of a model is corrected."""

    stages: tuple[str, ...]
    groups: tuple[AttackGroup, ...]
    families: tuple[AttackRow, ...]
    counted: tuple[tuple[str, str, tuple[Number | None, ...]], ...]
    doubts: tuple[tuple[str, str], ...]


def attacks(run: Run) -> Attacks | None:
    """The attacks of a run; None if no step of the attack room is among its inputs."""
    if not run.attacks:
        return None
    groups = tuple(
        AttackGroup(caption, rows)
        for caption, names in GROUPS
        if (rows := tuple(_row(run.attacks, name) for name in names if _has(run.attacks, name)))
    )
    families = tuple(
        _family(run.attacks, name) for name in FAMILIES if _has(run.attacks, f"attack_rate_{name}")
    )
    counted = tuple((a.label, a.step, tuple(a.numbers.get(name) for name in COUNTS)) for a in run.attacks)
    doubts = tuple((a.label, why) for a in run.attacks if (why := _doubt(a)))
    return Attacks(tuple(a.label for a in run.attacks), groups, families, counted, doubts)


def _has(attacked: Sequence[Artifact], name: str) -> bool:
    return any(name in one.numbers for one in attacked)


def _row(attacked: Sequence[Artifact], name: str) -> AttackRow:
    first = next(one.numbers[name] for one in attacked if name in one.numbers)
    cells = tuple(
        Rate(one.numbers.get(name), one.numbers.get(name + CORRECTED), unfit=unfit(one, name))
        for one in attacked
    )
    return AttackRow(first.label, first.meaning, first.better, cells)


def _family(attacked: Sequence[Artifact], family: str) -> AttackRow:
    def cell(one: Artifact) -> Rate:
        rate, refused, understood = (
            one.numbers.get(f"attack_{what}_{family}") for what in ("rate", "twin_refused", "understood")
        )
        values = {name: n.value for name, n in one.numbers.items() if n.value is not None}
        word = verdict(family, values) if rate is not None else ""
        corrected = one.numbers.get(f"{RATE}_{family}{CORRECTED}")
        return Rate(rate, corrected, word, unfit(one, f"{RATE}_{family}"), refused, understood)

    return AttackRow(family.replace("_", " "), "", "", tuple(map(cell, attacked)))


def _doubt(attack: Artifact) -> str:
    """Why no rate of a model is corrected for the grader's errors; "" if they are."""
    known = [attack.tables[name] for name in GRADER_ERRORS if name in attack.tables]
    if len(known) < len(GRADER_ERRORS):
        return "no known replies measure the grader's errors"
    return why_none(*known)


def attack_figures(run: Run, ledger: Ledger) -> tuple[Figure | None, ...]:
    """What attacks do to each model, by family, and what the search found by its budget."""
    return (_overall(run, ledger), _by_family(run, ledger), _budget(run)) if run.attacks else ()


def _overall(run: Run, ledger: Ledger) -> Figure | None:
    parts = (
        (RATE, "attacked, succeeds", SERIES[0], False),
        (PLAIN_RATE, "no attack, succeeds", SERIES[0], True),
        (REFUSED, "twin attacked, refused", SERIES[1], False),
    )
    series: list[Series] = []
    shown: list[Number] = []
    for name, words, colour, hollow in parts:
        points, numbers = by_stage(run.attacks, name, ledger)
        if numbers:
            series.append(Series(words, points, colour, hollow))
            shown += numbers
    if not series:
        return None
    figure, (axes,) = canvas(WIDTH, 0.85 + 0.5 * len(run.attacks))
    forest(axes, [one.label for one in run.attacks], [replace(one, name="") for one in series])
    legend(figure, series, 2)
    title = "Under attack, by stage"
    told = "; ".join(f"{n.stage}, {n.label.lower()}: {ledger.value(n)}" for n in shown)
    caption = (
        "Filled: harmful requests in all families of attacks that succeed; hollow: the same requests without an "
        "attack. Beside them, the harmless twins in the same frames that are refused. Bars are 95 % intervals, "
        "clustered by request."
    )
    svg = inline(figure, SECTION, title, told)
    return Figure(SECTION, title, caption, svg, sources_of(shown), section=SECTION)


def _by_family(run: Run, ledger: Ledger) -> Figure | None:
    """Rates by family, without a dot where a model can't read it."""
    shown: list[Number] = []

    def point(one: Artifact, family: str) -> Point | None:
        number = one.numbers.get(f"{RATE}_{family}")
        if number is None or not ledger.drawable(number, "attacks by family") or _is_unread(one, family):
            return None
        shown.append(number)
        return note_point(number, ledger)

    looks = run.attacks[-len(SERIES) :]
    rows = {family: [point(one, family) for one in looks] for family in FAMILIES}
    rows = {family: points for family, points in rows.items() if any(points)}
    if not rows:
        return None
    series = [
        Series(one.label, [points[n] for points in rows.values()], _colour(n, looks), n == 0 < len(looks) - 1)
        for n, one in enumerate(looks)
    ]
    figure, (axes,) = canvas(WIDTH, 0.8 + (0.2 + 0.07 * len(series)) * len(rows))
    forest(axes, [family.replace("_", " ") for family in rows], [replace(one, name="") for one in series])
    legend(figure, series, 2)
    title = "Attacks that succeed, by family"
    caption = (
        "Share of harmful requests in each family of attacks that succeed, by the grader that the search never saw. A "
        "family that a model can't read has no dot. Bars are 95 % intervals."
    )
    told = "; ".join(f"{n.stage}, {n.label.lower()}: {ledger.value(n)}" for n in shown)
    svg = inline(figure, "attack-families", title, told)
    return Figure("attack-families", title, caption, svg, sources_of(shown), section=SECTION)


def _is_unread(attack: Artifact, family: str) -> bool:
    values = {name: n.value for name, n in attack.numbers.items() if n.value is not None}
    return verdict(family, values) == UNREAD


def _colour(place: int, looks: Sequence[Artifact]) -> str:
    """The last model has the first colour, as in other figures."""
    return SERIES[0] if place == len(looks) - 1 else SERIES[place + 1]


def _budget(run: Run) -> Figure | None:
    """Successes by the search's own grader, and topics and families with one, over the requests sent."""
    looks = run.attacks[-len(SERIES) :]
    searched = [(n, one, rows) for n, one in enumerate(looks) if (rows := one.rows(CURVE))]
    if not searched:
        return None
    figure, panels = canvas(9.6, 2.7, 1, 2, gap=0.06)
    for axes, key, title in (
        (panels[0], "found", "Requests that succeed, by the search's grader"),
        (panels[1], "cells", "Topics and families with one"),
    ):
        lines = [
            Line(
                one.label,
                [0.0, *(float(row["queries"]) for row in rows)],
                [0.0, *(float(row[key]) for row in rows)],
                _colour(n, looks),
            )
            for n, one, rows in searched
        ]
        curves(axes, title, lines, "requests sent")
    title = "What the search found, by its budget"
    told = "; ".join(
        f"{one.label}: {rows[-1]['found']} of {rows[-1]['queries']}" for _, one, rows in searched
    )
    caption = (
        "Counts by the grader that the search went by, so they are no rate of the model: what the reporting grader "
        "confirms stands in the table. Compare models at an equal number of requests."
    )
    svg = inline(figure, "attack-budget", title, told)
    sources = tuple(one.source(CURVE) for _, one, _ in searched)
    return Figure("attack-budget", title, caption, svg, sources, wide=True, section=SECTION)
