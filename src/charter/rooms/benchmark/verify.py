"""The battery's marks worked out again: the rules of each task's kept rows, the same that its room wrote them by.

What a sandbox said of a program and which option a helper chose is taken as kept; that the rest follows from it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.manifest import Manifest
from charter.ground.judge import flags, marks
from charter.ground.judge.declining import declines
from charter.ground.judge.marks import TOO_LONG, Marks, Row
from charter.ground.judge.translated import at_hand, sentence_counts
from charter.ground.measure.benchmarks import OF_BENCHMARKS
from charter.ground.measure.reporting import table_problems

METRICS = OF_BENCHMARKS
Rule = Callable[[Row], Marks]
DECLINING = frozenset(
    {"triviaqa", "truthfulqa"}
)  # tasks whose marks depend on what the detectors learnt from


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each mark of a kept row that doesn't follow from it."""
    yield from table_problems(folder, METRICS)
    identity = read_object(folder / "report.json").get("identity") or {}

    def rule(file: str) -> flags.Rule | None:
        task = file.removesuffix(".jsonl")
        told = identity.get(task) or {}
        marking = rule_of(task, told)
        return flags.Rule(marking, told.get("detectors") if task in DECLINING else None) if marking else None

    yield from flags.marked_problems(folder, rule)


def rule_of(task: str, told: Mapping[str, Any]) -> Rule | None:
    """What gives the marks of a task's row; None for files of which all is measured. `told`: the task's identity."""
    return _translations(told) if task == "translation" else RULES.get(task)


def _asked(rule: Rule, **unasked: object) -> Rule:
    """Of a sampled answer; a question that was too long to be asked has no reply and is wrong."""
    left_out = {"correct": 0.0, "outcome": TOO_LONG, **unasked}
    return lambda row: left_out if row["stop"] == TOO_LONG and not row["reply"] else rule(row)


def _truth(row: Row) -> Marks:
    """Of a row of TruthfulQA, by its mode."""
    if row["mode"] == "choice":
        return marks.best_first(row)
    return _FREE(row) if row["mode"] == "free" else marks.chosen(row)


def _mapped(row: Row) -> Marks:
    """Of a free answer; an empty one maps to no option."""
    second = {"mc2_correct": float(row["mc2_choice"] in row["mc2_right"])}
    nothing = {} if row["reply"].strip() else {"choice": None, "mc2_choice": None}
    return marks.chosen(row) | second | nothing | {"declined": declines(row["reply"])}


_FREE = _asked(_mapped, mc2_correct=0.0, declined=False)


def _overlap(row: Row) -> Marks:
    """Of a question looked for in what was learnt: hit where some source has it; one not looked for can't be."""
    return {"hit": bool(row["where"]) and row["checked"], "checked": bool(row["checked"])}


def _translations(told: Mapping[str, Any]) -> Rule:
    """Counts of BLEU by the tokenizers of the identity, where these are at hand, and of chrF."""
    scorers = {group: at_hand(str(name)) for group, name in (told.get("tokenizers") or {}).items()}
    answered = _asked(marks.translated)
    return lambda row: (
        answered(row) | sentence_counts(scorers.get(row["group"]), row["reply"], row["reference"])
    )


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("mmlu_plain", "arc", "race", "quality", "bbq"), marks.likeliest),
    "gsm8k": _asked(marks.number_read),
    "mmlu": _asked(marks.letter_read),
    "triviaqa": _asked(marks.alias_read),
    "recall": _asked(marks.words_found),
    "humaneval": _asked(marks.program_ran),
    "truthfulqa": _truth,
    "winogender": marks.pronouns,
    "occupations": marks.log_ratio,
    "decisions": marks.yes,
    "contamination": _overlap,
}
