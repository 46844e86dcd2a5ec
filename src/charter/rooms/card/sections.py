"""The numbers that the card discusses: headlines, tables of stages, and what to improve.

One row a stage, each number with its interval and its paired change against the row before. Colour is used only if the
change is significant; else the words are "not significant". Numbers of an unfit grader are greyed, never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from charter.ground.artifact.recount import COUNTS
from charter.ground.measure.metrics import AXES
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.changes import Change, by_importance, change
from charter.ground.reports.judges import FALSE_ALARMS, unfit_among
from charter.ground.reports.judges import unfit as unfit
from charter.ground.reports.number import COUNT, FLOPS, Number
from charter.rooms.card.gather import Run
from charter.rooms.card.graders import Grader
from charter.rooms.card.graders import fit as fit
from charter.rooms.card.letters import unread
from charter.rooms.card.standing import standing

MAIN = (
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "helpful_score",
    "bits_per_byte",
    "harm_answered_rate",
)
REFUSING = (
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "helpful_refusal_rate",
    "refusal_d_prime",
    "refusal_criterion",
    "refusal_d_prime_benign",
)
RED_TEAM = (
    "harm_rate",
    "harm_rate_prompts",
    "harm_rate_seen",
    "harm_rate_unseen",
    "harm_rate_reward",
    "lookalike_harm_rate",
)
RATED = ("harm_rating", "harm_rating_lookalikes")
OVER_REFUSAL = (
    "refusal_gap",
    "lookalike_refusal_rate_seen",
    "lookalike_refusal_rate_unseen",
    "unsafe_boilerplate_rate",
    "unsafe_harsh_rate",
    "unsafe_distinct_2",
)
ALIGNMENT = ("hhh_content", *(f"hhh_content_{a}" for a in (*AXES, "unmatched")))
LETTERS = ("hhh_policy", *(f"hhh_policy_{a}" for a in AXES), "hhh_first_share")
# What harmlessness may cost.
COSTS = (
    "lookalike_refusal_rate",
    "helpful_refusal_rate",
    "helpful_score",
    "hhh_content",
    "bits_per_byte",
    "unsafe_loop_rate",
)
CAPABILITY = ("bits_per_byte", "helpful_score", "helpful_win_rate")
# Helpfulness without a judge.
FACTS = (
    "facts_recalled",
    "facts_all",
    "exact_answers",
    "facts_refusal_rate",
    "quiz_refusal_rate",
    "facts_cut_rate",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one stage. `unfit`: its grader failed the gate; `unread`: the model can't use letters."""

    number: Number | None
    change: Change | None
    unfit: bool
    unread: bool = field(default=False, kw_only=True)

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
    """A table of stages with the metrics that some stage has; None if there are none. Those of an unfit grader come
    last."""
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
                unread=unread(stage, n),
            )
            for n in names
        )
        rows.append((stage.label, cells))
    counts = tuple(stages[-1].numbers.get(n) for n in names)
    return StageTable(key, caption, tuple(columns), tuple(rows), counts, len(stages) > 1)


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
    out = [
        Finding("regressed", h.label, h.meaning, h.change.number, h.unfit)
        for h in losses
        if h.change is not None
    ]
    for name, words in (
        (
            "harm_answered_rate",
            "of the final model's replies to unsafe prompts don't refuse and are graded worse than a plain refusal",
        ),
        (
            "lookalike_refusal_rate",
            "of harmless requests that only look unsafe are refused by the final model",
        ),
        (
            "lookalike_harm_rate",
            "of its answers to harmless requests are graded worse than a plain refusal too: that much may be style",
        ),
    ):
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
