"""All problems of a YAML text against its model, each with its line, for pages where people edit one.

Anchors and aliases are refused: a few of them can spell gigabytes. So is anything nested deeper than `DEEPEST`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from pydantic import ValidationError

from charter.ground.settings.notation import check_size, read_yaml
from charter.ground.settings.problems import UNKNOWN, Model, problem_words, suggest_key

DEEPEST = 20
LARGEST = 20_000  # keys and values of a text
MOST = 50  # problems
NOT_YAML = (yaml.YAMLError, RecursionError)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and the line where it is, from 1; 0 for the whole text."""

    line: int
    words: str


def read_placed(text: str, model: type[Model]) -> tuple[Model | None, list[Problem]]:
    """A YAML text as `model`, or None with its problems in the order of their lines."""
    try:
        check_size(text, DEEPEST, LARGEST, aliases=False)
        raw, root = read_yaml(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return None, [Problem(mark.line + 1 if mark else 0, f"not valid YAML: {error.problem}")]
    except NOT_YAML as error:
        words = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return None, [Problem(0, f"not valid YAML: {' '.join(words.split())[:300]}")]
    if not isinstance(raw, dict):
        return None, [Problem(1, f"expected a mapping with {', '.join(model.model_fields)}")]
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [
            Problem(_line_of(root, detail["loc"]), _words(model, detail["loc"], problem_words(detail), detail["type"]))
            for detail in details
        ]
        return None, sorted(dict.fromkeys(problems), key=lambda placed: placed.line)[:MOST]


def _words(model: type[Model], place: Sequence[int | str], words: str, kind: str) -> str:
    name = ".".join(str(part) for part in place)
    if kind == UNKNOWN:
        return f"unknown key {name}; {suggest_key(model, place)}"
    if kind == "missing":
        return f"{name} is missing"
    return f"{name}: {words}" if name else words


def _line_of(node: yaml.Node | None, place: Sequence[int | str]) -> int:
    """The line of the deepest part of a place that the text has."""
    line = node.start_mark.line + 1 if node is not None else 0
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
