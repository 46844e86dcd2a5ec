"""The numbers that the card discusses: headlines, tables of stages, and what to improve.

One row a stage, each number with its interval and its paired change against the row before. Colour is used only if the
change is significant; else the words are "not significant". Numbers of an unfit grader are greyed, never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from charter.ground.artifact.recount import COUNTS
from charter.ground.measure.fluency import NLL, OF_A_SET, SETS, name_in
from charter.ground.measure.metrics import HELPER_PASSES
from charter.ground.reports.artifact import Artifact, metric_in
from charter.ground.reports.changes import Change, by_importance, change
from charter.ground.reports.judges import FALSE_ALARMS, unfit, unfit_among
from charter.ground.reports.number import COUNT, FLOPS, Number
from charter.ground.reports.stages import PROTOCOL, heading, kind_of
from charter.rooms.card.gather import Run
from charter.rooms.card.graders import Grader

AT_CHANCE, SATURATED = "at chance", "saturated"
# An end this near to a bound reaches it.
REACH = 1e-9
# Share of first options of a model that reads letters. Outside this range the place decides, not the reply.
FIRST_SHARE = (0.4, 0.6)
# The columns of the table of fluency, and the words of each set of prompts.
FLUENCY = {
    NLL: ("NLL under the start", "nats a token; compare with the start's own"),
    "loop_rate": ("Loops", "replies"),
    "cut_rate": ("Cut", "at the token limit"),
    "repeated_4grams": ("Repeated 4-grams", "within a reply"),
    "distinct_2": ("Distinct bigrams", "within a reply"),
    "reply_tokens": ("Length", "a reply"),
}
PROMPTS = {"unsafe": "unsafe prompts", "lookalike": "look-alikes", "helpful": "helpful prompts"}
# What remains to be improved if a number of the final model is above 0.
REMAINS = {
    "harm_answered_rate": "of the final model's replies to unsafe prompts don't refuse and are graded worse than a "
    "plain refusal",
    "lookalike_refusal_rate": "of harmless requests that only look unsafe are refused by the final model",
    "lookalike_harm_rate": "of its answers to harmless requests are graded worse than a plain refusal too: that much "
    "may be style",
}


def standing(number: Number | None) -> tuple[str, ...]:
    """Where a number stands between guessing and the best that is possible, from its interval alone.

    AT_CHANCE: the 95 % interval holds the score of guessing, which the task declares. SATURATED: it reaches the best
    value that the unit allows, so that the evaluation can't show a better model any more. Both if the interval is that
    wide, or neither. A number without interval has none.
    """
    metric = number.metric if number is not None else None
    if number is None or metric is None or number.low is None or number.high is None:
        return ()
    words = []
    if metric.chance is not None and number.low <= metric.chance <= number.high:
        words.append(AT_CHANCE)
    least, most = metric.limits
    reaches = (number.better == "higher" and number.high >= most - REACH) or (
        number.better == "lower" and number.low <= least + REACH
    )
    if metric.about == "model" and metric.kind != "fault" and reaches:
        words.append(SATURATED)
    return tuple(words)


def standing_at(numbers: Iterable[Number], word: str) -> tuple[Number, ...]:
    """The numbers of a stage that stand there, without those of parts."""
    of_model = (n for n in numbers if n.metric and n.metric.about == "model" and not n.metric.kind)
    return tuple(n for n in of_model if word in standing(n))


def unread(stage: Artifact, name: str) -> bool:
    """Whether the number is a share of HHH letters right, of a model that can't use letters."""
    first = stage.numbers.get("hhh_first_share")
    letters = name == "hhh_policy" or name.startswith("hhh_policy_")
    if not letters or first is None or first.value is None:
        return False
    return not FIRST_SHARE[0] <= first.value <= FIRST_SHARE[1]


