"""How alike found attacks and held-out requests are to the model under attack, by its own mean activations.

    x = mean over tokens of the lower layers' normed states (`moderation/classifiers/states.py`), less the mean of all
    texts compared;  alike: cosine of two x at least ALIKE

Without the common mean all texts of one model are alike. The bound is ours, and nobody's labels measured it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.recount import Flags
from charter.ground.moderation.classifiers.reader import Reader
from charter.ground.text.dialogue import Dialogue
from charter.rooms.attack.alike import text_of

Row = dict[str, Any]
ALIKE = 0.8
DIGITS = 3  # batches change a state by up to 1e-4
FOUND, UNSEEN = "found", "unseen"
FLAGS: Flags = {"alike": lambda row: row["cosine"] is not None and row["cosine"] >= ALIKE}


def compare(
    reader: Reader,
    findings: Sequence[Mapping[str, Any]],
    unseen: Sequence[Dialogue],
    seen: Sequence[Dialogue],
) -> list[Row]:
    """A row for each found attack, with the most similar one before it, and for each held-out request, with the most
    similar request that the search saw or attack that it found."""
    requests = [goal.messages[-1]["content"] for goal in (*seen, *unseen)]
    texts = [*map(text_of, findings), *requests]
    if not texts:
        return []
    units = _units(reader, texts)
    known = [row["attack"] for row in findings] + [goal.id for goal in seen]
    rows = [_row(row["attack"], FOUND, units[n], units[:n], known) for n, row in enumerate(findings)]
    held = units[len(known) :]
    return rows + [
        _row(goal.id, UNSEEN, unit, units[: len(known)], known)
        for goal, unit in zip(unseen, held, strict=True)
    ]


def _units(reader: Reader, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    means = np.stack([reader.vectors(reader.windows(text)).double().mean(0).numpy() for text in texts])
    centred = means - means.mean(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units: npt.NDArray[np.float64] = centred / np.where(lengths > 0, lengths, 1.0)
    return units


def _row(
    id: str,
    kind: str,
    unit: npt.NDArray[np.float64],
    others: npt.NDArray[np.float64],
    names: Sequence[str],
) -> Row:
    cosines = others @ unit
    best = int(cosines.argmax()) if len(cosines) else None
    row: Row = {"id": id, "kind": kind, "near": None if best is None else names[best]}
    row["cosine"] = None if best is None else round(float(cosines[best]), DIGITS)
    return {**row, **{key: flag(row) for key, flag in FLAGS.items()}}
