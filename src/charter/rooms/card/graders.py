"""Describes the judges: preference models with both gates and the length rule, the rater, the labeller, the
detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.ground.judge.fitness import ABOVE_HARMFUL, BELOW_GOOD, HELPFUL_PAIRS, KEPT_PAIRS, HelpfulFitness
from charter.ground.measure.metric import default_label
from charter.ground.measure.metrics import OF_PREFERENCE
from charter.ground.measure.ratings import RATINGS
from charter.ground.reports.artifact import REPORT, Artifact
from charter.ground.reports.judges import FALSE_ALARMS, mostly_false
from charter.ground.reports.number import COUNT, SHARE, Number
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Kept

FEWEST_PAIRS = 10  # of fewer held-out pairs no rate is printed
LABELS = {metric.name: metric.label for metric in OF_PREFERENCE}
# Numbers of a grader and the notes below their labels: for its gate on harm, and for held-out pairs.
GATE_COLUMNS = {
    "fixed_above_harmful": f"needs {ABOVE_HARMFUL:.0%}".replace("%", " %"),
    "good_above_fixed": f"needs {BELOW_GOOD:.0%}".replace("%", " %"),
    "hhh_preference": "of the HHH choices",
}
PAIR_COLUMNS = {
    "pair_accuracy": "ranked as labelled",
    "pair_length_rule": "on the same pairs",
    "pair_over_rule": "paired",
    "pair_accuracy_length_matched": "within 10 %",
    "pair_longer_preferred": "length bias",
    "pair_accuracy_built": "held-out",
}


@dataclass(frozen=True, slots=True)
class Grader:
    """A preference model and its verdicts: `fit` for its numbers on harm, `helpful` for those on help. None if it was
    never tested."""

    name: str
    role: str
    fit: bool | None
    why: str
    shown: Mapping[str, Number]
    helpful: bool | None = None
    helpful_why: str = ""
    # Set if it passed its gate and is unfit for harm all the same.
    alarms: Number | None = None

    def of(self, columns: Mapping[str, str]) -> tuple[Number | None, ...]:
        """Its numbers in the columns of a table."""
        return tuple(self.shown.get(name) for name in columns)

    @property
    def beats_rule(self) -> bool | None:
        """Whether it surely ranks held-out pairs better than the length rule; None if that was not measured."""
        more = self.shown.get("pair_over_rule")
        return None if more is None else more.low is not None and more.low > 0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A sentence on a grader, around a number if it has one."""

    before: str
    number: Number | None = None
    after: str = ""


def label_of(judged: Sequence[Grader], name: str) -> str:
    """The head of a column of graders' numbers."""
    labels = (g.shown[name].label for g in judged if name in g.shown)
    return next(labels, LABELS.get(name) or default_label(name))


def fit(run: Run, name: str) -> bool | None:
    """The verdict on the preference model or rater with that id; None if it was never tested.

    It is that of the last report that judged it, else of its own kept triples.
    """
    for stage in reversed(run.stages):
        for role in ("grader", "reward", "rater"):
            entry = stage.report.get(role) or {}
            if entry.get("id") == name and entry.get("fit") is not None:
                return bool(entry["fit"])
    model = next((a for a in run.lineage if a.manifest.id == name), None)
    return _gate(model.numbers)[0] if model else None


def graders(run: Run) -> tuple[Grader, ...]:
    """The grader of the final report, the reward model, then the other preference models, each once."""
    judges: dict[str, Grader] = {}
    by_id = {p.manifest.id: p for p in run.preferences}
    for role, words in (("grader", "held-out grader"), ("reward", "maximised by RL")):
        entry = run.final.report.get(role)
        if entry:
            model = by_id.get(str(entry.get("id")))
            report_numbers = run.final.numbers if role == "grader" else {}
            numbers = {**report_numbers, **(model.numbers if model else {})}
            fit, why = entry.get("fit"), str(entry.get("why") or "")
            if fit is None and model:
                fit, why = _gate(numbers)
            helps = (entry.get("helpful_fit"), str(entry.get("helpful_why") or ""))
            if helps[0] is None and model:
                helps = _helps(model)
            name = str(entry.get("name"))
            alarms = find_false_alarms(run) if role == "grader" and fit is not False else None
            judges[str(entry.get("id"))] = Grader(name, words, fit, why, numbers, *helps, alarms)
    for model in run.preferences:
        fit, why = _gate(model.numbers)
        grader = Grader(model.name, "preference model", fit, why, model.numbers, *_helps(model))
        judges.setdefault(model.manifest.id, grader)
    return tuple(judges.values())


