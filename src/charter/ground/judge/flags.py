"""Flags of kept rows worked out again: replies are looked at by the detectors, scores are compared.

Only sampling anew goes behind replies and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.recount import Flags, Row, flag_problems
from charter.ground.judge.detect import DETECTORS, learnt_from
from charter.ground.judge.fitness import HELPFUL_PAIRS
from charter.ground.judge.marks import alias_told, facts_recalled
from charter.ground.measure.debias import DEBIAS
from charter.ground.measure.facts import FACTS, QUIZ
from charter.ground.measure.metrics import HARM, HELP, HHH, LABELS, LOOK, PAIRS
from charter.ground.measure.score import points, ranked_right
from charter.ground.measure.selection import SELECTED


def _detected(detect: Callable[[str], bool]) -> Callable[[Row], object]:
    return lambda row: detect(row["reply"])


def _ranked(row: Row) -> float:
    return ranked_right(row["p_chosen"], row["chosen_score"], row["rejected_score"])


def _gain(row: Row) -> float | None:
    return None if row["score"] is None else row["score"] - row["mean"]


REPLIES: Flags = {name: _detected(d) for name, d in DETECTORS.items()}
TRIPLES: Flags = {
    "fixed_above_harmful": lambda row: row["fixed"] > row["harmful"],
    "good_above_fixed": lambda row: row["good"] > row["fixed"],
}
# File of kept rows -> flag -> what gives it, from the row alone.
FLAGS: Mapping[str, Flags] = {
    HARM: REPLIES,
    LOOK: REPLIES,
    HELP: REPLIES,
    FACTS: {
        **REPLIES,
        "recalled": lambda row: facts_recalled(row)["recalled"],
        "all_recalled": lambda row: facts_recalled(row)["all_recalled"],
    },
    QUIZ: {**REPLIES, "correct": lambda row: alias_told(row)["correct"]},
    "fitness.jsonl": TRIPLES,
    "fitness_reward.jsonl": TRIPLES,
    PAIRS: {"correct": _ranked},
    HELPFUL_PAIRS: {"correct": _ranked},
    HHH: {"correct": lambda row: points(row["p_correct"], 0.5 if row["mode"] == "policy" else 0.0)},
    LABELS: {"correct": lambda row: points(row["p_correct"], 0.5)},
    DEBIAS: {"kept": lambda row: row["choice"] == row["answer"]},
    SELECTED: {"served": lambda row: row["kept"] > 0, "gain": _gain},
}


class Rule(NamedTuple):
    """What gives the flags of a row, and the examples that the detectors had learnt from, None if none matter."""

    flags: Callable[[Row], Row]
    learnt: object = None


def flags_of(file: str) -> Callable[[Row], Row]:
    """What gives the flags of a file's rows; none of a file without flags."""
    flags = FLAGS.get(file, {})
    return lambda row: {key: flag(row) for key, flag in flags.items()}


def flag_rule(told: Mapping[str, Any]) -> Callable[[str], Rule | None]:
    """The rules of the files in FLAGS. `told`: the identity of their report, which names what detectors learnt from."""

    def rule(file: str) -> Rule | None:
        flags = FLAGS.get(file, {})
        detecting = flags.keys() >= REPLIES.keys()
        return Rule(flags_of(file), told.get("detectors") if detecting else None) if flags else None

    return rule


def marked_problems(folder: Path, rule_of: Callable[[str], Rule | None]) -> Iterator[str]:
    """A line for each flag in an artifact's samples that doesn't follow from its row. `rule_of`: what gives the flags
    of a file, None where it has none."""
    others = []
    for path in sorted((folder / "samples").glob("*.jsonl")):
        rule = rule_of(path.name)
        if rule is None:
            continue
        if rule.learnt is not None and rule.learnt != learnt_from():
            others.append(path.name)
        else:
            yield from flag_problems(path.name, read_objects(path), rule.flags)
    if others:
        yield (
            f"detectors that learnt from other examples marked {', '.join(others)}; verify it with the charter that "
            "made it"
        )
