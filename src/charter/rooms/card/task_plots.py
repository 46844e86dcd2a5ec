"""Figures of tasks: scores by stage, and by dimension, category, subject, language, jailbreak and policy area (card
sections 3.2 to 3.5, 4.1, 4.3). A figure is left out if no stage has its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from charter.ground.attack.families import OF_REQUESTS
from charter.ground.measure.bias import DIMENSIONS
from charter.ground.measure.counts import mean
from charter.ground.measure.metric import ALIGNMENT, CAPABILITY, GROUPS
from charter.ground.measure.plots import SERIES, Series, canvas, forest, legend, rule
from charter.ground.measure.score import Statistic
from charter.ground.measure.translation import GOOD, NAMES, UNDERSTANDABLE, bleu, chrf, language, over_languages
from charter.ground.reports.artifact import Artifact, metric_in, placed_in
from charter.ground.reports.changes import why_not_comparable
from charter.ground.reports.number import FEW, SHARE, Number
from charter.rooms.card.drawing import (
    APART,
    BY_QUESTION,
    BY_REQUEST,
    HOLLOW,
    WIDTH,
    Figure,
    Look,
    add_legend,
    describe_left_out,
    draw_panel,
    has_value,
    is_drawn,
    note_points,
    overlay_stages,
    sizes,
    stage_rows,
)
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.sections import unread
from charter.rooms.card.tasks import SUBJECTS, parts_of, read_protocol

HARM, REFUSED = "requests_harm_rate", "requests_benign_refused"
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
TRANSLATIONS = "samples/translation.jsonl"
PIECES, CHARACTERS = "flores200", "char"
COUNTED = {"13a": "words (13a)", CHARACTERS: "characters (char)"}
# Languages drawn; if there are more, the best and the worst.
MOST_LANGUAGES = 60
Panels = tuple[Drawing, list[Number], str, str]


def requests(run: Run, ledger: Ledger) -> Figure | None:
    """Share of replies to the 328 requests graded worse than a plain refusal, by stage and origin, on a log axis."""
    rows = stage_rows(run.stages, "requests", ledger)
    if not rows:
        return None
    numbers = [n for _, drawn in rows for n in drawn]
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.42 * len(run.stages))
    forest(axes, [s.label for s in run.stages], [series for series, _ in rows], log=True)
    words = "; ".join(f"{n.stage}, {n.name}: {ledger.value(n)}" for n in numbers)
    caption = (
        "Share of replies to held-out harmful requests that score below a plain refusal, on a log axis; an arrow at "
        f"the edge is 0. n = {numbers[-1].n:,} replies to {numbers[-1].clusters:,} requests at the last stage "
        f"({numbers[-1].label}). {BY_REQUEST}"
    )
    figure = Figure("requests", "Harmful requests: graded worse than a plain refusal, by stage", ALIGNMENT)
    return figure.draw(drawing, caption, words, numbers)


def request_parts(run: Run, ledger: Ledger) -> Figure | None:
    """The last stage by family of jailbreak and by policy area, with harmless requests of the same kind beside."""
    stage = next((s for s in reversed([s for s in run.stages if is_drawn(s, HARM, ledger)])), None)
    if stage is None:
        return None
    ends = [name.removeprefix(f"{HARM}_") for name in stage.numbers if name.startswith(f"{HARM}_")]
    others = (*OF_REQUESTS, "plain", "jailbreak")
    candidates = (
        ("Jailbreaks", [f for f in OF_REQUESTS if f in ends], "requests_twin_refused"),
        ("Policy areas", [e for e in ends if e not in others and not e.endswith("_screened")], REFUSED),
    )
    panels = [panel for panel in candidates if panel[1]]
    height = 0.75 + 0.2 * max((len(names) for _, names, _ in panels), default=1)
    drawing, axes = canvas(2 * WIDTH, height, 1, len(panels), APART)
    looks = (Series("harmful: graded worse", (), SERIES[0]), Series("harmless: refused", (), SERIES[1], hollow=True))
    numbers: list[Number] = []
    for place, (title, names, beside) in zip(axes, panels, strict=True):
        parts = [
            (look, [stage.numbers.get(f"{metric}_{name}") for name in names])
            for look, metric in zip(looks, (HARM, beside), strict=True)
        ]
        numbers += draw_panel(place, [name.replace("_", " ") for name in names], parts, ledger, title)[1]
    legend(drawing, looks, 2)
    if not numbers:
        return None
    counts = sorted(n.n or 0 for n in numbers)
    caption = (
        f"{stage.label}: replies to harmful requests that score below a plain refusal, and refusals of harmless "
        "requests in the same wrapper or of the same area. A model that refuses all has 0 % and 100 %, one that "
        f"refuses nothing has 0 % on the right. n = {counts[0]:,} to {counts[-1]:,} replies a dot. {BY_REQUEST}"
    )
    figure = Figure("request-parts", "Harmful requests by jailbreak and by policy area", ALIGNMENT, wide=True)
    return figure.draw(drawing, caption, f"{figure.title}, {stage.label}", numbers)


def capability(run: Run, ledger: Ledger) -> Figure | None:
    """Accuracy of each task by stage (card, section 4.3)."""
    metrics = [m for stage in run.stages for m in stage.metrics.values() if m.name == m.task]
    groups = [group for group, declared in GROUPS.items() if declared.figure == "capability"]
    panels = _panels(run, ledger, {m.name: m.label for group in groups for m in metrics if m.group == group})
    if panels is None:
        return None
    drawing, numbers, words, note = panels
    chance = any(number.metric and number.metric.chance for number in numbers)
    caption = (
        "Share of questions answered right, a panel for each task and a row for each stage"
        + ("; the dashed line is what guessing gets. " if chance else ". ")
        + f"{note}{BY_QUESTION}"
    )
    figure = Figure("capability", "Knowledge, reasoning and reading by stage", CAPABILITY)
    return figure.draw(drawing, caption, words, numbers)


def truthfulness(run: Run, ledger: Ledger) -> Figure | None:
    """TruthfulQA by stage in its four forms (card, section 3.3, figure 4)."""
    panels = _panels(run, ledger, _titles(run, "truthfulqa"))
    if panels is None:
        return None
    drawing, numbers, words, note = panels
    caption = (
        "Free answers: share that a helper, which does not see the question, finds closest to the true option. MC1: "
        "questions whose best option is the likeliest. MC2: probability of the true options among all. MC3: true "
        "options likelier than every false one. Options differ in number from question to question, so that no line "
        f"of chance is drawn. {note}{BY_QUESTION}"
    )
    figure = Figure("truthfulqa", "TruthfulQA: true answers by stage, asked in four ways", ALIGNMENT)
    return figure.draw(drawing, caption, words, numbers)


def choices(run: Run, ledger: Ledger) -> Figure | None:
    """HHH choices by stage, by content and by letter (card, section 3.5, figure 6)."""
    panels = _panels(run, ledger, _titles(run, "hhh"))
    if panels is None:
        return None
    drawing, numbers, words, note = panels
    unable = ", ".join(stage.label for stage in run.stages if unread(stage, "hhh_policy"))
    invalid = f"Not valid, so hollow: {unable} by letter, where the place of an option decides. " if unable else ""
    caption = (
        "Share of binary choices in which the better reply is the likelier one a token, and in which its letter is the "
        f"likelier one; the dashed line is what guessing gets. {note}{invalid}{BY_QUESTION}"
    )
    figure = Figure("hhh", "Helpful, honest, harmless: binary choices by stage", ALIGNMENT)
    return figure.draw(drawing, caption, words, numbers)


def _titles(run: Run, key: str) -> dict[str, str]:
    """The metrics that declare a figure, and their names there."""
    return {name: metric.short for name in placed_in(run.stages, key) if (metric := metric_in(run.stages, name))}


def _panels(run: Run, ledger: Ledger, titles: Mapping[str, str]) -> Panels | None:
    """Small multiples: a panel for each number, a row for each stage. None if no stage has any of these numbers.

    Returns the drawing, its numbers, a description, and the part of the caption that gives n and explains hollow dots.
    """
    drawn = {name: [s for s in run.stages if is_drawn(s, name, ledger)] for name in titles}
    names = [name for name in titles if drawn[name]]
    stages = [stage for stage in run.stages if any(stage in drawn[name] for name in names)]
    if not names:
        return None
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    drawing, axes = canvas(WIDTH, 0.3 + rows * (0.3 + 0.21 * len(stages)), rows, columns, APART)
    numbers, words, counts, other = [], [], [], False
    for place, (panel, name) in enumerate(zip(axes, names, strict=False)):
        points, present = note_points([stage.numbers.get(name) for stage in stages], ledger)
        last = drawn[name][-1]
        differs = [bool(has_value(stage, name) and why_not_comparable(stage, last, name)) for stage in stages]
        marks = [mark or unread(stage, name) for mark, stage in zip(differs, stages, strict=True)]
        for hollow in (False, True):
            subset = [p if mark == hollow else None for p, mark in zip(points, marks, strict=True)]
            forest(panel, [s.label for s in stages], [Series("", subset, hollow=hollow)], title=titles[name])
        panel.set_xticks([0, 0.5, 1])
        panel.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(names))
        metric = last.metric(name)
        rule(panel, *filter(None, [metric.chance if metric else None]))
        numbers += present
        words.append(f"{titles[name]}: " + ", ".join(f"{n.stage} {ledger.value(n)}" for n in present))
        counts.append(f"{present[-1].n:,} ({titles[name]})")
        other = other or any(differs)
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    note = f"n at the last stage: {', '.join(counts)}.{HOLLOW if other else ''} "
    return drawing, numbers, "; ".join(words), note


def categories(run: Run, ledger: Ledger) -> Figure | None:
    """TruthfulQA by category, most questions first, at the first and the last stage (Lin 2021, figure 2)."""
    names = [name for name in CATEGORIES if any(is_drawn(stage, name, ledger) for stage in run.stages)]
    if not names:
        return None
    looks = overlay_stages(run, names[-1], ledger, 2)
    scores = {name: [_by_category(stage, name) for stage, _ in looks] for name in names}
    last = scores[names[-1]][-1]
    groups = [group for group, n in last.items() if group and ledger.drawable(n, group)]
    if not groups:
        return None
    drawing, axes = canvas(WIDTH, 0.75 + 0.19 * len(groups), 1, len(names), APART)
    titles = _titles(run, "truthfulqa")
    numbers: list[Number] = []
    for panel, name in zip(axes, names, strict=True):
        numbers += draw_panel(panel, groups, _parts(looks, scores[name], groups), ledger, titles[name])[1]
        panel.set_xticks([0, 0.5, 1])
        panel.tick_params(labelleft=panel is axes[0])
    add_legend(drawing, looks)
    caption = (
        "The same questions by the set's own categories, most questions first. n = "
        f"{sizes(numbers)} questions a category. {BY_QUESTION}"
    )
    words = "; ".join(f"{group} {ledger.value(last[group])}" for group in groups)
    figure = Figure("truthfulqa-categories", "TruthfulQA: true answers by category", ALIGNMENT)
    return figure.draw(drawing, caption, f"{titles[names[-1]]} of {looks[-1][0].label}: {words}", numbers)


def _parts(
    looks: Sequence[Look], scores: Sequence[Mapping[str, Number]], labels: Sequence[str]
) -> Iterator[tuple[Series, list[Number | None]]]:
    """The scores of each stage in the order of the labels."""
    for (_, look), score in zip(looks, scores, strict=True):
        yield look, [score.get(label) for label in labels]


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
        group: report.measure(f"{name} {group}", mean(key)(rows), SHARE, TRUTHFULQA)
        for group, rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    }


def bias(run: Run, ledger: Ledger) -> Figure | None:
    """BBQ by dimension: bias if the context is ambiguous, and accuracy if it is not (card, section 3.2)."""
    looks = overlay_stages(run, BIAS, ledger)
    if not looks:
        return None

    def named(name: str) -> dict[str, str]:
        return {end: f"{name}_{end}" if end else name for end in ("", *DIMENSIONS)}

    ends = [
        end
        for end in ("", *DIMENSIONS)
        if any(is_drawn(stage, named(name)[end], ledger) for stage, _ in looks for name in (BIAS, RIGHT))
    ]
    labels = [WORDS.get(end, end.replace("_", " ")) for end in ends]
    drawing, (left, right) = canvas(WIDTH, 0.75 + len(ends) * (0.16 + 0.09 * len(looks)), 1, 2, APART)
    numbers: list[Number] = []
    for panel, name, title in ((left, BIAS, "Bias score, ambiguous"), (right, RIGHT, "Right, disambiguated")):
        parts = [(look, [stage.numbers.get(named(name)[end]) for end in ends]) for stage, look in looks]
        series, noted = draw_panel(panel, labels, parts, ledger, title, percent=name == RIGHT)
        numbers += noted
        if name == BIAS:
            reach = 1.08 * max([0.1, *map(abs, _ends(series))])
            panel.set_xlim(-reach, reach)
            panel.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    rule(left, 0.0)
    rule(right, OF_THREE)
    right.set_xticks([0, 0.5, 1])
    right.tick_params(labelleft=False)
    add_legend(drawing, looks)
    words = "; ".join(f"{stage.label} {ledger.value(stage.numbers[BIAS])}" for stage, _ in looks)
    last = looks[-1][0]
    count = f"{last.numbers[BIAS].n:,} ambiguous"
    count += f" and {last.numbers[RIGHT].n:,} disambiguated" if has_value(last, RIGHT) else ""
    caption = (
        "Left, where the context does not say who it was, the score of the paper: to the right of 0 the answers "
        "follow the stereotype, to the left they go against it, and a model that says it can't know has 0. Right, "
        "where the context says it, the share right, dashed a guess among three: a low bias counts only where "
        f"this is high. n = {count} questions at the last stage.{describe_left_out(run, BIAS, len(looks))} "
        f"{BY_QUESTION}"
    )
    figure = Figure("bbq", "BBQ: stereotypes in answers, by dimension", ALIGNMENT)
    return figure.draw(drawing, caption, f"Bias score over all dimensions: {words}", numbers)


def _ends(series: Sequence[Series]) -> list[float]:
    """All values and ends of intervals."""
    return [x for s in series for p in s.points if p for x in (p.value, p.low, p.high) if x is not None]


def subjects(run: Run, ledger: Ledger) -> Figure | None:
    """The share right in each subject of MMLU, by letter and with reasoning, of the first and the last stage. The best
    subject of the last stage comes first (card section 4.3; Hendrycks 2021)."""
    tasks = _titles(run, SUBJECTS)
    looks_by_task = {task: looks for task in tasks if (looks := overlay_stages(run, task, ledger, 2))}
    by_label: dict[str, dict[str, str]] = {}
    for task, looks in looks_by_task.items():
        stages = [stage for stage, _ in looks]
        for name in parts_of(stages, task):
            metric = metric_in(stages, name)
            if metric and any(has_value(s, name) and not s.numbers[name].few for s in stages):
                by_label.setdefault(metric.label, {})[task] = name
    if not by_label:
        return None

    def score(stage: Artifact, label: str, task: str) -> Number | None:
        number = stage.numbers.get(by_label[label].get(task, ""))
        return number if number is not None and not number.few else None

    first = next(iter(looks_by_task))
    last = looks_by_task[first][-1][0]

    def place(label: str) -> tuple[float, str]:
        number = last.numbers.get(by_label[label].get(first, ""))
        return (-(number.value or 0.0) if number else 1.0), label

    labels = sorted(by_label, key=place)
    drawing, axes = canvas(WIDTH, 0.75 + 0.155 * len(labels), 1, len(looks_by_task), APART)
    numbers: list[Number] = []
    for panel, (task, looks) in zip(axes, looks_by_task.items(), strict=True):
        parts = [(look, [score(stage, label, task) for label in labels]) for stage, look in looks]
        numbers += draw_panel(panel, labels, parts, ledger, tasks[task])[1]
        metric = metric_in([last], next(iter(by_label[labels[0]].values())))
        rule(panel, (metric.chance if metric else None) or 0.0)
        panel.set_xticks([0, 0.5, 1])
        panel.tick_params(labelleft=panel is axes[0])
    looks = looks_by_task[first]
    add_legend(drawing, looks)
    caption = (
        "Share of questions answered right in each subject, the best one first; the dashed line is what guessing gets. "
        f"n = {sizes(numbers)} questions a subject; subjects with fewer than {FEW} are left out."
        + (" Of the stages, the first and the last." if len(looks) > 1 else "")
        + " Bars are 95 % intervals (Wilson). Of so many subjects some differ by luck."
    )
    scores = ((label, score(last, label, first)) for label in labels)
    words = "; ".join(f"{label} {ledger.value(n)}" for label, n in scores if n)
    figure = Figure("subjects", "MMLU by subject", CAPABILITY)
    return figure.draw(drawing, caption, f"{tasks[first]}, {last.label}: {words}", numbers)


def translation(run: Run, ledger: Ledger) -> Figure | None:
    """BLEU and chrF of each language, best first, of the first and the last stage (card, section 4.1)."""
    looks = overlay_stages(run, "translation_bleu", ledger, 2)
    if not looks:
        return None
    kinds = (("bleu", bleu, "BLEU"), ("chrf", chrf, "chrF"))
    scores = {kind: [_languages(stage, kind, of, unit) for stage, _ in looks] for kind, of, unit in kinds}
    best = scores["bleu"][-1]
    drawn = {c for by_code in scores["bleu"] for c, n in by_code.items() if ledger.drawable(n, _spell(c))}
    codes = sorted(drawn, key=lambda c: (-_value(best.get(c)), c))
    if not codes:
        return None
    half = MOST_LANGUAGES // 2
    shown_codes = codes if len(codes) <= MOST_LANGUAGES else [*codes[:half], *codes[-half:]]
    drawing, (left, right) = canvas(WIDTH, 0.75 + 0.19 * len(shown_codes), 1, 2, APART)
    numbers: list[Number] = []
    for panel, (kind, _, unit) in zip((left, right), kinds, strict=True):
        parts = _parts(looks, scores[kind], shown_codes)
        series, noted = draw_panel(panel, [_spell(c) for c in shown_codes], parts, ledger, unit, percent=False)
        numbers += noted
        high = max([1.0 if kind == "chrf" else GOOD + 5, *_ends(series)])
        panel.set_xlim(-0.02 * high, 1.02 * high)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    rule(left, UNDERSTANDABLE, GOOD)
    right.tick_params(labelleft=False)
    add_legend(drawing, looks)
    caption = (
        f"Corpus scores of translations from English, best BLEU first. {_describe_bleu(looks[-1][0])}Dashed lines: "
        f"a text with the card's BLEU over {UNDERSTANDABLE:.0f} can be understood, over {GOOD:.0f} it is good and "
        f"fluent. n = {sizes(numbers)} translations a language."
        + (f" The {half} best and {half} worst of {len(codes)} languages." if len(shown_codes) < len(codes) else "")
        + (" Of the stages, the first and the last." if len(looks) > 1 else "")
        + " Bars are 95 % intervals (bootstrap over sentences); small gaps are noise."
    )
    words = "; ".join(f"{_spell(c)} {ledger.value(best[c])}" for c in shown_codes if c in best)
    figure = Figure("translation", "Translation from English, by language", CAPABILITY)
    return figure.draw(drawing, caption, f"BLEU of {looks[-1][0].label}: {words}", numbers)


def _languages(stage: Artifact, kind: str, of: Statistic, unit: str) -> dict[str, Number]:
    """The corpus score of each language of a stage's translations, by its code."""
    report = stage.of("translation_bleu")
    groups: dict[str, list[dict[str, object]]] = {}
    for row in report.rows(TRANSLATIONS):
        groups.setdefault(str(row["group"]), []).append(row)
    table = over_languages(kind, of)
    return {
        code: report.measure(f"translation_{kind}_{code}", table(rows), unit, TRANSLATIONS)
        for code, rows in groups.items()
    }


def _describe_bleu(stage: Artifact) -> str:
    """What BLEU counts, as the report says it, with a blank behind it; empty if it doesn't."""
    by_language = read_protocol(stage, "translation_bleu").get("tokenizers") or {}
    others = sorted({str(name) for name in by_language.values()} - {PIECES})
    if not by_language:
        return ""
    if not others:
        return f"BLEU counts {PIECES} pieces: the card's spBLEU. "
    counted = [
        f"{COUNTED.get(name, name)} ({', '.join(_spell(code) for code, scale in by_language.items() if scale == name)})"
        if len(others) > 1 and name == CHARACTERS
        else COUNTED.get(name, name)
        for name in others
    ]
    return f"BLEU counts {', '.join(counted)}: not the card's spBLEU, whose scale differs. "


def _value(number: Number | None) -> float:
    return -1.0 if number is None or number.value is None else number.value


def _spell(code: str) -> str:
    """The English name of a language; the code if it has none."""
    return language(code) if code in NAMES or code.partition("_")[0].partition("-")[0] in NAMES else code
