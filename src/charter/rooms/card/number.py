"""Every number of a card knows where it comes from; printing one that doesn't is an error.

A `Number` carries the artifact and the file it was computed from. Templates print through a `Ledger`, which
notes each number shown (they become card.json) and refuses bare figures, so that nothing is typed by hand.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from markupsafe import Markup

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.benchmarks import task_of
from charter.ground.measure.metric import Kind, Metric
from charter.ground.measure.metrics import ALL

ALPHA = 0.05
SHARE, COUNT, PLAIN, ELO, FLOPS = "share", "count", "", "Elo", "FLOPs"
OF_A_HUNDRED = frozenset({"BLEU", "chrF"})
NOT_SHARES = frozenset(
    {
        "helpful_score",
        "winogender",
        "refusal_d_prime",
        "refusal_d_prime_benign",
        "refusal_criterion",
        "refusal_criterion_benign",
    }
)
# Powers, of which the third decimal counts.
EXPONENTS = frozenset(
    {
        "position_exponent",
        "scaling_exponent",
        "scaling_exponent_size",
        "scaling_joint_size",
        "scaling_joint_text",
        "scaling_optimal_share",
    }
)
# What counts.json holds besides counts and shares, with its unit.
MEASURED = {"label_weight": PLAIN, "mean_p_chosen": SHARE, "compute": FLOPS, "kl_bound": "nats"}
LABELS = {
    "harm_rate": "Harm rate",
    "harm_answered_rate": "Harm, answered",
    "refused_below_rate": "Refusals graded as harm",
    "harm_rate_prompts": "Prompts with harm",
    "harm_rate_seen": "Harm, seen topics",
    "harm_rate_unseen": "Harm, unseen topics",
    "harm_rate_reward": "Harm, reward model's view",
    "unsafe_refusal_rate": "Unsafe refused",
    "unsafe_loop_rate": "Loops, unsafe",
    "unsafe_cut_rate": "Cut at the limit, unsafe",
    "unsafe_boilerplate_rate": "Stock phrases, unsafe",
    "unsafe_harsh_rate": "Scolding, unsafe",
    "unsafe_distinct_2": "Distinct among samples",
    "unsafe_reply_tokens": "Length, unsafe",
    "unsafe_reply_distinct_2": "Distinct bigrams, unsafe",
    "unsafe_repeated_4grams": "Repeated 4-grams, unsafe",
    "unsafe_nll_under_start": "NLL under the start, unsafe",
    "lookalike_refusal_rate": "Look-alikes refused",
    "lookalike_refusal_rate_seen": "Look-alikes, seen kinds",
    "lookalike_refusal_rate_unseen": "Look-alikes, unseen kinds",
    "lookalike_harm_rate": "False alarms, look-alikes",
    "lookalike_loop_rate": "Loops, look-alikes",
    "lookalike_cut_rate": "Cut at the limit, look-alikes",
    "lookalike_reply_tokens": "Length, look-alikes",
    "lookalike_distinct_2": "Distinct bigrams, look-alikes",
    "lookalike_repeated_4grams": "Repeated 4-grams, look-alikes",
    "lookalike_nll_under_start": "NLL under the start, look-alikes",
    "refusal_gap": "Refusal gap",
    "refusal_d_prime": "d′, look-alikes",
    "refusal_criterion": "Criterion c, look-alikes",
    "refusal_d_prime_benign": "d′, all harmless",
    "refusal_criterion_benign": "Criterion c, all harmless",
    "helpful_score": "Helpful score",
    "helpful_win_rate": "Win rate over start",
    "helpful_refusal_rate": "Helpful refused",
    "helpful_loop_rate": "Loops, helpful",
    "helpful_cut_rate": "Cut at the limit, helpful",
    "helpful_reply_tokens": "Length, helpful",
    "facts_recalled": "Required facts told",
    "facts_all": "All required facts told",
    "facts_refusal_rate": "Everyday questions refused",
    "facts_cut_rate": "Cut at the limit, facts",
    "exact_answers": "Short questions right",
    "quiz_refusal_rate": "Short questions refused",
    "distinct_1": "Distinct words",
    "distinct_2": "Distinct bigrams",
    "distinct_3": "Distinct trigrams",
    "repeated_4grams": "Repeated 4-grams",
    "nll_under_start": "NLL under the start",
    "bits_per_byte": "Bits per byte",
    "pair_accuracy": "Pair accuracy",
    "pair_accuracy_built": "Pairs built by the room",
    "pair_accuracy_length_matched": "Pairs of about equal length",
    "pair_length_rule": "Length rule",
    "pair_over_rule": "Accuracy less the rule's",
    "pair_longer_preferred": "Longer preferred",
    "member_spread": "Spread over members",
    "pair_longer_labelled": "Longer labelled better",
    "label_accuracy": "Label accuracy",
    "label_confidence": "Confidence in its choice",
    "label_first_share": "Put on the first option",
    "fixed_above_harmful": "Fixed reply above harm",
    "good_above_fixed": "Good refusal above fixed",
    "hhh_content": "HHH choices",
    "hhh_policy": "HHH, by letter",
    "hhh_first_share": "HHH, put on the first option",
    "hhh_preference": "HHH, by score",
    "humaneval": "HumanEval, pass@1",
    "humaneval_pass_10": "HumanEval, pass@10",
    "humaneval_environment_failed": "HumanEval, sandbox failed",
    "mmlu": "MMLU, with reasoning",
    "mmlu_subjects": "MMLU, mean over subjects",
    "triviaqa": "TriviaQA",
    "triviaqa_wrong": "TriviaQA, wrong",
    "triviaqa_declined": "TriviaQA, declined",
    "translation_bleu": "Translation, BLEU",
    "translation_chrf": "Translation, chrF",
    "translation_understandable": "Languages over BLEU 30",
    "translation_good": "Languages over BLEU 50",
    "bbq_ambiguous_bias": "BBQ bias, ambiguous",
    "bbq_disambiguated_bias": "BBQ bias, disambiguated",
    "bbq_script_ambiguous_bias": "BBQ bias, ambiguous, script",
    "bbq_script_disambiguated_bias": "BBQ bias, disambiguated, script",
    "bbq_ambiguous_accuracy": "BBQ right, ambiguous",
    "bbq_disambiguated_accuracy": "BBQ right, disambiguated",
    "bbq_refused": "BBQ without an answer",
    "bbq_untargeted": "BBQ without a target",
    "truthfulqa": "TruthfulQA",
    "truthfulqa_mc2_mapped": "TruthfulQA, MC2 options",
    "truthfulqa_mc1": "TruthfulQA MC1",
    "truthfulqa_mc2": "TruthfulQA MC2",
    "truthfulqa_declined": "TruthfulQA declined",
    "truthfulqa_unanswered": "TruthfulQA not mapped",
    "truthfulqa_helper": "Helper's mapping",
    "winogender": "Pronouns by share of women",
    "winogender_neutral": "Neutral pronouns",
    "occupations_bias": "Occupations by gender",
    "decisions_gap_race": "Decisions, Black less white",
    "decisions_gap_gender": "Decisions, women less men",
    "decisions_yes": "Decisions, yes",
    "pair_calibration_error": "Calibration error, pairs",
    "pair_overconfidence": "Overconfidence, pairs",
    "label_calibration_error": "Calibration error, labels",
    "label_overconfidence": "Overconfidence, labels",
    "hhh_policy_calibration_error": "Calibration error, HHH by letter",
    "hhh_policy_overconfidence": "Overconfidence, HHH by letter",
    "hhh_preference_calibration_error": "Calibration error, HHH by score",
    "hhh_preference_overconfidence": "Overconfidence, HHH by score",
    "harm_rating": "Harm rating, 0 to 4",
    "harm_rating_lookalikes": "Harm rating, look-alikes",
    "rating_squared_error": "Squared error",
    "rating_absolute_error": "Distance from the rating given",
    "rating_error_ratio": "Squared error over the best constant's",
    "rating_correlation": "Correlation with the ratings given",
    "rating_calibration_error": "Calibration error",
    "rating_bias": "Predicted less given",
    "rating_length_scored": "Predicted rating and length, r",
    "rating_length_labelled": "Given rating and length, r",
    "review_kappa": "Fleiss' kappa, ratings 0 to 4",
    "review_kappa_harmful": "Fleiss' kappa, harmful or not",
    "review_agreement": "Pairs of reviewers who agree",
    "review_harmful_rate": "Called harmful by most",
    "review_rating": "Mean rating, 0 to 4",
    "selected_share": "Prompts that get a reply",
    "selected_share_prompts": "The same, may be refused",
    "selected_share_harmless": "The same, must be answered",
    "selected_gain": "Score gained by choosing",
    "screen_auroc_lookalikes": "AUROC against look-alikes",
    "screen_auroc_ordinary": "AUROC against ordinary prompts",
    "screen_reply_auroc": "AUROC of replies",
    "screen_reply_pairs": "Worse reply of a pair scores higher",
    "screen_disclosed": "Harmless prompts given a disclosure",
    "scaling_exponent": "Exponent over compute",
    "scaling_floor": "Floor of the law",
    "scaling_further": "Predicted for 10 times the compute",
    "scaling_left_out": "Largest size, predicted by the smaller ones",
    "scaling_left_out_gap": "Predicted less measured, largest size",
    "scaling_exponent_size": "Exponent over parameters",
    "scaling_joint_size": "Exponent of size, with text apart",
    "scaling_joint_text": "Exponent of text, with size apart",
    "scaling_joint_floor": "Floor, with size and text apart",
    "scaling_optimal_share": "Best size grows as compute to the power",
}


# Tasks of benchmarks; what follows a task's name in that of a metric is a part of it.
TASKS = {
    "mmlu": "MMLU",
    "mmlu_plain": "MMLU, by letter",
    "arc": "ARC-Challenge",
    "race": "RACE-H",
    "quality": "QuALITY",
    "triviaqa": "TriviaQA",
    "gsm8k": "GSM8k",
    "humaneval": "HumanEval",
    "bbq": "BBQ",
    "truthfulqa": "TruthfulQA",
    "translation": "Translation",
    "position": "Loss by position",
    "recall": "Recall",
    "winogender": "Pronouns",
    "occupations": "Occupations",
    "decisions": "Decisions",
}


@dataclass(frozen=True, slots=True)
class Source:
    """The step, its artifact's id, and the file in it that a number was computed from."""

    step: str
    artifact: str
    file: str


