"""The figures of long documents: loss by position with its fit, and recall by length and depth (card section 4.2)."""

from __future__ import annotations

import numpy as np

from charter.ground.measure.counts import mean
from charter.ground.measure.plots import MUTED, Line, canvas, inline, legend
from charter.ground.measure.position import (
    BUCKETS,
    CARD_CONSTANT,
    CARD_EXPONENT,
    MIDDLES,
    bucket_table,
    card_scale,
    fit,
    mean_powers,
    why_no_law,
)
from charter.ground.measure.score import Floats
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import PLAIN, SHARE, Number, figure
from charter.rooms.card.drawing import (
    WIDTH,
    compute_number,
    describe_left_out,
    has_value,
    is_drawn,
    legend_columns,
    note_point,
    overlay_stages,
    sizes,
    sources_of,
    with_points,
)
from charter.rooms.card.figure import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.position_plots import Cell, falling, grid, tokens
from charter.rooms.card.published import published_number
from charter.rooms.card.tasks import CAPABILITY

EXPONENT, CONSTANT = "position_exponent", "position_constant"
POSITIONS, RECALLED = "samples/position.jsonl", "samples/recall.jsonl"


def position(run: Run, ledger: Ledger) -> Figure | None:
    """Loss by token position on two log axes, with the fitted power law plus a constant and the card's beside it."""
    looks = overlay_stages(run, f"position_loss_{BUCKETS[0]}", ledger)
    if not looks:
        return None
    there = [
        place
        for place, start in enumerate(BUCKETS)
        if any(is_drawn(stage, f"position_loss_{start}", ledger) for stage, _ in looks)
    ]
    names, x = [f"position_loss_{BUCKETS[place]}" for place in there], MIDDLES[there]
    numbers: list[Number] = []
    series, fits, descriptions = [], [], []
    for stage, look in looks:
        by_bucket = [stage.numbers.get(name) for name in names]
        numbers += [n for n in by_bucket if n is not None and n.value is not None and not n.few]
        series.append(with_points(look, [note_point(n, ledger) for n in by_bucket]))
        if has_value(stage, EXPONENT):
            fitted = _read_fit(stage, ledger)
            fits.append(_curve(fitted, there, look.colour, dashed=look.hollow))
            numbers += fitted
            descriptions.append(_describe_fit(stage, fitted, ledger))
        else:
            descriptions.append(f"{stage.label}: no exponent, since {_why_no_law(stage)}.")
    card, theirs = _card_curve(looks[-1][0], there, ledger)
    fits.append(card)
    numbers += theirs
    drawing, (axes,) = canvas(WIDTH, 3.2)
    falling(axes, list(x), series, fits)
    legend(drawing, [look for _, look in looks], legend_columns(looks))
    last = looks[-1][0].numbers[names[0]]
    claude = " and ".join(
        f"{name}\u00a0=\u00a0{ledger.value(n)}" for name, n in zip(["a", "c₀"], theirs, strict=True)
    )
    law = (
        f" Curves are the fit L(t) = c₀ + c·t^(−a). {' '.join(descriptions)} Grey, dashed: the form of Claude 2, "
        f"{claude}, with its unpublished c fitted to the last stage's losses; its tokens are not these."
    )
    caption = (
        f"Mean loss of the tokens at a distance from the start of a document, both axes log; every bucket is twice as "
        f"long as the one before it. Loss that still falls at the right says that far context is used.{law} n = "
        f"{last.n:,} documents of one length.{describe_left_out(run, names[0], len(looks))} "
        "Bars are 95 % intervals (bootstrap over documents, of few at least Student's t)."
    )
    title = "Loss by position in long documents"
    words = "; ".join(descriptions)
    svg = inline(drawing, "position", title, words)
    return Figure("position", title, caption, svg, sources_of(numbers), section=CAPABILITY)


def _read_fit(stage: Artifact, ledger: Ledger) -> list[Number]:
    """c0, c and a of a stage's fit; c is no metric and has no interval."""
    report, table = stage.of(EXPONENT), stage.tables[EXPONENT]
    scale = float(fit(table.sums.sum(axis=0))[1])
    key = f"{report.name}/position_coefficient"
    source = (report.source(POSITIONS),)
    coefficient = Number(
        key, "position_coefficient", scale, n=table.n, unit=PLAIN, stage=stage.label, sources=source
    )
    return [ledger.note(n) for n in (stage.numbers[CONSTANT], coefficient, stage.numbers[EXPONENT])]