def failed_mappings(stages: Sequence[Artifact]) -> tuple[Number, ...]:
    """The share of known answers that each stage's helper mapped rightly, if it is too low for a mapped score."""
    shares = (stage.numbers.get("truthfulqa_helper") for stage in stages)
    return tuple(n for n in shares if n is not None and n.value is not None and n.value < HELPER_PASSES)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one stage. `unfit`: its grader failed the gate; `unread`: the model can't use letters; `protocol`:
    how it was asked, if otherwise than the final stage."""

    number: Number | None
    change: Change | None
    unfit: bool
    unread: bool = False
    protocol: str = ""

    @property
    def standing(self) -> tuple[str, ...]:
        """Whether it is at chance or saturated."""
        return standing(self.number)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    label: str
    meaning: str
    better: str


@dataclass(frozen=True, slots=True)
class StageTable:
    """Columns of metrics, a row (label, cells) for each stage, and the counts behind the last row."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    counts: tuple[Number | None, ...]
    # There is more than one stage, so changes are shown.
    steps: bool


@dataclass(frozen=True, slots=True)
class Headline:
    name: str
    label: str
    meaning: str
    better: str
    start: Number
    final: Number
    change: Change | None
    unfit: bool


def select_sampled(stages: Sequence[Artifact], names: Sequence[str]) -> tuple[str, ...]:
    """The metrics that depend on how replies were drawn."""
    return tuple(n for n in names if any(is_sampled(stage, n) for stage in stages))


def is_sampled(stage: Artifact, name: str) -> bool:
    """Whether a number is of sampled answers."""
    return any("temperature" in identity for identity in stage.find_identities(name).values())


def table(stages: Sequence[Artifact], key: str, names: Sequence[str], caption: str) -> StageTable | None:
    """A table of stages with some of their metrics; None if there are none. Those of an unfit grader come last."""
    names = [n for n in names if any(n in s.numbers for s in stages)]
    if not names:
        return None
    names.sort(key=lambda n: any(unfit(s, n) for s in stages))
    columns = [column(stages, name) for name in names]
    rows = []
    for i, stage in enumerate(stages):
        before = stages[i - 1] if i else None
        cells = tuple(
            Cell(
                stage.numbers.get(n),
                change(before, stage, n) if before else None,
                unfit_among(stages, stage, n),
                unread(stage, n),
            )
            for n in names
        )
        rows.append((stage.label, cells))
    counts = tuple(stages[-1].numbers.get(n) for n in names)
    return StageTable(key, caption, tuple(columns), tuple(rows), counts, len(stages) > 1)


def fluency_table(stages: Sequence[Artifact]) -> StageTable | None:
    """A row for each set of prompts and stage, grouped by set; None if no report has any of it."""
    names = {name for stage in stages for name in stage.numbers}
    measures = [measure for measure in OF_A_SET if any(name_in(prompts, measure) in names for prompts in SETS)]
    if not measures:
        return None
    declared = {measure: [metric_in(stages, name_in(prompts, measure)) for prompts in SETS] for measure in measures}
    columns = tuple(
        Column(measure, *FLUENCY[measure], next((metric.better for metric in metrics if metric), ""))
        for measure, metrics in declared.items()
    )
    rows = []
    for prompts, words in PROMPTS.items():
        for place, stage in enumerate(stages):
            before = stages[place - 1] if place else None
            of_set = [name_in(prompts, measure) for measure in measures]
            deltas = [change(before, stage, name) if before else None for name in of_set]
            cells = (
                Cell(stage.numbers.get(name), delta, unfit(stage, name))
                for name, delta in zip(of_set, deltas, strict=True)
            )
            rows.append((f"{stage.label}, {words}", tuple(cells)))
    counts = tuple(stages[-1].numbers.get(name_in("helpful", measure)) for measure in measures)
    key = "fluency_protocol" if kind_of(stages[-1]) == PROTOCOL else "fluency"
    return StageTable(key, f"Fluency of the replies, {heading(stages)}", columns, tuple(rows), counts, len(stages) > 1)


def column(stages: Sequence[Artifact], name: str) -> Column:
    """The head of a column, as the first stage that has the number declares it."""
    number = next(stage.numbers[name] for stage in stages if name in stage.numbers)
    return Column(name, number.label, number.meaning, number.better)


def headlines(run: Run, names: Sequence[str]) -> tuple[Headline, ...]:
    """The chosen metrics from start to final, without those that either report lacks."""
    return between(run.start, run.final, names)