@dataclass(frozen=True, slots=True)
class Number:
    """A value, its 95 % interval, what it counts, and where it comes from. `key` is unique in a card: the name of an
    artifact (see `gather`), then that of the number."""

    key: str
    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    clusters: int | None = None
    version: int = 1
    unit: str = PLAIN
    stage: str = ""
    change: bool = False
    sources: tuple[Source, ...] = ()
    p: float | None = None  # of a change: by exchange, not corrected for the number of changes

    @property
    def significant(self) -> bool:
        """Of a change: whether its interval leaves out 0 and, where p is known, p is at most ALPHA."""
        apart = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        return apart and (self.p is None or self.p <= ALPHA)

    def record(self) -> dict[str, Any]:
        """As it stands in card.json."""
        return {**asdict(self), "sources": [asdict(s) for s in self.sources]}


def metric_of(name: str) -> Metric | None:
    """The metric of that name, also one over the tables of others."""
    return ALL.get(name)


def judge_of(name: str) -> str:
    """The model whose scores decide a metric, such as "grader" or "start"; empty where none does."""
    metric = metric_of(name)
    return metric.judge if metric else ""


def kind_of(name: str) -> Kind:
    """A "part", a "fault" or neither: what a metric is of its task."""
    metric = metric_of(name)
    return metric.kind if metric else ""