def _curve(fitted: list[Number], there: list[int], colour: str, dashed: bool) -> Line:
    """The fit's loss in each bucket."""
    constant, scale, exponent = (n.value or 0.0 for n in fitted)
    starts = np.array(BUCKETS)[there]
    means = constant + scale * mean_powers(starts, starts, exponent)
    return Line("", MIDDLES[there].tolist(), means.tolist(), colour, dashed)


def _describe_fit(stage: Artifact, fitted: list[Number], ledger: Ledger) -> str:
    """The numbers of a fit in words."""
    constant, scale, exponent = fitted
    words = [
        f"{name}\u00a0=\u00a0{ledger.value(n)}" + (f" ({span})" if (span := ledger.span(n)) else "")
        for name, n in (("a", exponent), ("c₀", constant), ("c", scale))
    ]
    return f"{stage.label}: {', '.join(words)}."


def _sums(stage: Artifact) -> Floats:
    """Nats and tokens by bucket, over all documents of a stage."""
    rows = stage.of(f"position_loss_{BUCKETS[0]}").rows(POSITIONS)
    sums: Floats = bucket_table(rows, fit).sums.sum(axis=0)
    return sums


def _why_no_law(stage: Artifact) -> str:
    return why_no_law(_sums(stage)) or "its report has none"


def _card_curve(stage: Artifact, there: list[int], ledger: Ledger) -> tuple[Line, list[Number]]:
    """The published law, its scale fitted to the losses of a stage, and its two numbers."""
    numbers = [ledger.note(n) for name in (EXPONENT, CONSTANT) if (n := published_number(name)) is not None]
    starts = np.array(BUCKETS)[there]
    means = CARD_CONSTANT + card_scale(_sums(stage)) * mean_powers(starts, starts, CARD_EXPONENT)
    return Line("", MIDDLES[there].tolist(), means.tolist(), MUTED, dashed=True), numbers


def recall(run: Run, ledger: Ledger) -> Figure | None:
    """Facts found again by the last stage with a recall task, over the length of the text and the depth of the fact
    (Claude 2.1, appendix to the card)."""
    stage = next((s for s in reversed(run.stages) if has_value(s, "recall")), None)
    if stage is None:
        return None
    words = "Facts found again, by length and depth"
    numbers = {key: n for key, n in _cells(stage).items() if ledger.drawable(n, words)}
    if not numbers:
        return None
    lengths, depths = (sorted({key[i] for key in numbers}) for i in (0, 1))
    cells: dict[tuple[int, int], Cell] = {}
    for (length, depth), number in numbers.items():
        ledger.note(number)
        ends = (number.low, number.high)
        span = "–".join(f"{100 * x:.0f}" for x in ends if x is not None)
        cells[depths.index(depth), lengths.index(length)] = (
            number.value or 0.0,
            f"{100 * (number.value or 0):.0f} %",
            span,
        )
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.4 * len(depths))
    grid(axes, [tokens(length) for length in lengths], [f"{depth} %" for depth in depths], cells)
    axes.set_xlabel("length of the text, tokens")
    axes.set_ylabel("depth of the fact")
    overall = stage.numbers["recall"]
    spans = any(n.low is not None for n in numbers.values())
    caption = (
        f"Share of facts that {stage.label} finds again in a text, by the text's length and by where in it the fact "
        "stands (the top row is the beginning); the darker, the more. "
        + ("Below each share its 95 % interval (Wilson). " if spans else "One fact has no interval. ")
        + f"n = {sizes(numbers.values())} a cell, {overall.n:,} facts in all, of which it finds "
        f"{ledger.value(overall)}."
    )
    words = "; ".join(
        f"{length:,} tokens, depth {depth} %: {figure(n.value, SHARE)}"
        for (length, depth), n in numbers.items()
    )
    title = "Facts found again, by length of text and depth"
    svg = inline(drawing, "recall", title, words)
    return Figure("recall", title, caption, svg, sources_of(numbers.values()), section=CAPABILITY)


def _cells(stage: Artifact) -> dict[tuple[int, int], Number]:
    """The share found at each (length in tokens, depth in percent), in order."""
    report = stage.of("recall")
    groups: dict[tuple[int, int], list[dict[str, object]]] = {}
    for row in report.rows(RECALLED):
        length, depth = str(row["group"]).split("/")
        groups.setdefault((int(length), int(depth)), []).append(row)
    count = mean("correct")
    return {
        (length, depth): compute_number(
            report, f"recall_{length}_{depth}", count(groups[length, depth]), SHARE, RECALLED
        )
        for length, depth in sorted(groups)
    }
