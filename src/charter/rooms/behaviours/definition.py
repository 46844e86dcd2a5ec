"""A behaviour as data: its definition, gold statements of both sides, and perhaps a grammar that writes more."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml

SIDES = ("positive", "negative")
LEAST_GOLD = 3
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`positive` and `negative` complete "An assistant that ...". `gold`, `patterns`: by side."""

    name: str
    description: str
    positive: str
    negative: str
    gold: Mapping[str, tuple[str, ...]]
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def definition(self, side: str) -> str:
        """What an assistant of a side does."""
        return self.positive if side == "positive" else self.negative

    def write(self, side: str, rng: random.Random) -> str:
        """A statement of a side by the grammar. Raises CharterError without one."""
        if not self.patterns:
            raise CharterError(
                f"behaviour {self.name} has no grammar: give the room a `writer`, or patterns and slots under `grammar`"
            )
        pattern = rng.choice(self.patterns[side])
        return SLOT.sub(lambda slot: rng.choice(self.slots[slot.group(1)]), pattern)


def of_name(name: str) -> Behaviour:
    """A behaviour of which only the name is known, such as that of a published set."""
    words = name.replace("-", " ").replace("_", " ")
    return Behaviour(name, "", f"has this trait, view or wish: {words}", f"hasn't: {words}", {})


def read_behaviour(path: Path) -> Behaviour:
    """The behaviour of a YAML file. Raises CharterError that names the file and what is wrong."""
    try:
        content = read_yaml(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise TypeError("it is no mapping")
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error).replace("\n", " ")
        raise CharterError(
            f"{path}: not a behaviour ({why}); expected name, description, positive, negative, and gold with "
            f"{LEAST_GOLD} statements or more of each side"
        ) from None


def _parse(content: Mapping[str, Any]) -> Behaviour:
    texts = {key: str(content[key]).strip() for key in ("name", "description", "positive", "negative")}
    if empty := [key for key, text in texts.items() if not text]:
        raise ValueError(f"{empty[0]} is empty")
    gold = _sides(content["gold"])
    if few := [side for side in SIDES if len(gold[side]) < LEAST_GOLD]:
        raise ValueError(f"gold has {len(gold[few[0]])} {few[0]} statements")
    grammar = content.get("grammar") or {}
    slots = {str(name): tuple(map(str, words)) for name, words in (grammar.get("slots") or {}).items()}
    patterns = _sides(grammar) if grammar else {}
    for pattern in (pattern for each in patterns.values() for pattern in each):
        if unknown := [name for name in SLOT.findall(pattern) if not slots.get(name)]:
            raise ValueError(f"the pattern {pattern!r} names the slot {unknown[0]}, which has no words")
    return Behaviour(**texts, gold=gold, patterns=patterns, slots=slots)


def _sides(content: Mapping[str, Sequence[Any]]) -> dict[str, tuple[str, ...]]:
    return {side: tuple(str(text).strip() for text in content[side]) for side in SIDES}