def label(name: str) -> str:
    """What a metric is called in a table's head."""
    known = LABELS.get(name)
    if known:
        return known
    for start, words in (
        ("hhh_content_", "HHH, "),
        ("hhh_policy_", "HHH by letter, "),
        ("hhh_preference_", "HHH by score, "),
        ("pair_accuracy_", "Pairs, "),
        ("pair_length_rule_", "Length rule, "),
        ("pair_over_rule_", "Accuracy less the rule's, "),
        ("member_accuracy_", "Pairs, member "),
        ("screen_recall_", "Violating prompts found, "),
        ("screen_precision_", "Found prompts that violate, "),
        ("screen_lookalikes_", "Look-alikes taken for violations, "),
        ("screen_ordinary_", "Ordinary prompts taken for violations, "),
        ("screen_reply_recall_", "Violating replies found, "),
        ("screen_reply_lookalikes_", "Refusals taken for violations, "),
        ("screen_reply_ordinary_", "Ordinary replies taken for violations, "),
        ("revision_harm_rate_", "Harm after revision "),
        *((f"{start}_", f"{words}, ") for start, words in LABELS.items() if start.startswith("bbq_")),
    ):
        if name.startswith(start):
            return words + name.removeprefix(start).replace("_", " ")
    if task := task_of(name, TASKS):
        return ", ".join(filter(None, (TASKS[task], name.removeprefix(task).strip("_").replace("_", " "))))
    return name.replace("_", " ").capitalize()


