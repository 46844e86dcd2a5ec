"""What the card says with numbers: headlines, tables of stages, graders, and what to improve.

One row a stage, each number with its interval and its paired change against the row before; colour only where
the change is significant, the words "not significant" elsewhere. Numbers of an unfit grader are greyed, never
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from charter.card.artifact import COUNTS, REPORT, Artifact
from charter.card.changes import Change, change
from charter.card.gather import Run
from charter.card.letters import unread
from charter.card.number import COUNT, FLOPS, SHARE, Number, judge_of, label, metric_of
from charter.ground.judge.fitness import ABOVE_HARMFUL, BELOW_GOOD
from charter.ground.measure.benchmarks import OF_BENCHMARKS, measures_model
from charter.ground.measure.metrics import AXES, OF_POLICY
from charter.ground.measure.ratings import OF_RATERS

SECTIONS = (
    ("summary", "Summary"),
    ("stages", "What each stage changed"),
    ("whats-new", "What’s new"),
    ("samples", "The same prompts before and after"),
    ("plots", "Pictures of the run"),
    ("graders", "Can the graders be trusted?"),
    ("details", "Model details"),
    ("intended", "Intended use"),
    ("limits", "Unintended use and limitations"),
    ("ethics", "Ethical considerations"),
    ("data", "Training data"),
    ("red-team", "Evaluations and red teaming"),
    ("elo", "Elo by axis"),
    ("alignment", "Alignment evaluations"),
    ("capability", "Capability evaluations"),
    ("published", "Beside the Claude 2 card"),
    ("improved", "Use-case improvements"),
    ("tradeoffs", "Mitigations and trade-offs"),
    ("improve", "Areas for improvement"),
    ("references", "References"),
    ("deltas", "Appendix: changes from start to final"),
    ("lineage", "Lineage"),
    ("reproduce", "Reproduce and verify"),
)
MAIN = (
    "harm_rate",
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "helpful_score",
    "hhh_content",
    "bits_per_byte",
)
RED_TEAM = (
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
    "helpful_refusal_rate",
    "unsafe_boilerplate_rate",
    "unsafe_harsh_rate",
)
HEALTH = (
    "unsafe_loop_rate",
    "lookalike_loop_rate",
    "helpful_loop_rate",
    "unsafe_distinct_2",
    "distinct_2",
    "repeated_4grams",
)
LENGTHS = (
    "unsafe_reply_tokens",
    "helpful_reply_tokens",
    "unsafe_cut_rate",
    "lookalike_cut_rate",
    "helpful_cut_rate",
)
ALIGNMENT = ("hhh_content", *(f"hhh_content_{a}" for a in AXES))
LETTERS = ("hhh_policy", *(f"hhh_policy_{a}" for a in AXES), "hhh_first_share")
# What harmlessness is paid with, if it is paid for.
COSTS = (
    "lookalike_refusal_rate",
    "helpful_refusal_rate",
    "helpful_score",
    "hhh_content",
    "bits_per_byte",
    "unsafe_loop_rate",
)
CAPABILITY = ("bits_per_byte", "helpful_score", "helpful_win_rate")


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one stage; `unfit`: its grader failed the gate; `unread`: the model can't use letters."""

    number: Number | None
    change: Change | None
    unfit: bool
    unread: bool = field(default=False, kw_only=True)


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
    steps: bool  # more than one stage: changes are shown


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


@dataclass(frozen=True, slots=True)
class Grader:
    """A preference model and what it is worth: `fit` None where it was never tested."""

    name: str
    role: str
    fit: bool | None
    why: str
    numbers: tuple[tuple[str, Number | None], ...]


# Numbers of a grader, and what is said below their labels.
GRADER_COLUMNS = {
    "fixed_above_harmful": f"needs {ABOVE_HARMFUL:.0%}".replace("%", " %"),
    "good_above_fixed": f"needs {BELOW_GOOD:.0%}".replace("%", " %"),
    "pair_accuracy": "held-out pairs",
    "pair_accuracy_built": "held-out",
    "hhh_preference": "of the HHH choices",
    "pair_longer_preferred": "length bias",
}


def unfit(stage: Artifact, name: str) -> bool:
    """Whether the number comes from a grader that failed the fitness gate."""
    judge = judge_of(name)
    return bool(judge) and (stage.of(name).report.get(judge) or {}).get("fit") is False


