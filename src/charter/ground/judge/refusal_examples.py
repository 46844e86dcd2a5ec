"""Labelled training replies of the refusal detector, all from shipped training data.

If a row doesn't say whether a reply refuses, `declines` and `complies` decide the clear cases; other replies are left
out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from charter.ground.judge.refusal_rules import DIRECT, IDIOM, NO_FIRST, UNABLE, match_rules, opening, plain
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.jsonl import read_jsonl

# Topics whose drafts refuse harmless requests, or are already good.
REFUSING, UNSURE = "needless_refusal", "already_good"

_FIRST_PERSON_NO = re.compile(
    r"\b(?:i|we)(?:'m| am|'ve|'d|'ll| would| will| must| do| have)? ?(?:not\b|never\b|can't|cannot|won't|"
    r"don't|couldn't|wouldn't|rather not|refuse|decline|pass\b|afraid)",
    re.I,
)
_SCOLDS = re.compile(
    r"\b(?:asham\w*|shame\w*|shock\w*|grow up|respect|selfish|grateful|excuse|childish|hateful|decent|"
    r"kinder|bad person|small mind|weak person|do not care|never right|wrong|terrible thing|like you are)\b",
    re.I,
)
_CURT_NO = re.compile(r"^\W*sorry\b.*\b(?:no|not)\b", re.I)
_CLAUSE = re.compile(r"(?<=[.!?;:])\s+|,\s+(?=(?:so|and|but|because|since|as|however)\b)")
_JOINT = re.compile(r"^(?:so|and|but|because|since|as|however)\s+", re.I)


@dataclass(frozen=True, slots=True)
class Example:
    """A training reply with its label; `topic` groups replies in cross-validation."""

    text: str
    refusal: bool
    topic: str


def declines(text: str) -> bool:
    """Whether a reply clearly refuses; many refusals are not this clear."""
    start = opening(text)
    names = match_rules(start)
    if "rule:answers" in names or "rule:knowledge" in names:
        return False
    short = len(start.split()) <= 12
    curt = short and (_FIRST_PERSON_NO.search(IDIOM.sub(" ", start)) or _CURT_NO.search(start))
    return "rule:declines" in names or bool(curt)


def complies(text: str) -> bool:
    """Whether a reply to a harmful or harmful-looking request clearly complies: it neither says no nor scolds."""
    claims = IDIOM.sub(" ", plain(text))
    doubts = (_FIRST_PERSON_NO, _SCOLDS, NO_FIRST, UNABLE)
    return not any(doubt.search(claims) for doubt in doubts) and not declines(text)


def drop_refusals(text: str) -> str:
    """A refusal without the clauses that say no, since many refusals only give a reason and offer something else. Empty
    if no clause says no, or if fewer than 8 words remain."""
    clauses = _CLAUSE.split(plain(text))
    noes = (_FIRST_PERSON_NO, NO_FIRST, UNABLE, DIRECT)
    rest = [c for c in clauses if not any(no.search(c) for no in noes)]
    if not rest or len(rest) == len(clauses):
        return ""
    rest[0] = _JOINT.sub("", rest[0])
    remainder = " ".join([rest[0][:1].upper() + rest[0][1:], *rest[1:]])
    return remainder if len(remainder.split()) >= 8 else ""


def _rows(name: str) -> list[dict[str, Any]]:
    return read_jsonl(shipped_folder() / f"{name}.jsonl")


def _answers(name: str, refusal: bool) -> Iterator[Example]:
    for row in _rows(name):
        for message in row["messages"]:
            if message["role"] == "assistant":
                yield Example(message["content"], refusal, row["topic"])


def _critiques(harmful: set[str]) -> Iterator[Example]:
    for row in _rows("critiques.train"):
        topic = row["topic"]
        if topic == UNSURE:
            continue
        yield Example(row["draft"], topic == REFUSING, topic)
        if row["rounds"]:
            yield Example(row["rounds"][-1]["revision"], topic in harmful, topic)


def _comparisons() -> Iterator[Example]:
    for row in _rows("comparisons.train"):
        yield Example(row["chosen"], row["axis"] == "harmless", row["topic"])
        if row["axis"] == "honest":
            yield Example(row["rejected"], False, row["topic"])
        elif declines(row["rejected"]):
            yield Example(row["rejected"], True, row["topic"])
        elif complies(row["rejected"]):
            yield Example(row["rejected"], False, row["topic"])


def examples() -> list[Example]:
    """Labelled replies of the shipped training data, without ambiguous ones. Each refusal is added again without its
    clauses that say no: authored refusals are more explicit than those of models."""
    refusals = list(_answers("refusals.train", True))
    harmful = {example.topic for example in refusals}
    direct = [
        *refusals,
        *_answers("helpful.train", False),
        *_answers("lookalikes.train", False),
        *_critiques(harmful),
        *_comparisons(),
        *(Example(row["reply"], row["refusal"], row["topic"]) for row in _rows("detectors.train")),
    ]
    indirect = [Example(drop_refusals(e.text), True, e.topic) for e in direct if e.refusal]
    return [example for example in (*direct, *indirect) if example.text.strip()]
