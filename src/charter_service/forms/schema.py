"""JSON Schemas as data: walking their parts by JSON pointer, refusing malformed ones, and the judge of documents.

The judge is the jsonschema library. Numbers are read as decimals: in binary fractions 0.07 is not a multiple of 0.01
for `multipleOf`. Formats are annotations in the standard's vocabulary; still, if a schema asks for a date, the judge
refuses days that no calendar has.

Schemas come from strangers. On a pattern such as `(a+)+b` a backtracking matcher runs for years, and references that
double at every level make 2^n steps of n lines. So patterns are matched within a bounded time, and a document takes a
bounded number of steps. Python's own `re` can't be interrupted, so `regex` matches here, which reads the same patterns
and more of ECMA-262.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

import regex
from jsonschema import FormatChecker, validators
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from charter.ground.artifact.errors import CharterError, sound
from charter.ground.settings.problems import suggest

MATCH_SECONDS = 0.1  # for all patterns of one document: everybody's replies wait meanwhile
MOST_STEPS = 50_000  # keywords checked for one document

_CLASSES = {r"\d": "0-9", r"\w": "A-Za-z0-9_"}
_Rule = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
Schema = dict[str, Any]
_NESTED = (
    *("items", "additionalItems", "additionalProperties", "contains", "not", "if", "then", "else"),
    *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
)
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_DOCUMENTS = ("enum", "const", "default", "examples")  # their content is not a schema
_DATES = FormatChecker(formats=())
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
LONGEST = 100  # characters of input quoted in a message
_DIGITS = 600  # of decimal arithmetic: more than two numbers of the longest kind have together


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

        def count_step(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
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
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key, value in instance.items():
            if key not in properties and not any(match(expected, key) for expected in patterns):
                yield from validator.descend(value, part, path=key)

    return {"pattern": pattern, "patternProperties": pattern_properties, "additionalProperties": others}


def _in_calendar(value: object) -> bool:
    """Whether a text begins with a day that exists; True for other values, which are not dates."""
    if not isinstance(value, str):
        return True
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


for _name in ("date", "date-time"):
    _DATES.checks(_name)(_in_calendar)


def pointer(parent: str, *parts: str | int) -> str:
    """A JSON pointer below another; the root is the empty one, shown as '#'."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return parent + "".join(f"/{part}" for part in escaped)


def parts(schema: object, at: str = "#") -> Iterator[tuple[str, Schema]]:
    """Every subschema that is an object, with its pointer, outer ones first."""
    if not isinstance(schema, dict):
        return
    yield at, schema
    for key in _NESTED:
        yield from parts(schema.get(key), pointer(at, key))
    for key in _LISTED:
        if isinstance(nested := schema.get(key), list):
            for i, part in enumerate(nested):
                yield from parts(part, pointer(at, key, i))
    for key in _NAMED:
        if isinstance(nested := schema.get(key), dict):
            for name, part in nested.items():
                yield from parts(part, pointer(at, key, name))


def resolve(root: Schema, reference: str, at: str) -> tuple[str, Any]:
    """The target of a reference within the document, with its pointer. Raises CharterError for other references."""
    if reference != "#" and not reference.startswith("#/"):
        raise CharterError(
            f"the schema's $ref at {at} is {reference!r}; expected a reference within the schema, such as #/$defs/name"
        )
    target: Any = root
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
    if target is None:
        raise CharterError(f"the schema's $ref at {at} points to {reference}, which does not exist")
    return reference, target


def rebase(schema: Any, below: str) -> Any:
    """The schema with references to its own root changed to its future place `below`."""
    if isinstance(schema, list):
        return [rebase(part, below) for part in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: rebase(value, below) for key, value in schema.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and (target == "#" or target.startswith("#/")):
        copy["$ref"] = below + target[1:]
    return copy


def name_draft(schema: Schema) -> Schema:
    """The schema with its draft named if it can't be today's. Without `$schema` it is read as 2020-12, but with a
    list as `items`, or with `dependencies`, as draft 7, the last that had these."""
    old = any(isinstance(part.get("items"), list) or "dependencies" in part for _, part in parts(schema))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema} if old else schema