def fit(run: Run, name: str) -> bool | None:
    """The verdict on the preference model or rater of that id: of the last report that judged it, else of its own kept
    triples; None where it was never tested."""
    for stage in reversed(run.stages):
        for role in ("grader", "reward", "rater"):
            entry = stage.report.get(role) or {}
            if entry.get("id") == name and entry.get("fit") is not None:
                return bool(entry["fit"])
    model = next((a for a in run.lineage if a.manifest.id == name), None)
    return _gate(model.numbers)[0] if model else None


def table(run: Run, key: str, names: Sequence[str], caption: str) -> StageTable | None:
    """A table of stages over those metrics that some stage has; None where there is none."""
    names = [n for n in names if any(n in s.numbers for s in run.stages)]
    if not names:
        return None
    columns = []
    for name in names:
        metric = metric_of(name)
        columns.append(
            Column(name, label(name), metric.meaning if metric else "", metric.better if metric else "")
        )
    rows = []
    for i, stage in enumerate(run.stages):
        before = run.stages[i - 1] if i else None
        cells = tuple(
            Cell(
                stage.numbers.get(n),
                change(before, stage, n) if before else None,
                unfit(stage, n),
                unread=unread(stage, n),
            )
            for n in names
        )
        rows.append((stage.label, cells))
    counts = tuple(run.final.numbers.get(n) for n in names)
    return StageTable(key, caption, tuple(columns), tuple(rows), counts, len(run.stages) > 1)


def headlines(run: Run, names: Sequence[str]) -> tuple[Headline, ...]:
    """The chosen metrics from start to final; those that either report lacks are left out."""
    return between(run.start, run.final, names)


def between(first: Artifact, last: Artifact, names: Sequence[str]) -> tuple[Headline, ...]:
    """The chosen metrics from one stage to another, without a change where both are the same."""
    found = []
    for name in names:
        metric = metric_of(name)
        if metric is None or name not in first.numbers or name not in last.numbers:
            continue
        moved = change(first, last, name) if first is not last else None
        ends = first.numbers[name], last.numbers[name]
        grey = unfit(first, name) or unfit(last, name)
        found.append(Headline(name, label(name), metric.meaning, metric.better, *ends, moved, grey))
    return tuple(found)


def deltas(run: Run) -> tuple[Headline, ...]:
    """All metrics of the policy that both ends have; what measures a judge isn't a change of the policy."""
    names = [
        *(m.name for m in OF_POLICY),
        "refusal_gap",
        *(m.name for m in OF_BENCHMARKS if measures_model(m)),
    ]
    return headlines(run, names) if len(run.stages) > 1 else ()


def graders(run: Run) -> tuple[Grader, ...]:
    """The grader of the final report, the reward model, then the other preference models, each once."""
    found: dict[str, Grader] = {}
    by_id = {p.manifest.id: p for p in run.preferences}
    for role, words in (("grader", "held-out grader"), ("reward", "maximised by RL")):
        entry = run.final.report.get(role)
        if entry:
            model = by_id.get(str(entry.get("id")))
            own = run.final.numbers if role == "grader" else {}
            numbers = {**own, **(model.numbers if model else {})}
            fit, why = entry.get("fit"), str(entry.get("why") or "")
            if fit is None and model:
                fit, why = _gate(numbers)
            found[str(entry.get("id"))] = _grader(str(entry.get("name")), words, fit, why, numbers)
    for model in run.preferences:
        fit, why = _gate(model.numbers)
        found.setdefault(model.manifest.id, _grader(model.name, "preference model", fit, why, model.numbers))
    return tuple(found.values())


def rater(run: Run) -> Grader | None:
    """The model that rated the harm of replies, in the last report that has one, with what its held-out rows say."""
    found = (entry for stage in reversed(run.stages) if (entry := stage.report.get("rater")))
    entry = next(found, None)
    if entry is None:
        return None
    model = next((a for a in run.lineage if a.manifest.id == str(entry.get("id"))), None)
    kept = model.numbers if model else {}
    numbers = tuple((label(m.name), kept[m.name]) for m in OF_RATERS if m.name in kept)
    return Grader(
        str(entry.get("name")), "rates harm", entry.get("fit"), str(entry.get("why") or ""), numbers
    )


def _grader(name: str, role: str, fit: bool | None, why: str, numbers: dict[str, Number]) -> Grader:
    return Grader(name, role, fit, why, tuple((c, numbers.get(c)) for c in GRADER_COLUMNS))


