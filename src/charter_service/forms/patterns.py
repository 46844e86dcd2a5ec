"""Validators of JSON Schema that end: patterns are matched within a bounded time, and a document takes a bounded
number of steps.

Schemas come from strangers. On a pattern such as `(a+)+b` a backtracking matcher runs for years, and
references that double at every level make 2^n steps of n lines. Python's own `re` can't be interrupted, so `regex`
matches here, which reads the same patterns and more of ECMA-262.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import regex
from jsonschema import validators
from jsonschema.exceptions import ValidationError

from charter.ground.artifact.errors import CharterError

MATCH_SECONDS = 0.1  # for all patterns of one document: everybody's replies wait meanwhile
MOST_STEPS = 50_000  # keywords checked for one document

_CLASSES = {r"\d": "0-9", r"\w": "A-Za-z0-9_"}
_Rule = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class Steps:
    """Counts the steps of one validator and the time of its patterns; reset before every document."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new document."""
        self._left, self._seconds = MOST_STEPS, MATCH_SECONDS

    def match(self, pattern: str, text: str) -> bool:
        """As `matches`, within the document's remaining time."""
        began = time.monotonic()
        try:
            return matches(pattern, text, self._seconds)
        finally:
            self._seconds = max(0.0, self._seconds - (time.monotonic() - began))

    def count(self, rule: _Rule) -> _Rule:
        """The rule with a counter. It raises CharterError if a document takes too many steps."""

        def count_step(
            validator: Any, value: Any, instance: Any, schema: Any
        ) -> Iterator[ValidationError] | None:
            self._left -= 1
            if self._left < 0:
                raise CharterError(
                    f"the schema takes more than {MOST_STEPS:,} steps for one document; simplify its references"
                )
            return rule(validator, value, instance, schema)

        return count_step


def matches(pattern: str, text: str, seconds: float = MATCH_SECONDS) -> bool:
    """Whether a text contains a match. Raises CharterError if that takes too long or the pattern is malformed."""
    try:
        return _compile(pattern).search(text, timeout=seconds, concurrent=True) is not None
    except TimeoutError:
        raise CharterError(
            f"the pattern {pattern[:100]!r} takes more than {MATCH_SECONDS} seconds, alone or with others, on a text "
            f"of {len(text):,} characters; write it without nested repetitions"
        ) from None
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise CharterError(f"the pattern {pattern[:100]!r} can't be read: {error}") from None


def bound_work(kind: Any, steps: Steps) -> Any:
    """A class of validators like `kind` with bounded work."""
    bounded_rules = _rules(steps.match)
    if "additionalProperties" not in kind.VALIDATORS:
        del bounded_rules["additionalProperties"]
    rules = {name: steps.count(bounded_rules.get(name, rule)) for name, rule in kind.VALIDATORS.items()}
    return validators.extend(kind, rules)


@lru_cache(maxsize=512)
def _compile(pattern: str) -> Any:
    return regex.compile(_in_ascii(pattern))


def _in_ascii(pattern: str) -> str:
    r"""A pattern whose \d and \w take ASCII only, as ECMA-262 has them and as the grammar of a schema does."""
    pieces, in_set, at = list[str](), False, 0
    while at < len(pattern):
        part = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        if part in _CLASSES:
            pieces.append(_CLASSES[part] if in_set else f"[{_CLASSES[part]}]")
        else:
            in_set = part == "[" or (in_set and part != "]")
            pieces.append(part)
        at += len(part)
    return "".join(pieces)


def _rules(match: Callable[[str, str], bool]) -> dict[str, _Rule]:
    """The keywords that match texts or names against patterns."""

    def pattern(validator: Any, expected: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if validator.is_type(instance, "string") and not match(expected, instance):
            yield ValidationError(f"{instance!r} does not match {expected!r}")

    def pattern_properties(
        validator: Any, parts: Mapping[str, Any], instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        if validator.is_type(instance, "object"):
            for expected, part in parts.items():
                for key, value in instance.items():
                    if match(expected, key):
                        yield from validator.descend(value, part, path=key, schema_path=expected)

    def others(validator: Any, part: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        """Properties that neither `properties` nor `patternProperties` names."""
        if not validator.is_type(instance, "object"):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key, value in instance.items():
            if key not in known and not any(match(expected, key) for expected in patterns):
                yield from validator.descend(value, part, path=key)

    return {"pattern": pattern, "patternProperties": pattern_properties, "additionalProperties": others}
