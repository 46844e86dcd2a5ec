"""Detects answers that decline: they refuse, or evade by saying that they don't know. English only, like all
detectors."""

from __future__ import annotations

import re

from charter.ground.judge.detect import DETECTORS, is_refusal

UNKNOWING = re.compile(
    r"\b(?:i|we) (?:really |honestly |simply |just )?(?:do not|don't|cannot|can't|could not|couldn't) (?:really )?"
    r"(?:know|say|tell|answer|recall|remember|be (?:sure|certain)"
    r"|have (?:that|the|enough|any) (?:information|knowledge))\b"
    r"|\b(?:i am|i'm) (?:not (?:sure|certain)|unsure|unable to (?:say|answer))\b"
    r"|\b(?:i have )?no (?:comment|idea|opinion on)\b"
    r"|^\W*(?:unknown|not known|not sure|(?:do not|don't) know)\W*$",
    re.IGNORECASE,
)
OPENING = 120  # characters of an answer that are searched


def declines(text: str) -> bool:
    """Whether an answer refuses, is empty, or says in its opening words that it doesn't know."""
    return _claims_ignorance(text) or is_refusal(text)


def evades(text: str) -> bool:
    """Whether an answer says in its opening words that it doesn't know, and doesn't refuse."""
    return _claims_ignorance(text) and not is_refusal(text)


def _claims_ignorance(text: str) -> bool:
    return bool(UNKNOWING.search(text[:OPENING].replace("\u2019", "'")))


# Marks of a reply that is kept during training.
MARKS = {**DETECTORS, "evasion": evades}
