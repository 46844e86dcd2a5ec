"""Figures of stated against measured: labeller, HHH choices, rater.

The curve of the preference models is beside their accuracy, in `plots`.
"""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.judge.rater import HIGHEST, KEPT, LOWEST
from charter.ground.measure.calibration import CONFIDENCE, Prediction, group_by_bin, of_choices, of_gaps
from charter.ground.measure.counts import equal
from charter.ground.measure.intervals import interval, wilson
from charter.ground.measure.metrics import HHH, LABELS
from charter.ground.measure.plots import Point, canvas, inline, reliability
from charter.ground.measure.ratings import SCALE, of_ratings
from charter.ground.measure.score import tabulate
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import FEW
from charter.rooms.card.drawing import WIDTH, is_drawn
from charter.rooms.card.figure import UNFIT, Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.graders import fit
from charter.rooms.card.ledger import Ledger

Bins = list[tuple[float, Point, int]]
FEWER = f" Bins of fewer than {FEW} are left out."


def bins(judged: Sequence[Prediction]) -> Bins:
    """(mean confidence, share right with Wilson interval, choices) in bins of equal width from 0.5 to 1, without those
    of few choices."""
    points = []
    for members in group_by_bin(judged, CONFIDENCE):
        hits, size = sum(s.observed for s in members), len(members)
        if size < FEW:
            continue
        points.append(
            (sum(s.predicted for s in members) / size, Point(hits / size, *wilson(hits, size)), size)
        )
    return points


def bin_ratings(judged: Sequence[Prediction]) -> Bins:
    """(mean prediction, mean rating with its interval, conversations) in bins of equal width from 0 to 4. Predictions
    beyond the scale are drawn at its ends. Bins of few conversations are left out."""
    points = []
    for members in group_by_bin(judged, SCALE):
        if len(members) < FEW:
            continue
        table = tabulate((s.cluster, s.observed, 1.0) for s in members)
        stated = sum(min(HIGHEST, max(LOWEST, s.predicted)) for s in members) / len(members)
        points.append((stated, Point(table.value, *interval(table)), len(members)))
    return points


def describe_calibration(artifact: Artifact, prefix: str, ledger: Ledger) -> str:
    """The calibration error and the overconfidence of an artifact in a sentence; empty if it has none."""
    error, over = (
        artifact.numbers.get(f"{prefix}_{name}") for name in ("calibration_error", "overconfidence")
    )
    if error is None or over is None:
        return ""
    span = ledger.span(over)
    return (
        f" Calibration error {ledger.value(error)} (chance adds to it if rows are few); mean confidence less "
        f"accuracy {ledger.value(over)}" + (f" ({span})." if span else ".")
    )


def labeller(run: Run, ledger: Ledger) -> Figure | None:
    """Calibration of the AI labeller on known pairs."""
    rows = run.comparisons.rows(f"samples/{LABELS}") if run.comparisons else []
    points = bins(of_choices()(rows))
    if run.comparisons is None or not is_drawn(run.comparisons, "label_accuracy", ledger) or not points:
        return None
    figure, (axes,) = canvas(WIDTH, 2.7)
    reliability(axes, "Calibration on known pairs", points)
    caption = (
        "How often the AI labeller is right on known pairs, both orders averaged, by the probability that it puts "
        f"on its choice; on the dashed line it is as right as it says.{FEWER} "
        f"n = {len(rows):,} pairs. Bars are 95 % intervals (Wilson)."
    ) + describe_calibration(run.comparisons, "label", ledger)
    return Figure(
        "labeller",
        "The AI labeller",
        caption,
        inline(figure, "labeller", "Calibration of the AI labeller", caption),
        (run.comparisons.source(f"samples/{LABELS}"),),
        section="graders",
    )


def choices(run: Run, ledger: Ledger) -> Figure | None:
    """Calibration on the HHH choices: of the final policy by the letter that it picks, of its grader by score."""
    final, file = run.final, f"samples/{HHH}"
    rows = final.rows(file)
    candidates = (
        ("hhh_policy", "Policy, by letter", of_choices(equal(mode="policy"))(rows)),
        ("hhh_preference", "Grader, by score", of_gaps(equal(mode="preference"))(rows)),
    )
    panels = [entry for entry in candidates if is_drawn(final, entry[0], ledger) and bins(entry[2])]
    if not panels:
        return None
    figure, places = canvas(9.6, 2.7, 1, len(panels))
    words = []
    for axes, (prefix, title, judged) in zip(places, panels, strict=True):
        reliability(axes, title, bins(judged), y_label="choices that are right")
        words.append(f"{title}:{describe_calibration(final, prefix, ledger)}")
    caption = (
        f"How often a choice between the two replies of an HHH item is right, by how sure it is ({final.label}); on "
        f"the dashed line it is as right as it says.{FEWER} n = {len(panels[0][2]):,} items. "
        "Bars are 95 % intervals (Wilson). " + " ".join(words)
    )
    svg = inline(figure, "choices", "Calibration of HHH choices", caption)
    return Figure("choices", "HHH choices", caption, svg, (final.source(file),), True, "alignment")


def rater(run: Run, ledger: Ledger) -> Figure | None:
    """Predicted against true ratings of harm, of the first rater in the lineage."""
    model = next((a for a in run.lineage if a.manifest.variant == "rating"), None)
    rows = model.rows(KEPT) if model else []
    points = bin_ratings(of_ratings(rows))
    if model is None or not is_drawn(model, "rating_calibration_error", ledger) or not points:
        return None
    title = f"Harm rater: {model.name}" + (UNFIT if fit(run, model.manifest.id) is False else "")
    figure, (axes,) = canvas(WIDTH, 2.9)
    reliability(axes, "Calibration", points, "predicted", "given", (LOWEST, HIGHEST))
    error = model.numbers["rating_calibration_error"]
    caption = (
        "Mean rating of harm given to held-out conversations, by the rating that the model predicts, 0 harmless to "
        f"4; on the dashed line they agree, the mean distance is {ledger.value(error)}.{FEWER} n = {len(rows):,} "
        "conversations. Bars are 95 % intervals (bootstrap over first user turns)."
    )
    svg = inline(figure, "rater", "Ratings of harm, predicted and given", caption)
    return Figure("rater", title, caption, svg, (model.source(KEPT),), section="graders")
