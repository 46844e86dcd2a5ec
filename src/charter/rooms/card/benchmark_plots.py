"""Figures of tasks: scores by stage and bias by dimension (card sections 3.2, 3.3, 4.3).

A figure is left out if no stage has its rows. If stages share a line, the last is filled in the first colour and the
first is hollow. A stage that was asked differently from the last one is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from charter.ground.measure.bias import DIMENSIONS
from charter.ground.measure.counts import mean
from charter.ground.measure.plots import Series, canvas, forest, inline, legend, rule
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.changes import refusal
from charter.ground.reports.number import SHARE, Number
from charter.rooms.card.drawing import (
    APART,
    WIDTH,
    by_stage,
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
from charter.rooms.card.letters import unread
from charter.rooms.card.tasks import ALIGNMENT, CAPABILITY

INTERVALS = "Bars are 95 % intervals (bootstrap over questions; Wilson where few differ)."
HOLLOW = " Hollow dots were asked differently from the last one."
# Groups whose tasks have one accuracy each.
ACCURACIES = ("Knowledge and reasoning", "Exams", "Reading")
CHOICES = {"hhh_content": "The likelier reply", "hhh_policy": "The letter"}
TRUTHS = {
    "truthfulqa": "Free answers",
    "truthfulqa_mc1": "MC1",
    "truthfulqa_mc2": "MC2",
    "truthfulqa_mc3": "MC3",
}
TRUTHFULQA = "samples/truthfulqa.jsonl"
# By category: the score, the mark that it counts, the mode of its rows.
CATEGORIES = {"truthfulqa": ("correct", "free"), "truthfulqa_mc1": ("mc1", "choice")}
BIAS, RIGHT = "bbq_ambiguous_bias", "bbq_disambiguated_accuracy"
# A guess among the three options of a BBQ question.
OF_THREE = 1 / 3
WORDS = {
    "": "all together",
    "disability_status": "disability",
    "race_ethnicity": "race and ethnicity",
    "ses": "social class",
}


def capability(run: Run, ledger: Ledger) -> Figure | None:
    """Accuracy of each task by stage (card, section 4.3)."""
    metrics = [m for stage in run.stages for m in stage.metrics.values()]
    titles = {
        m.name: m.label for group in ACCURACIES for m in metrics if m.group == group and m.name == m.task
    }
    panels = _panels(run, ledger, titles, 2)
    if panels is None:
        return None
    figure, numbers, words, note = panels
    chance = any(number.metric and number.metric.chance for number in numbers)
    caption = (
        "Share of questions answered right, a panel for each task and a row for each stage"
        + ("; the dashed line is what guessing gets. " if chance else ". ")
        + f"{note}{INTERVALS}"
    )
    title = "Knowledge, reasoning and reading by stage"
    svg = inline(figure, "capability", title, words)
    return Figure("capability", title, caption, svg, sources_of(numbers), section=CAPABILITY)


def truthfulness(run: Run, ledger: Ledger) -> Figure | None:
    """TruthfulQA by stage in its four forms (card, section 3.3, figure 4)."""
    panels = _panels(run, ledger, TRUTHS, 2)
    if panels is None:
        return None
    figure, numbers, words, note = panels
    caption = (
        "Free answers: share that a helper, which does not see the question, finds closest to the true option. MC1: "
        "questions whose best option is the likeliest. MC2: probability of the true options among all. MC3: true "
        "options likelier than every false one. Options differ in number from question to question, so that no line "
        f"of chance is drawn. {note}{INTERVALS}"
    )
    title = "TruthfulQA: true answers by stage, asked in four ways"
    svg = inline(figure, "truthfulqa", title, words)
    return Figure("truthfulqa", title, caption, svg, sources_of(numbers), section=ALIGNMENT)


def categories(run: Run, ledger: Ledger) -> Figure | None:
    """TruthfulQA by category, most questions first, at the first and the last stage (Lin 2021, figure 2)."""
    names = [name for name in CATEGORIES if any(is_drawn(stage, name, ledger) for stage in run.stages)]
    if not names:
        return None
    looks = overlay_stages(run, names[-1], ledger, 2)
    scores = {name: [_by_category(stage, name) for stage, _ in looks] for name in names}
    shown = [group for group, n in scores[names[-1]][-1].items() if group and ledger.drawable(n, group)]
    if not shown:
        return None
    figure, axes = canvas(WIDTH, 0.75 + 0.19 * len(shown), 1, len(names), APART)
    numbers: list[Number] = []
    for panel, name in zip(axes, names, strict=True):
        series = []
        for (_, look), by_group in zip(looks, scores[name], strict=True):
            drawn = [by_group.get(group) for group in shown]
            numbers += [n for n in drawn if n is not None and not n.few]
            series.append(with_points(look, [note_point(n, ledger) for n in drawn], named=False))
        forest(panel, shown, series, title=TRUTHS[name])
        panel.set_xticks([0, 0.5, 1])
        panel.tick_params(labelleft=panel is axes[0])
    legend(figure, [look for _, look in looks], legend_columns(looks))
    caption = (
        "The same questions by the set's own categories, most questions first. n = "
        f"{sizes(numbers)} questions a category. {INTERVALS}"
    )
    title = "TruthfulQA: true answers by category"
    last = scores[names[-1]][-1]
    words = "; ".join(f"{group} {ledger.value(last[group])}" for group in shown)
    svg = inline(
        figure, "truthfulqa-categories", title, f"{TRUTHS[names[-1]]} of {looks[-1][0].label}: {words}"
    )
    return Figure("truthfulqa-categories", title, caption, svg, sources_of(numbers), section=ALIGNMENT)


def _by_category(stage: Artifact, name: str) -> dict[str, Number]:
    """A score of each category of a stage, most questions first; {} if the stage has no such score."""
    if name not in stage.numbers:
        return {}
    report, (key, mode) = stage.of(name), CATEGORIES[name]
    groups: dict[str, list[Mapping[str, object]]] = {}
    for row in report.rows(TRUTHFULQA):
        if row["mode"] == mode:
            groups.setdefault(str(row["group"]), []).append(row)
    return {
        group: compute_number(report, f"{name} {group}", mean(key)(rows), SHARE, TRUTHFULQA)
        for group, rows in sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))
    }


def choices(run: Run, ledger: Ledger) -> Figure | None:
    """HHH choices by stage, by content and by letter (card, section 3.5, figure 6)."""
    panels = _panels(run, ledger, CHOICES, 2)
    if panels is None:
        return None
    figure, numbers, words, note = panels
    unable = [stage.label for stage in run.stages if unread(stage, "hhh_policy")]
    invalid = (
        f"Not valid, so hollow: {', '.join(unable)} by letter, where the place of an option decides. "
        if unable
        else ""
    )
    caption = (
        "Share of binary choices in which the better reply is the likelier one a token, and in which its letter is the "
        f"likelier one; the dashed line is what guessing gets. {note}{invalid}{INTERVALS}"
    )
    title = "Helpful, honest, harmless: binary choices by stage"
    svg = inline(figure, "hhh", title, words)
    return Figure("hhh", title, caption, svg, sources_of(numbers), section=ALIGNMENT)


def _panels(
    run: Run, ledger: Ledger, titles: Mapping[str, str], columns: int
) -> tuple[Drawing, list[Number], str, str] | None:
    """Small multiples: a panel for each number, a row for each stage. None if no stage has any of these numbers.

    Returns the drawing, its numbers, a description, and the part of the caption that gives n and explains hollow dots.
    """
    drawn = {name: [s for s in run.stages if is_drawn(s, name, ledger)] for name in titles}
    names = [name for name in titles if drawn[name]]
    stages = [stage for stage in run.stages if any(stage in drawn[name] for name in names)]
    if not names:
        return None
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure, axes = canvas(WIDTH, 0.3 + rows * (0.3 + 0.21 * len(stages)), rows, columns, APART)
    numbers, words, counts, other = [], [], [], False
    for place, (panel, name) in enumerate(zip(axes, names, strict=False)):
        points, present = by_stage(stages, name, ledger)
        last = drawn[name][-1]
        differs = [bool(has_value(stage, name) and refusal(stage, last, name)) for stage in stages]
        invalid = [unread(stage, name) for stage in stages]
        for hollow in (False, True):
            marks = map(any, zip(differs, invalid, strict=True))
            subset = [p if mark == hollow else None for p, mark in zip(points, marks, strict=True)]
            forest(panel, [s.label for s in stages], [Series("", subset, hollow=hollow)], title=titles[name])
        panel.set_xticks([0, 0.5, 1])
        panel.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(names))
        rule(panel, *filter(None, [_chance(last, name)]))
        numbers += present
        words.append(f"{titles[name]}: " + ", ".join(f"{n.stage} {ledger.value(n)}" for n in present))
        counts.append(f"{present[-1].n:,} ({titles[name]})")
        other = other or any(differs)
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    note = f"n at the last stage: {', '.join(counts)}.{HOLLOW if other else ''} "
    return figure, numbers, "; ".join(words), note


def _chance(stage: Artifact, name: str) -> float | None:
    metric = stage.metric(name)
    return metric.chance if metric else None


def bias(run: Run, ledger: Ledger) -> Figure | None:
    """BBQ by dimension: bias if the context is ambiguous, and accuracy if it is not (card, section 3.2)."""
    looks = overlay_stages(run, BIAS, ledger)
    if not looks:
        return None
    ends = [
        end
        for end in ("", *DIMENSIONS)
        if any(is_drawn(stage, _of(name, end), ledger) for stage, _ in looks for name in (BIAS, RIGHT))
    ]
    names = [WORDS.get(end, end.replace("_", " ")) for end in ends]
    figure, (left, right) = canvas(WIDTH, 0.75 + len(ends) * (0.16 + 0.09 * len(looks)), 1, 2, APART)
    numbers: list[Number] = []
    for panel, name, title in ((left, BIAS, "Bias score, ambiguous"), (right, RIGHT, "Right, disambiguated")):
        series = []
        for stage, look in looks:
            by_dimension = [stage.numbers.get(_of(name, end)) for end in ends]
            numbers += [n for n in by_dimension if n is not None and n.value is not None and not n.few]
            series.append(with_points(look, [note_point(n, ledger) for n in by_dimension], named=False))
        forest(panel, names, series, title=title, percent=name == RIGHT)
        if name == BIAS:
            reach = _reach(series)
            panel.set_xlim(-reach, reach)
            panel.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    rule(left, 0.0)
    rule(right, OF_THREE)
    right.set_xticks([0, 0.5, 1])
    right.tick_params(labelleft=False)
    legend(figure, [look for _, look in looks], legend_columns(looks))
    words = "; ".join(f"{stage.label} {ledger.value(stage.numbers[BIAS])}" for stage, _ in looks)
    last = looks[-1][0]
    count = f"{last.numbers[BIAS].n:,} ambiguous"
    count += f" and {last.numbers[RIGHT].n:,} disambiguated" if has_value(last, RIGHT) else ""
    caption = (
        "Left, where the context does not say who it was, the score of the paper: to the right of 0 the answers "
        "follow the stereotype, to the left they go against it, and a model that says it can't know has 0. Right, "
        "where the context says it, the share right, dashed a guess among three: a low bias counts only where "
        f"this is high. n = {count} questions at the last stage.{describe_left_out(run, BIAS, len(looks))} {INTERVALS}"
    )
    title = "BBQ: stereotypes in answers, by dimension"
    svg = inline(figure, "bbq", title, f"Bias score over all dimensions: {words}")
    return Figure("bbq", title, caption, svg, sources_of(numbers), section=ALIGNMENT)


def _of(name: str, end: str) -> str:
    return f"{name}_{end}" if end else name


def _reach(series: Sequence[Series]) -> float:
    """Half the width of an axis around 0 that holds all points with their intervals."""
    ends = [abs(x) for s in series for p in s.points if p for x in (p.value, p.low, p.high) if x is not None]
    return 1.08 * max(0.1, *ends)
