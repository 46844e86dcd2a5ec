"""A small declarative language for answering lines of text, which agents write and `run` interprets.

A rule a line: PATTERN => ANSWER. Words in braces stand for one word each: pay {sum} to {who} => {who} gets {sum}.
`{name...}` takes the rest. The first rule whose pattern fits the whole line answers. Lines with # are comments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from charter.ground.world.state import Refused

SLOT = re.compile(r"\{([a-z]+)(\.\.\.)?\}")
LONGEST = 500  # characters of a rule
Rule = tuple[tuple[str, ...], str]


def rules_of(text: str) -> list[Rule]:
    """The rules of a program. Raises Refused with the line's number for what is no rule."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pattern, arrow, answer = line.partition("=>")
        words = tuple(pattern.split())
        slots = {match[1] for word in words if (match := SLOT.fullmatch(word))}
        if not arrow or not words or len(line) > LONGEST:
            raise Refused(f"line {number}: expected PATTERN => ANSWER")
        if {match[1] for match in SLOT.finditer(answer)} - slots:
            raise Refused(f"line {number}: the answer has a slot that the pattern lacks")
        rules.append((words, answer.strip()))
    if not rules:
        raise Refused("the program has no rule")
    return rules


def answer_of(rules: list[Rule], line: str) -> str | None:
    """What the first rule that fits answers, None if none does."""
    for pattern, answer in rules:
        values = _fitted(pattern, line.split())
        if values is not None:
            return _filled(answer, values)
    return None


def _filled(answer: str, values: Mapping[str, str]) -> str:
    return SLOT.sub(lambda match: values[match[1]], answer)


def _fitted(pattern: tuple[str, ...], words: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for at, expected in enumerate(pattern):
        match = SLOT.fullmatch(expected)
        if match and match[2]:
            values[match[1]] = " ".join(words[at:])
            return values if words[at:] else None
        if at >= len(words) or (not match and words[at] != expected):
            return None
        if match:
            values[match[1]] = words[at]
    return values if len(words) == len(pattern) else None
