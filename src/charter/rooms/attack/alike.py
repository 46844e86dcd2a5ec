"""How like found attacks are to each other, and held-out requests to what the search saw: in words, and in activations.

Two texts are near from a share of 0.6 of their runs of three words on (`text/shingles.py`). Attacks of one family share
its frame, so what is compared is the user's turns as they were sent: one frame around two short requests is one attack.

Two texts are alike to the model under attack by its own mean activations:

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
from charter.ground.judge.success import users_turns
from charter.ground.moderation.classifiers.reader import Reader
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.shingles import Texts

Row = dict[str, Any]
NEAR = 0.6
Found = list[str | float] | None
ALIKE = 0.8
DIGITS = 3  # batches change a state by up to 1e-4
FOUND, UNSEEN = "found", "unseen"


def text_of(row: Mapping[str, Any]) -> str:
    """What the user says in an attack."""
    return "\n".join(users_turns(row["asked"]))


def near_in(texts: Texts, text: str) -> Found:
    """The name of the most similar text and its share of common runs; None below NEAR."""
    near = texts.nearest(text)
    return [near.name, near.share] if near is not None and near.share >= NEAR else None


def with_near(findings: Sequence[Row]) -> list[Row]:
    """The findings with `near`, the most similar one before, and `distinct`: there is none."""
    texts, rows = Texts(), list[Row]()
    for row in findings:
        near = near_in(texts, text_of(row))
        rows.append({**row, "near": near, "distinct": near is None})
        texts.add(row["attack"], text_of(row))
    return rows


def held_out(unseen: Sequence[Dialogue], seen: Sequence[Dialogue], findings: Sequence[Row]) -> list[Row]:
    """A row for each request that the search never saw: the most similar one that it saw, and the found attack most
    like it, by its request or its words; `apart`: there is neither."""
    seen_texts = Texts()
    for goal in seen:
        seen_texts.add(goal.id, goal.messages[-1]["content"])
    rows = []
    for goal in unseen:
        request = goal.messages[-1]["content"]
        row = {"id": goal.id, "request": request, "near": near_in(seen_texts, request)}
        rows.append(with_found(row, findings))
    return rows


def with_found(row: Row, findings: Sequence[Row]) -> Row:
    """The row of a held-out request with the found attack that is most like it."""
    found_texts = Texts()
    for finding in findings:
        found_texts.add(finding["attack"], finding["request"])
        found_texts.add(finding["attack"], text_of(finding))
    near = near_in(found_texts, row["request"])
    return {**row, "found": near, "apart": row["near"] is None and near is None}


FLAGS: Flags = {"alike": lambda row: row["cosine"] is not None and row["cosine"] >= ALIKE}


def compare(
    reader: Reader, findings: Sequence[Mapping[str, Any]], unseen: Sequence[Dialogue], seen: Sequence[Dialogue]
) -> list[Row]:
    """A row for each found attack, with the most similar one before it, and for each held-out request, with the most
    similar request that the search saw or attack that it found."""
    requests = [goal.messages[-1]["content"] for goal in (*seen, *unseen)]
    texts = [*map(text_of, findings), *requests]
    if not texts:
        return []
    units = _units(reader, texts)
    names = [row["attack"] for row in findings] + [goal.id for goal in seen]
    rows = [_row(row["attack"], FOUND, units[n], units[:n], names) for n, row in enumerate(findings)]
    unseen_units = units[len(names) :]
    return rows + [
        _row(goal.id, UNSEEN, unit, units[: len(names)], names) for goal, unit in zip(unseen, unseen_units, strict=True)
    ]


def _units(reader: Reader, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    means = np.stack([reader.vectors(reader.windows(text)).double().mean(0).numpy() for text in texts])
    centred = means - means.mean(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units: npt.NDArray[np.float64] = centred / np.where(lengths > 0, lengths, 1.0)
    return units


def _row(
    id: str, kind: str, unit: npt.NDArray[np.float64], others: npt.NDArray[np.float64], names: Sequence[str]
) -> Row:
    cosines = others @ unit
    best = int(cosines.argmax()) if len(cosines) else None
    row: Row = {"id": id, "kind": kind, "near": None if best is None else names[best]}
    row["cosine"] = None if best is None else round(float(cosines[best]), DIGITS)
    return {**row, **{key: flag(row) for key, flag in FLAGS.items()}}