def unit_of(name: str) -> str:
    """share, tokens, bits/byte ... of a metric; plain for scores."""
    metric = metric_of(name)
    if metric is None:
        return MEASURED.get(name, SHARE if name.endswith("_share") else PLAIN)
    if name in NOT_SHARES:
        return PLAIN
    if name in EXPONENTS:
        return "exponent"
    return metric.unit or SHARE


def is_count(name: str) -> bool:
    """Whether a number of counts.json counts something; shares and weights may be integral too."""
    return name not in MEASURED and unit_of(name) == PLAIN


def figure(value: float | None, unit: str, signed: bool = False, bare: bool = False) -> str:
    """A value in words that fit its unit; `bare` leaves the unit out, a change of a share is in points."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if unit == SHARE:
        text, end = f"{100 * abs(value):.1f}", " points" if signed else " %"
    elif unit in (COUNT, ELO):
        text, end = f"{abs(value):,.0f}", ""
    elif unit == FLOPS:
        text, end = f"{abs(value):.2e}".replace("e+", "e"), f" {FLOPS}"
    elif unit in OF_A_HUNDRED:
        text, end = f"{abs(value):.1f}", ""
    elif unit == "tokens":
        text, end = f"{abs(value):.1f}", " tokens"
    else:
        text, end = f"{abs(value):.3f}" if unit else f"{abs(value):.2f}", ""
    zero = not text.strip("0.")
    sign = "−" if value < 0 and not zero else "+" if signed and not zero else ""
    return sign + text + ("" if bare else end)


def interval(number: Number) -> str:
    """The interval, without its unit; empty where there is none."""
    if number.low is None or number.high is None:
        return ""
    ends = (figure(x, number.unit, number.change, bare=True) for x in (number.low, number.high))
    return " to ".join(ends)


@dataclass
class Ledger:
    """Notes each number that is shown. `printed` is handed to the template engine for every expression."""

    shown: dict[str, Number] = field(default_factory=dict)

    def note(self, number: Number) -> Number:
        """Marks a number as shown. Raises CharterError where it has no source or its key is taken by
        another."""
        if not number.sources or any(not s.artifact or not s.file for s in number.sources):
            raise CharterError(
                f"the card would print {number.name} ({number.stage or 'no stage'}) without a source; give "
                "the "
                "artifact and the file it was computed from"
            )
        other = self.shown.setdefault(number.key, number)
        if other != number:
            raise CharterError(f"two numbers of the card are called {number.key}; give each its own key")
        return number

    def printed(self, value: object) -> object:
        """What a template expression becomes: numbers are noted and worded, bare figures refused."""
        if isinstance(value, Number):
            return self.value(value)
        if isinstance(value, int | float) and not isinstance(value, str):
            raise CharterError(
                f"the card would print the bare figure {value!r}; only numbers with a source may be printed"
            )
        return "" if value is None else value

    def value(self, number: Number) -> str:
        """The value in words."""
        self.note(number)
        return figure(number.value, number.unit, number.change).replace(" ", "\u00a0")

    def span(self, number: Number) -> str:
        """The interval in words."""
        return interval(self.note(number)).replace(" ", "\u00a0")

    def count(self, number: Number) -> str:
        """Rows behind the number, and the prompts (or texts) they belong to where that is fewer."""
        self.note(number)
        if number.n is None:
            return ""
        if number.clusters is None or number.clusters == number.n:
            return f"n\u00a0=\u00a0{number.n:,}"
        prompts = "prompt" if number.clusters == 1 else "prompts"
        return f"n\u00a0=\u00a0{number.n:,} ({number.clusters:,}\u00a0{prompts})"

    def source(self, number: Number) -> Markup:
        """Where it comes from, as a title: step and file."""
        return Markup("{}").format("; ".join(f"{s.step}/{s.file}" for s in self.note(number).sources))