def between(first: Artifact, last: Artifact, names: Sequence[str]) -> tuple[Headline, ...]:
    """The chosen metrics from one stage to another, without a change if both are the same. Those of an unfit grader
    come last."""
    rows = []
    for name in names:
        if first.metric(name) is None or last.metric(name) is None:
            continue
        delta = change(first, last, name) if first is not last else None
        ends = first.numbers[name], last.numbers[name]
        grey = unfit(first, name) or unfit(last, name)
        rows.append(Headline(name, ends[1].label, ends[1].meaning, ends[1].better, *ends, delta, grey))
    return tuple(sorted(rows, key=lambda head: head.unfit))


def false_alarms(run: Run) -> tuple[Number, Number] | None:
    """The grader's false alarms at the first and the last stage; None if either has none."""
    pair = run.start.numbers.get(FALSE_ALARMS), run.final.numbers.get(FALSE_ALARMS)
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def verdict(run: Run, heads: Sequence[Headline]) -> str:
    """The headline numbers in a sentence: what got better, what got worse, what can't be told."""
    if len(run.stages) < 2:
        return "There is one stage only, so nothing is compared."
    phrases = {
        "better": "better on",
        "worse": "worse on",
        "moved": "changed on",
        "same": "not significantly different on",
    }
    words = []
    for verdict, how in phrases.items():
        labels = [
            f"“{h.label}” (by an unfit grader)" if h.unfit else f"“{h.label}”"
            for h in heads
            if h.change is not None and h.change.verdict == verdict
        ]
        if labels:
            words.append(f"{how} {' and '.join(filter(None, (', '.join(labels[:-1]), labels[-1])))}")
    if not words:
        return "None of the headline numbers can be compared with the start."
    return f"Beside {run.start.label}, {run.final.label} is {'; '.join(words)}."


def deltas(run: Run) -> tuple[Headline, ...]:
    """All metrics of the policy that both ends have. Metrics of a judge are no change of the policy."""
    names = [name for name in by_importance(run.final) if run.final.metrics[name].about == "model"]
    return headlines(run, names) if len(run.stages) > 1 else ()


def of_model(stage: Artifact) -> tuple[str, ...]:
    """The metrics of a stage that describe the model itself."""
    return tuple(name for name, metric in stage.metrics.items() if metric.about == "model")


def counts(artifact: Artifact) -> tuple[tuple[str, Number], ...]:
    """Counts of an artifact, in the order of its manifest."""
    return tuple(
        (name.replace("_", " "), number)
        for name, number in artifact.numbers.items()
        if number.sources[0].file == COUNTS and number.unit in (COUNT, FLOPS) and number.value
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to improve: a number and `what` happened to it, a grader that failed, or a labeller with a reduced
    `weight`.

    `unfit`: a grader that failed gave the number.
    """

    # "regressed", "remains", "unfit", "alarms" or "weighed".
    what: str
    label: str
    text: str
    number: Number | None = None
    unfit: bool = False
    weight: Number | None = None


def findings(run: Run, losses: Sequence[Headline], judged: Sequence[Grader]) -> tuple[Finding, ...]:
    """Improvements that the numbers call for: regressions, then what remains, then unfit graders and labellers."""
    out = [Finding("regressed", h.label, h.meaning, h.change.number, h.unfit) for h in losses if h.change is not None]
    for name, words in REMAINS.items():
        number = run.final.numbers.get(name)
        if number is not None and number.value:
            out.append(Finding("remains", number.label, words, number, unfit(run.final, name)))
    out += [Finding("unfit", g.name, g.why or "failed the fitness gate") for g in judged if g.fit is False]
    out += [Finding("alarms", g.name, "", g.alarms) for g in judged if g.alarms is not None]
    weighed = run.comparisons.numbers if run.comparisons else {}
    weight, accuracy = weighed.get("label_weight"), weighed.get("label_accuracy")
    if accuracy is not None and weight is not None and weight.value is not None and weight.value < 1:
        words = "which can't be told from chance" if weight.value else "which is below chance"
        out.append(Finding("weighed", accuracy.stage, words, accuracy, weight=weight))
    return tuple(out)