def _gate(numbers: dict[str, Number]) -> tuple[bool | None, str]:
    """The verdict of the fitness gate, from the kept rows."""
    above, below = numbers.get("fixed_above_harmful"), numbers.get("good_above_fixed")
    if above is None or below is None or above.value is None or below.value is None:
        return None, "not tested on triples"
    return above.value >= ABOVE_HARMFUL and below.value >= BELOW_GOOD, ""


def labeller(run: Run) -> tuple[tuple[str, Number], ...]:
    """What the AI labeller is worth: accuracy and order bias on known pairs, and the weight its labels were
    given."""
    if run.comparisons is None:
        return ()
    numbers = run.comparisons.numbers
    names = (
        "label_accuracy",
        "label_confidence",
        "label_calibration_error",
        "label_first_share",
        "label_weight",
        "mean_p_chosen",
        "comparisons",
    )
    words = {
        "label_weight": "Weight given to labels",
        "mean_p_chosen": "Mean confidence",
        "comparisons": "Comparisons kept",
    }
    found = []
    for name in names:
        if name in numbers:
            found.append((words.get(name, label(name)), numbers[name]))
    return tuple(found)


def detectors(run: Run) -> tuple[tuple[str, Number | None, Number | None, Number | None], ...]:
    """(detector, precision, recall, n) as the final report measured them on labelled replies."""
    found = []
    stage = run.final
    for name, measured in sorted((stage.report.get("detectors") or {}).items()):
        if not isinstance(measured, dict):
            continue
        cells = []
        for part in ("precision", "recall", "n"):
            value, ends = measured.get(part), measured.get(f"{part}_interval")
            number = Number(
                key=f"{stage.name}/detectors.{name}.{part}",
                name=f"detectors.{name}.{part}",
                value=float(value) if value is not None else None,
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
                unit=COUNT if part == "n" else SHARE,
                stage=stage.label,
                sources=(stage.source(REPORT),),
            )
            cells.append(number if value is not None else None)
        found.append((name, cells[0], cells[1], cells[2]))
    return tuple(found)


def counts(artifact: Artifact) -> tuple[tuple[str, Number], ...]:
    """Counts beside an artifact, in the order of its manifest."""
    return tuple(
        (name.replace("_", " "), number)
        for name, number in artifact.numbers.items()
        if number.sources[0].file == COUNTS and number.unit in (COUNT, FLOPS) and number.value
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to improve: `what` happened to a number (`unfit`: by a grader that failed), a grader that failed, or a
    labeller whose labels were given less `weight`."""

    what: str  # "regressed" | "remains" | "unfit" | "weighed"
    label: str
    text: str
    number: Number | None = None
    unfit: bool = False
    weight: Number | None = None


def findings(run: Run, losses: Sequence[Headline], judged: Sequence[Grader]) -> tuple[Finding, ...]:
    """What the numbers themselves ask for: regressions first, then what remains, then unfit graders and labellers."""
    out = [
        Finding("regressed", h.label, h.meaning, h.change.number, h.unfit)
        for h in losses
        if h.change is not None
    ]
    for name, words in (
        (
            "harm_rate",
            "of the final model's replies to unsafe prompts are still graded worse than the fixed reply",
        ),
        (
            "lookalike_refusal_rate",
            "of harmless requests that only look unsafe are refused by the final model",
        ),
        ("harm_rate_unseen", "is its harm rate on topics that training never saw"),
        (
            "lookalike_harm_rate",
            "of its answers to harmless requests are graded worse than the fixed reply too: as much of the harm rate "
            "may be style",
        ),
    ):
        number = run.final.numbers.get(name)
        if number is not None and number.value:
            out.append(Finding("remains", label(name), words, number, unfit(run.final, name)))
    out += [Finding("unfit", g.name, g.why or "failed the fitness gate") for g in judged if g.fit is False]
    weighed = run.comparisons.numbers if run.comparisons else {}
    weight, accuracy = weighed.get("label_weight"), weighed.get("label_accuracy")
    if accuracy is not None and weight is not None and weight.value is not None and weight.value < 1:
        words = "which can't be told from chance" if weight.value else "which is below chance"
        out.append(Finding("weighed", accuracy.stage, words, accuracy, weight=weight))
    return tuple(out)
