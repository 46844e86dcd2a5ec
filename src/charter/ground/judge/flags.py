"""Recomputes the marks of kept rows: detectors read the replies again, scores are compared again.

Replies and scores themselves can be checked only by sampling again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.recount import Flags, Row, flag_problems
from charter.ground.judge.detect import training_digest
from charter.ground.measure.score import points, rank_accuracy

# For triples, held-out pairs, and choices whose p_correct is a probability.
TRIPLES: Flags = {
    "fixed_above_harmful": lambda row: row["fixed"] > row["harmful"],
    "good_above_fixed": lambda row: row["good"] > row["fixed"],
}
CHOSEN: Flags = {"correct": lambda row: points(row["p_correct"], 0.5)}


def _rank_accuracy(row: Row) -> float:
    return rank_accuracy(row["p_chosen"], row["chosen_score"], row["rejected_score"])


RANKED: Flags = {"correct": _rank_accuracy}


class Rule(NamedTuple):
    """A function from a row to its flags, and the digest of the detectors' training data (None if no detector is
    used)."""

    flags: Callable[[Row], Row]
    learnt: object = None


def flagger(flags: Flags) -> Callable[[Row], Row]:
    """A function from a row to its flags."""
    return lambda row: {key: flag(row) for key, flag in flags.items()}


def check_flags(folder: Path, files: Mapping[str, Flags]) -> Iterator[str]:
    """A line for each flag in an artifact's samples that doesn't follow from its row; `files`: flags by file name."""
    yield from check_marks(folder, lambda file: Rule(flagger(files[file])) if file in files else None)


def check_marks(folder: Path, rule_of: Callable[[str], Rule | None]) -> Iterator[str]:
    """A line for each flag in an artifact's samples that doesn't follow from its row. `rule_of`: the rule of a file,
    None if it has no flags."""
    stale = []
    for path in sorted((folder / "samples").glob("*.jsonl")):
        rule = rule_of(path.name)
        if rule is None:
            continue
        if rule.learnt is not None and rule.learnt != training_digest():
            stale.append(path.name)
        else:
            yield from flag_problems(path.name, read_objects(path), rule.flags)
    if stale:
        yield (
            f"detectors trained on other examples marked {', '.join(stale)}; verify it with the charter that made it"
        )