def find_false_alarms(run: Run) -> Number | None:
    """The false alarms that make the final report's grader unfit for harm: at the last stage that it graded and that
    shows them; None if there is none."""
    grader = (run.final.report.get("grader") or {}).get("id")
    stages = [s for s in run.stages if (s.of(FALSE_ALARMS).report.get("grader") or {}).get("id") == grader]
    return next((share for stage in reversed(stages) if (share := mostly_false(stage)) is not None), None)


def doubts(run: Run, judged: Sequence[Grader]) -> tuple[Doubt, ...]:
    """Known weaknesses of a grader that passed its gate."""
    entry = run.final.report.get("grader") or {}
    doubts = []
    if (share := find_false_alarms(run)) is not None:
        before = "It takes answers for harm: it puts "
        after = (
            f" of {share.stage}'s answers to harmless look-alikes below a plain refusal too. So its grades say little "
            "more than that a reply doesn't refuse."
        )
        doubts.append(Doubt(before, share, after))
    grader = judged[0] if entry and judged else None
    if grader is not None and grader.beats_rule is False:
        doubts.append(Doubt("It has not been shown to rank held-out pairs better than the length rule."))
    if entry.get("helpful_fit") is False:
        words = f"It is not shown to be fit for help: {_helpful_words(run)}."
        doubts.append(Doubt(Kept(f"{words} Its helpful scores and wins are marked †.")))
    return tuple(doubts)


def _helpful_words(run: Run) -> str:
    """Why the final report's grader isn't fit for help, without a rate of fewer than FEWEST_PAIRS pairs."""
    pairs = len(run.final.rows(f"samples/{HELPFUL_PAIRS}"))
    if 0 < pairs < FEWEST_PAIRS:
        return f"only {pairs} held-out helpful pairs test it, and {FEWEST_PAIRS} are the least that say anything"
    return str((run.final.report.get("grader") or {}).get("helpful_why") or "")


def rater(run: Run) -> Grader | None:
    """The model that rated the harm of replies in the last report that has one, with the numbers of its held-out
    rows."""
    entries = (entry for stage in reversed(run.stages) if (entry := stage.report.get("rater")))
    entry = next(entries, None)
    if entry is None:
        return None
    model = next((a for a in run.lineage if a.manifest.id == str(entry.get("id"))), None)
    model_numbers = model.numbers if model else {}
    numbers = {n.label: n for n in model_numbers.values() if n.metric and n.metric.file == RATINGS}
    return Grader(str(entry.get("name")), "rates harm", entry.get("fit"), str(entry.get("why") or ""), numbers)


def _helps(model: Artifact) -> tuple[bool, str]:
    """Whether a preference model can judge help, from its held-out pairs."""
    verdict = HelpfulFitness.of(model.rows(KEPT_PAIRS))
    return verdict.fit, verdict.why


def _gate(numbers: dict[str, Number]) -> tuple[bool | None, str]:
    """The verdict of the fitness gate, from the kept rows."""
    above, below = numbers.get("fixed_above_harmful"), numbers.get("good_above_fixed")
    if above is None or below is None or above.value is None or below.value is None:
        return None, "not tested on triples"
    return above.value >= ABOVE_HARMFUL and below.value >= BELOW_GOOD, ""


def labeller(run: Run) -> tuple[tuple[str, Number], ...]:
    """Numbers of the AI labeller: accuracy and order bias on known pairs, and the weight of its labels."""
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
    return tuple((words.get(name, numbers[name].label), numbers[name]) for name in names if name in numbers)


def detectors(run: Run) -> tuple[tuple[str, Number | None, Number | None, Number | None], ...]:
    """(detector, precision, recall, n) as the final report measured them on labelled replies."""
    rows = []
    stage = run.final
    for name, scores in sorted((stage.report.get("detectors") or {}).items()):
        if not isinstance(scores, dict):
            continue
        cells = []
        for part in ("precision", "recall", "n"):
            value, ends = scores.get(part), scores.get(f"{part}_interval")
            unit, (low, high) = COUNT if part == "n" else SHARE, ends or (None, None)
            key = f"detectors.{name}.{part}"
            number = stage.number(key, float(value or 0), REPORT, unit, low=low, high=high)
            cells.append(number if value is not None else None)
        rows.append((name, cells[0], cells[1], cells[2]))
    return tuple(rows)
