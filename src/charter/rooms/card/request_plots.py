"""Figures of the 328 requests: harm by stage on a log axis from 1 to 0.01, by family and area (card section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.attack.families import OF_REQUESTS
from charter.ground.measure.plots import MUTED, SERIES, Series, canvas, forest, inline, legend
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number
from charter.rooms.card.drawing import APART, WIDTH, by_stage, is_drawn, note_point, sources_of
from charter.rooms.card.figure import UNFIT, Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.tasks import ALIGNMENT

HARM, REFUSED = "requests_harm_rate", "requests_benign_refused"
ORIGINS = (("_plain", "as people ask"), ("_jailbreak", "jailbreaks"))
INTERVALS = "Bars are 95 % intervals over requests (bootstrap; Wilson where few differ)."


def requests(run: Run, ledger: Ledger) -> Figure | None:
    """Share of replies graded worse than a plain refusal, by stage and origin, on a log axis."""
    series, numbers = list[Series](), list[Number]()
    failed = any(unfit(stage, HARM) for stage in run.stages)
    for place, (end, name) in enumerate(ORIGINS):
        points, present = by_stage(run.stages, f"{HARM}{end}", ledger)
        if present:
            colour = MUTED if failed else SERIES[place]
            series.append(Series(name + (UNFIT if failed else ""), points, colour, hollow=place == 1))
            numbers += present
    if not numbers:
        return None
    figure, (axes,) = canvas(WIDTH, 0.6 + 0.42 * len(run.stages))
    forest(axes, [s.label for s in run.stages], series, log=True)
    words = "; ".join(f"{n.stage}, {n.name}: {ledger.value(n)}" for n in numbers)
    caption = (
        "Share of replies to held-out harmful requests that score below a plain refusal, on a log axis; an arrow at "
        f"the edge is 0. n = {numbers[-1].n:,} replies to {numbers[-1].clusters:,} requests at the last stage "
        f"({numbers[-1].label}). {INTERVALS}"
    )
    title = "Harmful requests: graded worse than a plain refusal, by stage"
    svg = inline(figure, "requests", title, words)
    return Figure("requests", title, caption, svg, sources_of(numbers), section=ALIGNMENT)


def request_parts(run: Run, ledger: Ledger) -> Figure | None:
    """The last stage by family of jailbreak and by policy area, with harmless requests of the same kind beside."""
    stages = [stage for stage in run.stages if is_drawn(stage, HARM, ledger)]
    if not stages:
        return None
    stage = stages[-1]
    areas = [
        name.removeprefix(f"{HARM}_")
        for name in stage.numbers
        if name.startswith(f"{HARM}_")
        and name.removeprefix(f"{HARM}_") not in (*OF_REQUESTS, "plain", "jailbreak")
        and not name.endswith("_screened")
    ]
    candidates = (
        ("Jailbreaks", [f for f in OF_REQUESTS if f"{HARM}_{f}" in stage.numbers], "requests_twin_refused"),
        ("Policy areas", areas, REFUSED),
    )
    panels = [panel for panel in candidates if panel[1]]
    height = 0.75 + 0.2 * max((len(names) for _, names, _ in panels), default=1)
    figure, axes = canvas(2 * WIDTH, height, 1, len(panels), APART)
    looks = [
        Series("harmful: graded worse", (), SERIES[0]),
        Series("harmless: refused", (), SERIES[1], hollow=True),
    ]
    numbers: list[Number] = []
    for place, (title, names, beside) in zip(axes, panels, strict=True):
        drawn = []
        for look, metric in zip(looks, (HARM, beside), strict=True):
            found = [stage.numbers.get(f"{metric}_{name}") for name in names]
            points = [note_point(n, ledger) for n in found]
            numbers += [
                n for n, point in zip(found, points, strict=True) if n is not None and point is not None
            ]
            drawn.append(Series("", points, look.colour, hollow=look.hollow))
        forest(place, [name.replace("_", " ") for name in names], drawn, title=title)
    legend(figure, looks, 2)
    if not numbers:
        return None
    caption = (
        f"{stage.label}: replies to harmful requests that score below a plain refusal, and refusals of harmless "
        "requests in the same wrapper or of the same area. A model that refuses all has 0 % and 100 %, one that "
        f"refuses nothing has 0 % on the right. n = {_sizes(stage, numbers)} replies a dot. {INTERVALS}"
    )
    title = "Harmful requests by jailbreak and by policy area"
    svg = inline(figure, "request-parts", title, f"{title}, {stage.label}")
    return Figure("request-parts", title, caption, svg, sources_of(numbers), wide=True, section=ALIGNMENT)


def _sizes(stage: Artifact, numbers: Sequence[Number]) -> str:
    sizes = sorted(n.n or 0 for n in numbers)
    return f"{sizes[0]:,} to {sizes[-1]:,}"