def check_schema(schema: object) -> None:
    """Raises CharterError, with the pointer of the fault, unless it is a JSON Schema of a known draft."""
    if not isinstance(schema, (dict, bool)):
        raise CharterError(f"a JSON Schema is an object or a boolean; got {type(schema).__name__}")
    _check_references(schema)
    if isinstance(schema, dict) and not isinstance(schema.get("$schema", ""), str):
        raise CharterError("$schema must be the name of a draft, as text")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        with sound("the JSON Schema can't be read"):
            kind.check_schema(schema)
    except SchemaError as error:
        at = pointer("#", *error.absolute_path)
        raise CharterError(f"the JSON Schema is malformed at {at}: {_fault(error)}") from None
    except RecursionError:
        raise CharterError("the JSON Schema is nested too deeply") from None


def _check_references(schema: object) -> None:
    """Raises CharterError for a dynamic reference that leaves the document; a `$ref` is resolved when it is
    followed. Searches everything that is not a document, also under names that no draft knows."""
    todo = [("#", schema)]
    while todo:
        at, part = todo.pop()
        if isinstance(part, list):
            todo += [(pointer(at, i), item) for i, item in enumerate(part)]
        elif isinstance(part, dict):
            for key in _DYNAMIC:
                if isinstance(to := part.get(key), str) and not to.startswith("#"):
                    raise CharterError(
                        f"the schema's {key} at {at} is {to[:LONGEST]!r}; expected a reference within the schema, "
                        "such as #name"
                    )
            todo += [(pointer(at, key), item) for key, item in part.items() if key not in _DOCUMENTS]


def _fault(error: SchemaError) -> str:
    """What is wrong with a part of a schema, and what was expected."""
    instance = error.instance
    if error.validator == "format" and error.validator_value == "regex":
        try:
            re.compile(instance)
        except re.error as broken:
            return f"the pattern {instance[:LONGEST]!r} breaks at character {(broken.pos or 0) + 1}: {broken.msg}"
    if error.validator == "anyOf" and error.absolute_path and error.absolute_path[-1] == "type":
        wrong = [name for name in (instance if isinstance(instance, list) else [instance]) if name not in TYPES]
        word = str(wrong[0])[:LONGEST] if wrong else ""
        return f"{word!r} is not a type; {suggest(word, TYPES)}, or a list of these, each once"
    return str(error.message)[:200]


class Judge:
    """Whether documents validate, including dates by the calendar; every answer takes a bounded time."""

    def __init__(self, schema: Schema | bool) -> None:
        _check_unevaluated(schema)
        self._steps = Steps()
        kind = bound_work(validator_for(schema, default=Draft202012Validator), self._steps)
        # a separate registry: the library's default one fetches what it does not hold
        self._validator = kind(_exact(schema), format_checker=_DATES, registry=Registry())

    def accepts(self, text: str) -> bool:
        """Whether the document is valid; one with the same name twice in an object isn't. Raises CharterError if the
        schema takes too long."""
        self._steps.begin()
        try:
            value = json.loads(text, parse_float=Decimal, object_pairs_hook=_unique)
            with localcontext(prec=_DIGITS), sound("the schema can't be held to"):
                return bool(self._validator.is_valid(value))
        except (ValueError, ArithmeticError, RecursionError, re.error):
            return False
        except Unresolvable as error:
            raise CharterError(f"the schema refers to {error.ref}, which is not in it; put it under $defs") from None


def _check_unevaluated(schema: object) -> None:
    """The library looks for unevaluated properties with its own patterns, whose time nothing bounds."""
    subschemas = [part for _, part in parts(schema)]
    if any("unevaluatedProperties" in part for part in subschemas) and any(
        "patternProperties" in part for part in subschemas
    ):
        raise CharterError(
            "unevaluatedProperties and patternProperties are not supported in one schema; leave one of them out"
        )


def _exact(schema: Any) -> Any:
    if isinstance(schema, float):
        return Decimal(repr(schema))
    if isinstance(schema, list):
        return [_exact(part) for part in schema]
    if isinstance(schema, Mapping):
        return {key: _exact(value) for key, value in schema.items()}
    return schema


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice")
    return members
