"""MMLU by subject: the figure, and the metrics behind it (card section 4.3; Hendrycks 2021)."""

from __future__ import annotations

from charter.ground.measure.plots import Series, canvas, forest, inline, legend, rule
from charter.ground.reports.artifact import metric_in
from charter.ground.reports.number import FEW, Number
from charter.rooms.card.drawing import (
    APART,
    WIDTH,
    has_value,
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
from charter.rooms.card.tasks import CAPABILITY, SUBJECTS, parts_of


def subjects(run: Run, ledger: Ledger) -> Figure | None:
    """The share right in each subject, by letter and with reasoning, of the first and the last stage. The best subject
    of the last stage comes first."""
    looks_by_task = {task: looks for task in SUBJECTS if (looks := overlay_stages(run, task, ledger, 2))}
    by_label: dict[str, dict[str, str]] = {}
    for task, looks in looks_by_task.items():
        for name in parts_of([stage for stage, _ in looks], task):
            metric = metric_in([stage for stage, _ in looks], name)
            enough = any(has_value(s, name) and not s.numbers[name].few for s, _ in looks)
            if metric is not None and enough:
                by_label.setdefault(metric.label, {})[task] = name
    if not by_label:
        return None
    first = next(iter(looks_by_task))
    last = looks_by_task[first][-1][0]

    def place(label: str) -> tuple[float, str]:
        number = last.numbers.get(by_label[label].get(first, ""))
        return (-(number.value or 0.0) if number else 1.0), label

    labels = sorted(by_label, key=place)
    drawing, axes = canvas(WIDTH, 0.75 + 0.155 * len(labels), 1, len(looks_by_task), APART)
    numbers: list[Number] = []
    chance = 0.0
    for column, (panel, (task, looks)) in enumerate(zip(axes, looks_by_task.items(), strict=True)):
        series: list[Series] = []
        for stage, look in looks:
            shown = [stage.numbers.get(by_label[label].get(task, "")) for label in labels]
            shown = [n if n is not None and not n.few else None for n in shown]
            numbers += [n for n in shown if n is not None]
            series.append(with_points(look, [note_point(n, ledger) for n in shown], named=False))
        forest(panel, labels, series, title=SUBJECTS[task])
        metric = metric_in([last], next(iter(by_label[labels[0]].values())))
        chance = (metric.chance if metric else None) or 0.0
        rule(panel, chance)
        panel.set_xticks([0, 0.5, 1])
        panel.tick_params(labelleft=column == 0)
    looks = looks_by_task[first]
    legend(drawing, [look for _, look in looks], legend_columns(looks))
    caption = (
        "Share of questions answered right in each subject, the best one first; the dashed line is what guessing gets. "
        f"n = {sizes(numbers)} questions a subject; subjects with fewer than {FEW} are left out."
        + (" Of the stages, the first and the last." if len(looks) > 1 else "")
        + " Bars are 95 % intervals (Wilson). Of so many subjects some differ by luck."
    )
    title = "MMLU by subject"
    words = "; ".join(
        f"{label} {ledger.value(number)}"
        for label in labels
        if (number := last.numbers.get(by_label[label].get(first, ""))) is not None and not number.few
    )
    svg = inline(drawing, "subjects", title, f"{SUBJECTS[first]}, {last.label}: {words}")
    return Figure("subjects", title, caption, svg, sources_of(numbers), section=CAPABILITY)
