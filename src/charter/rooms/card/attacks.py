"""Machine red teaming: what each searched stage does behind attacks, and found attacks before and after a change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from charter.ground.attack.chains import FAMILIES
from charter.ground.measure.plots import MUTED, SERIES, Series, canvas, forest, inline, legend
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.decodings import model_of
from charter.rooms.card.drawing import APART, WIDTH, note_point, sources_of
from charter.rooms.card.figure import UNFIT, Figure
from charter.rooms.card.gather import POLICY, Run
from charter.rooms.card.number import Ledger, Number
from charter.rooms.card.sections import StageTable, table, unfit
from charter.rooms.card.tasks import ALIGNMENT, TaskTable, table_of

# In the report of an evaluate step with a baseline: found attacks there and here.
RETESTS = "retests.jsonl"
RATES = (
    "attack_rate_none", "attack_rate", "attack_rate_corrected", "attack_rate_seen_seen", "attack_rate_unseen_unseen",
    "attack_twin_rate", "attack_twin_refused_none", "attack_twin_refused", "attack_understood_none",
    "attack_understood",
)  # fmt: skip
SEARCHED = (
    "attack_success",
    "attack_found_again",
    "attack_gap",
    "attack_confirmed",
    "queries",
    "found",
    "confirmed",
)
BY_FAMILY = ("attack_rate", "attack_twin_refused", "attack_understood")
PANELS = (
    ("attack_rate", "harmful requests: succeeds"),
    ("attack_twin_refused", "harmless twins: refused"),
    ("attack_understood", "easy questions: answered"),
)


@dataclass(frozen=True, slots=True)
class Retest:
    """A found attack: [successes, samples] before and after, and [refusals, samples] of its harmless twin."""

    finding: str
    family: str
    before: tuple[Number, Number]
    after: tuple[Number, Number]
    twin_before: tuple[Number, Number] | None
    twin_after: tuple[Number, Number] | None


@dataclass(frozen=True, slots=True)
class RetestTable:
    """The mitigation log of found attacks: what was changed by step and artifact id, the re-test, and its rows."""

    before: str
    after: str
    changed: str
    artifact: str
    retest: str
    rows: tuple[Retest, ...]


def attack_tables(run: Run) -> tuple[StageTable, ...]:
    """The searched stages: rates with their controls, and the search itself."""
    stages = by_stage(run)
    tables = (
        table(stages, "attack-rates", RATES, "Behind attacks, with the controls of each"),
        table(
            stages, "attack-search", SEARCHED, "What a search found, by the reporting grader and by its own"
        ),
    )
    return tuple(one for one in tables if one is not None)


def family_table(run: Run) -> TaskTable | None:
    """Each family of attacks at each searched stage; None without attacks."""
    stages = by_stage(run)
    names = [f"{name}_{family}" for family in ("none", *FAMILIES) for name in BY_FAMILY]
    names = [name for name in names if any(name in stage.numbers for stage in stages)]
    return table_of(run, stages, "Attacks by family", names, folded=True) if names else None


def by_stage(run: Run) -> tuple[Artifact, ...]:
    """The steps of the attack room, each under the name of the stage that it attacked."""
    labels = {model_of(stage): stage.label for stage in (*run.comparators, *run.stages)}
    return tuple(
        replace(a, label=labels.get(next(iter(a.manifest.inputs.get(POLICY, ())), ""), a.step))
        for a in run.attacks
    )


def retest_table(run: Run) -> RetestTable | None:
    """Found attacks on the final stage, beside the stage that it is compared with; None if it re-tested none."""
    for report in (run.final, *run.final.beside):
        base = next((p for p in report.manifest.parents if p.role == "baseline"), None)
        rows = report.rows(RETESTS)
        if base is not None and rows:
            model = report.report["model"]
            before = next((s.label for s in run.stages if s.manifest.id == base.id), base.step)
            return RetestTable(
                before,
                report.label,
                str(model["name"]),
                str(model["id"])[:12],
                report.manifest.id[:12],
                tuple(_retest(report, n, row) for n, row in enumerate(rows, 1)),
            )
    return None


def _retest(report: Artifact, number: int, row: dict[str, object]) -> Retest:
    def pair(key: str) -> tuple[Number, Number] | None:
        counted = row[key]
        if not isinstance(counted, list):
            return None
        of = f"attack {number}, {key.replace('_', ' ')}"
        hits, sent = (
            report.count(f"{what} of {of}", float(count), RETESTS)
            for what, count in zip(("hits", "samples"), counted, strict=True)
        )
        return hits, sent

    before, after = pair("before"), pair("after")
    assert before is not None and after is not None
    return Retest(
        str(row["finding"]), str(row["family"]), before, after, pair("twin_before"), pair("twin_after")
    )


def attack_families(run: Run, ledger: Ledger) -> Figure | None:
    """Families by searched stage: successes, refused twins, answered questions."""
    stages = by_stage(run)
    families = [
        f for f in ("none", *FAMILIES) if any(f"attack_rate_{f}" in stage.numbers for stage in stages)
    ]
    if not families:
        return None
    figure, axes = canvas(2.4 * WIDTH, 0.9 + 0.3 * len(families), 1, len(PANELS), APART)
    looks = [_look(place, stage) for place, stage in enumerate(stages)]
    drawn: list[Number] = []
    for place, (name, title) in zip(axes, PANELS, strict=True):
        series = []
        for look, stage in zip(looks, stages, strict=True):
            numbers = [stage.numbers.get(f"{name}_{family}") for family in families]
            points = [note_point(number, ledger) for number in numbers]
            drawn += [
                n for n, point in zip(numbers, points, strict=True) if n is not None and point is not None
            ]
            series.append(Series("", points, look.colour, hollow=look.hollow))
        forest(place, [_words(family) for family in families], series, title=title)
    legend(figure, looks, 2)
    if not drawn:
        return None
    sizes = sorted(number.n or 0 for number in drawn)
    caption = (
        "Each family of attacks on each searched stage: equal requests, their harmless twins in the same frames, and "
        "easy questions behind the same family. Where questions aren't answered, a low success says nothing. "
        f"n = {sizes[0]:,} to {sizes[-1]:,} replies a dot. Bars are 95 % intervals over requests."
    )
    title = "Attacks by family and stage"
    svg = inline(figure, "attack-families", title, title)
    return Figure("attack-families", title, caption, svg, sources_of(drawn), wide=True, section=ALIGNMENT)


def _look(place: int, stage: Artifact) -> Series:
    failed = unfit(stage, "attack_rate")
    colour = MUTED if failed else SERIES[place % len(SERIES)]
    return Series(stage.label + (UNFIT if failed else ""), (), colour, hollow=place % 2 == 1)


def _words(family: str) -> str:
    return "no attack" if family == "none" else family.replace("_", " ")
