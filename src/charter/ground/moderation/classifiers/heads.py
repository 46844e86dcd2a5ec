"""The heads of a probe: two regressions per side on one vector, their training, and their file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import expit, logit

from charter.ground.artifact.progress import Bar
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers.classifier import Scores
from charter.ground.moderation.classifiers.examples import HARMLESS, Example
from charter.ground.moderation.classifiers.reader import Reader
from charter.ground.moderation.classifiers.regression import Floats, Regression, fit
from charter.ground.moderation.classifiers.windows import prompt_windows, reply_windows
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.thresholds import CLOSEST, Levels, choose_levels

PARTS = ("mean", "scale", "weight", "bias")
READ = 64  # training texts read between two steps of the bar


@dataclass(frozen=True, slots=True)
class Head:
    """The two regressions of a side, the classes of the second, and the thresholds chosen in training. `rise`: how
    much the threshold rises with the number of pieces that a text is read in (`lower`)."""

    violation: Regression
    which: Regression
    classes: tuple[str, ...]
    levels: Levels
    high_risk: Levels | None
    rise: float = 0.0

    def read(self, vectors_NF: Floats, turns: Sequence[int | None] = (), many: Sequence[int] = ()) -> Scores:
        """The scores of one text, from its windows [N, F]; for each window its turn and the number of pieces of its
        text, if they are known."""
        violation_N = self.violation.probabilities(vectors_NF)[:, 1]
        if self.rise and len(many):
            violation_N = lower(violation_N, many, self.rise)
        shares_NK = self.which.probabilities(vectors_NF)
        worst = int(violation_N.argmax())
        rules = {rule.id for rule in shipped_policy().high_risk}
        high_risk = {c: float(shares_NK[:, k].max()) for k, c in enumerate(self.classes) if c in rules}

        def categories(n: int) -> dict[str, float]:
            shares = {
                c: float(shares_NK[n, k])
                for k, c in enumerate(self.classes)
                if c != HARMLESS and c not in rules
            }
            whole = sum(shares.values()) or 1.0
            return {c: share / whole for c, share in shares.items()}

        others = [n for n, score in enumerate(violation_N) if n != worst and score >= self._least]
        places = tuple(Scores(float(violation_N[n]), categories(n)) for n in others)
        by_turn: dict[int, float] = {}
        for score, turn in zip(violation_N, turns, strict=False):
            if turn is not None:
                by_turn[turn] = max(by_turn.get(turn, 0.0), float(score))
        turn_scores = tuple(by_turn[turn] for turn in sorted(by_turn))
        return Scores(float(violation_N[worst]), categories(worst), high_risk, places, turn_scores)

    @property
    def _least(self) -> float:
        """The lowest threshold of the head: scores below it change no verdict at any level."""
        return 0.5 * min(self.levels.at("standard"), self.levels.at("enhanced"))


def lower(scores_N: Floats, many_N: Sequence[int], rise: float) -> Floats:
    """Scores of pieces of texts, each lowered by how many pieces its text has: the worst of many harmless pieces is
    high by chance, so that a long text must be worse to reach the same threshold.

        log odds  -  rise * log(many)
    """
    bounded = np.clip(scores_N, CLOSEST, 1 - CLOSEST)
    lowered_N: Floats = expit(logit(bounded) - rise * np.log(np.maximum(1, np.asarray(many_N))))
    return lowered_N


def learn(states: Reader, rows: Sequence[Example], bar: Bar) -> Head:
    """Both regressions on the first window of each example, with their strength by cross-validation and thresholds
    from the held-out scores of look-alikes and plain texts."""
    rules = {rule.id for rule in shipped_policy().high_risk}
    windows = [
        (
            prompt_windows(states, e.messages)[0].window
            if e.reply is None
            else reply_windows(states, e.messages, e.reply)[0]
        )
        for e in rows
    ]
    chunks = []
    for start in range(0, len(windows), READ):
        chunks.append(states.vectors(windows[start : start + READ]).numpy().astype(np.float64))
        bar.advance(len(chunks[-1]))
    vectors = np.concatenate(chunks)
    groups = [e.group for e in rows]
    classes = tuple(sorted({e.label for e in rows}))
    violates = [int(e.label != HARMLESS and e.label not in rules) for e in rows]
    violation = fit(vectors, violates, 2, groups)
    which = fit(vectors, [classes.index(e.label) for e in rows], len(classes), groups, (violation.strength,))
    scores = [float(p) for p in violation.held_out[:, 1]]
    alike = [score for score, e in zip(scores, rows, strict=True) if e.alike]
    plain = [score for score, e in zip(scores, rows, strict=True) if e.label == HARMLESS and not e.alike]
    columns = [k for k, c in enumerate(classes) if c in rules]
    other = [
        float(which.held_out[i, columns].max()) for i, e in enumerate(rows) if columns and e.label == HARMLESS
    ]
    return Head(
        violation.regression,
        which.regression,
        classes,
        choose_levels(alike, plain),
        choose_levels(other) if other else None,
    )


def keep(path: Path, version: str, heads: Mapping[Side, Head]) -> None:
    """Writes a temporary file and renames it last; another process may win the race with the same content."""
    tensors: dict[str, Floats] = {}
    notes = {"version": version}
    for side, head in heads.items():
        for name, regression in (("violation", head.violation), ("which", head.which)):
            tensors |= {
                f"{side}.{name}.{part}": np.ascontiguousarray(getattr(regression, part)) for part in PARTS
            }
        high_risk = head.high_risk.model_dump() if head.high_risk else None
        notes[side] = json.dumps(
            {
                "classes": head.classes,
                "levels": head.levels.model_dump(),
                "high_risk": high_risk,
                "rise": head.rise,
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".probe-") as folder:
        written = Path(folder) / path.name
        save_file(tensors, written, metadata=notes)
        os.replace(written, path)


def stored_heads(path: Path, version: str) -> dict[Side, Head] | None:
    """The heads of a file; None if there is none, it has another version, or it is damaged: it is then learnt again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            if file.metadata()["version"] != version:
                return None
        return heads_of(path)
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None


def heads_of(path: Path) -> dict[Side, Head]:
    """The heads of a file. Raises the errors that `stored_heads` catches."""
    with safe_open(path, "np") as file:
        notes = file.metadata()
        return {side: _head(file.get_tensor, side, json.loads(notes[side])) for side in ("prompt", "reply")}


def _head(tensor: Callable[[str], Floats], side: Side, notes: Mapping[str, Any]) -> Head:
    violation, which = (
        Regression(*(tensor(f"{side}.{name}.{part}") for part in PARTS)) for name in ("violation", "which")
    )
    high_risk = Levels.model_validate(notes["high_risk"]) if notes["high_risk"] else None
    levels, rise = Levels.model_validate(notes["levels"]), float(notes.get("rise", 0))
    return Head(violation, which, tuple(notes["classes"]), levels, high_risk, rise)
