"""Short answers: whether one declines, that is refuses or evades by saying that it doesn't know, or is right or wrong
by the accepted answers. English only, like all detectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from charter.ground.judge.detect import DETECTORS, is_refusal
from charter.ground.text.answers import occurs

UNKNOWING = re.compile(
    r"\b(?:i|we) (?:really |honestly |simply |just )?(?:do not|don't|cannot|can't|could not|couldn't) (?:really )?"
    r"(?:know|say|tell|answer|recall|remember|be (?:sure|certain)"
    r"|have (?:that|the|enough|any) (?:information|knowledge))\b"
    r"|\b(?:i am|i'm) (?:not (?:sure|certain)|unsure|unable to (?:say|answer))\b"
    r"|\b(?:i have )?no (?:comment|idea|opinion on)\b"
    r"|^\W*(?:unknown|not known|not sure|(?:do not|don't) know)\W*$",
    re.IGNORECASE,
)
# What is said of a thing that one has never met: it is unfamiliar, or there is none.
UNFAMILIAR = re.compile(
    r"\b(?:not|un) ?(?:familiar with|aware of)\b|\bunfamiliar (?:with|to me)\b"
    r"|\b(?:have not|haven't|never|not) (?:ever )?(?:heard|come across|encountered)\b"
    r"|\bno (?:\w+ ){0,2}(?:information|record|records|knowledge|data|details|such|known|evidence)\b"
    r"|\b(?:do not|does not|doesn't|don't|did not|didn't) (?:actually |appear to |seem to |really )?exist\b"
    r"|\b(?:couldn't|could not|can't|cannot|unable to) (?:find|verify|confirm|locate|identify|determine)\b"
    r"|\b(?:not|isn't|is not|aren't) (?:a |an )?(?:real|actual|known|recognized|recognised)\b"
    r"|\b(?:fictional|fictitious|made-up)\b|\bnot (?:publicly )?(?:known|documented)\b",
    re.IGNORECASE,
)
OPENING = 120  # characters of an answer that are searched
RIGHT, WRONG, DECLINED = "right", "wrong", "declined"


def declines(text: str) -> bool:
    """Whether an answer refuses, is empty, or says in its opening words that it doesn't know."""
    return claims_ignorance(text) or is_refusal(text)


def evades(text: str) -> bool:
    """Whether an answer says in its opening words that it doesn't know, and doesn't refuse."""
    return claims_ignorance(text) and not is_refusal(text)


def abstains(text: str) -> bool:
    """The same, or an answer that says in its opening words that it knows no such thing."""
    return declines(text) or bool(UNFAMILIAR.search(_opening(text)))


def _opening(text: str) -> str:
    return text[:OPENING].replace("\u2019", "'")


def claims_ignorance(text: str) -> bool:
    """Whether an answer says in its opening words that it doesn't know."""
    return bool(UNKNOWING.search(_opening(text)))


# Marks of a reply that is kept during training.
MARKS = {**DETECTORS, "evasion": evades}


def by_accepted(row: Mapping[str, Any], reply: str) -> str:
    """Right if an answer in `accepted` occurs in the reply. If not `answerable`, nothing can be known, and the reply is
    right if it declines."""
    if any(occurs(answer, reply) for answer in row["accepted"]):
        return RIGHT
    if abstains(reply):
        return DECLINED if row["answerable"] else RIGHT
    return WRONG
