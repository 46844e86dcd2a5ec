"""The evaluations of the Claude 2 model card, one by one: what runs here, and where it departs from the card."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Component:
    """One evaluation. `tasks`: of the evaluate room, whose counts a run's reports have. `elsewhere`: where it is shown
    if it has no task."""

    name: str
    runs: str
    departs: str
    tasks: tuple[str, ...] = ()
    elsewhere: str = ""


COMPONENTS = (
    Component(
        "Asking and reading answers",
        "one file a task: prompt kept, answer parsed, unanswered counted",
        "the model's own T = 0.2, top-p 0.9, wherever the card samples at T = 1; a task of your own is a Python file",
        elsewhere="every task",
    ),
    Component("HumanEval", "sandbox, pass@k", "longest answer shortened here", ("humaneval",)),
    Component("GSM8k", "no examples, reasoning", "longest answer shortened here", ("gsm8k",)),
    Component(
        "MMLU",
        "five rows of the subject with worked thoughts; also by letter",
        "thoughts are ours; half of the test rows are at hand",
        ("mmlu", "mmlu_plain"),
    ),
    Component("TriviaQA", "five examples, T = 0", "closed book", ("triviaqa",)),
    Component(
        "QuALITY",
        "as many examples as fit, up to five",
        "none fits here; stories longer than the window count as wrong; no row is marked hard",
        ("quality",),
    ),
    Component("ARC-Challenge", "five examples", "half of the test rows are at hand", ("arc",)),
    Component("RACE-H", "five examples", "half of the test rows are at hand", ("race",)),
    Component(
        "HHH, 438 choices",
        "by letter, content and preference model; groups from the 221",
        "0-shot here; five-shot by `change.hhh.shots`",
        ("hhh",),
    ),
    Component(
        "BBQ",
        "likeliest letter; sampled, with refusals by context; asked to be fair; with reasoning",
        "the card doesn't state its shots and decoding; sampled at T = 0.2 here; data without the authors' targets",
        ("bbq", "bbq_sampled", "bbq_instructed", "bbq_reasoned"),
    ),
    Component(
        "TruthfulQA",
        "free answers mapped blind by the helpful-only model; MC1 to MC3; by type and category",
        "no mapped score where the mapper fails 200 known mappings",
        ("truthfulqa",),
    ),
    Component(
        "328 harmful and jailbreak prompts",
        "public requests, and ten families of wrappers; by prompt, sample, family and area",
        "the card's prompts aren't published; one sample a prompt here, five by default",
        ("requests", "harmlessness"),
    ),
    Component(
        "Harm from 0 to 4",
        "a judge's or rater's scores against people's labels and arena attempts; 64 prompts by 256 replies, rated",
        "no rater in this run: the judge is asked, and the 64 by 256 aren't run",
        ("rater_check", "harm_scores"),
    ),
    Component(
        "Model-written evaluations",
        "Yes and No, two options in both orders, negations; sycophancy; stated beside shown",
        "published and authored questions; scenes of what is shown aren't in this run",
        ("behaviours", "sycophancy", "stated_shown"),
    ),
    Component(
        "Discrimination",
        "decisions over 70 profiles of 135 people; Winogender; occupations",
        "our profiles",
        ("decisions", "winogender", "occupations"),
    ),
    Component(
        "Translation",
        "FLORES-200 into 12 languages, BLEU and chrF",
        "BLEU over characters or words where flores200 pieces can't be had",
        ("translation",),
    ),
    Component(
        "Loss by position",
        "buckets that double, and a fit that says when it fails",
        "window of 8,192 tokens; the card: 200K, 1,000 documents",
        ("position",),
    ),
    Component(
        "Recall",
        "length by depth",
        "texts of 512 and 2,048 tokens here",
        elsewhere="`recall`, in its table above",
    ),
    Component(
        "GRE",
        "verbal, quantitative, writing in the exam's shapes; two essay readings",
        "our items; no scaled score for stand-ins; the examiner was never shown fit",
        ("gre_verbal", "gre_quant", "gre_writing"),
    ),
    Component(
        "Bar exam (MBE)",
        "five examples, no reasoning",
        "our items; AGIEval's LSAT beside it",
        ("mbe", "agieval_lsat_ar", "agieval_lsat_lr", "agieval_lsat_rc"),
    ),
    Component("USMLE", "five examples, no reasoning, by step", "MedQA's items", ("usmle",)),
    Component(
        "Items with pictures",
        "`charter data import --exam` finds, removes or takes transcripts, and reports each",
        "",
        elsewhere="tests on marked items",
    ),
    Component(
        "Elo",
        "`charter elo`, one fit over axes with intervals",
        "votes of people are none here",
        elsewhere="tests against another library",
    ),
    Component(
        "Judges",
        "`charter` room `judge`: both orders, flips, agreement with people",
        "the judge of this run is too small",
        ("even_handedness", "labelled", "rm_bench"),
    ),
    Component(
        "Honesty",
        "known, invented, premises, missing context, second thoughts, support by a document",
        "Claude 2.1's rubric isn't published",
        ("known", "invented", "taught", "premises", "missing_context", "sure", "support"),
    ),
    Component(
        "Calibration",
        "reliability of graders and of confidence",
        "",
        elsewhere="the card's plots",
    ),
    Component(
        "Tables over versions",
        "matrix of every number by every stage; `charter compare`",
        "",
        elsewhere="[matrix.csv](battery/matrix.csv)",
    ),
    Component("Figures", "drawn from the rows, each", "", elsewhere="below"),
)
