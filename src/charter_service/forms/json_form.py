"""A grammar for a JSON Schema, and a judge for what the grammar can't check.

Either llguidance's grammar covers all of a schema, or the schema is compiled leniently and a judge reads every document
before it may end. The judge covers uniqueItems, not, if/then/else, dependencies, oneOf whose branches overlap, and
patterns with lookaround. Blanks are at most one space, or a line break with an indent, at each place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from llguidance import LLMatcher

from charter.ground.artifact.errors import CharterError
from charter_service.forms.alphabet import bytes_vocabulary
from charter_service.forms.ending import Hints, Quotes, Search
from charter_service.forms.schema import Judge, Schema, check_schema, name_draft, parts

_BLANKS = r"(\n {0,32}| )"
_ESCAPES = 'nrbtf\\"'
_LARGEST = 2**53  # beyond it the grammar's numbers are not exact
_WORD = 512  # bytes of the longest text searched for a pattern
_SECONDS = 10.0  # of processor time, for a schema that is compiled in parts
_MANY = 1  # names an object must have before a doubled name could hide that one is missing


def json_grammar(schema: Schema | bool) -> tuple[dict[str, Any], Judge | None]:
    """The grammar of documents, as llguidance takes it within a list of grammars, and their judge if one is needed.

    Raises CharterError for a malformed or unsupported schema, with the pointer.
    """
    if isinstance(schema, dict):
        schema = name_draft(schema)
    check_schema(schema)
    if schema is True:
        schema = {}
    if schema is False:
        raise CharterError("the schema is false: no document is valid")
    strict = _grammar(schema, lenient=False)
    if (refusal := _refusal(strict)) is None:
        return strict, Judge(schema) if _inexact(schema) else None
    if "nsatisfiable" in refusal:
        raise CharterError(f"the schema allows no document: {_first(refusal)}")
    until = time.thread_time() + _SECONDS
    for relaxed in _relax(schema, until):
        lenient = _grammar(relaxed, lenient=True)
        if _refusal(lenient) is None:
            return lenient, Judge(schema)
    at, reason = _fault(schema, until)
    raise CharterError(f"the schema at {at} is not supported: {reason}")


def pattern_words(schema: Schema) -> tuple[list[int], ...]:
    """A short text for every pattern of a schema, as bytes within a JSON string: a pattern that may begin anywhere
    looks like free text to a search that sees only the next byte."""
    words, until = [], time.thread_time() + _SECONDS
    for pattern in sorted({str(part["pattern"]) for _, part in parts(schema) if "pattern" in part}):
        if time.thread_time() > until:
            break  # words only help, so fewer will do
        anchored = pattern.endswith("$") and not pattern.endswith("\\$")
        anchored_pattern = f"^({(pattern[:-1] if anchored else pattern).removeprefix('^')})$"
        grammar = json.dumps({"grammars": [_grammar({"type": "string", "pattern": anchored_pattern}, True)]})
        matcher = LLMatcher(bytes_vocabulary(), grammar, log_level=0)
        ending = None if matcher.is_error() else Search(matcher, Quotes(), (), Hints(), _WORD).shortest()
        if ending is not None:
            words.append(_shorten(matcher, list(ending.fresh))[1:-1])
    return tuple(words)


def _shorten(matcher: LLMatcher, text: list[int]) -> list[int]:
    """The text without every byte that it can lack and still be allowed, tried from its end."""
    for place in reversed(range(1, len(text) - 1)):
        less = text[:place] + text[place + 1 :]
        count = matcher.try_consume_tokens(less)
        if count == len(less) and matcher.is_accepting():
            text = less
        matcher.rollback(count)
    return text


def _grammar(schema: Schema, lenient: bool) -> dict[str, Any]:
    # such texts can't be written without this escape
    control = "\\u00" in json.dumps(schema, ensure_ascii=False)
    options = {"whitespace_pattern": _BLANKS, "json_allowed_escapes": _ESCAPES + "u" * control, "lenient": lenient}
    return {"json_schema": {**schema, "x-guidance": options}}


def _refusal(grammar: dict[str, Any]) -> str | None:
    failed, messages = LLMatcher.validate_grammar_with_warnings(json.dumps({"grammars": [grammar]}))
    return messages[0] if failed else None


def _first(message: str) -> str:
    return message.strip().splitlines()[0][:200]


def _inexact(schema: Schema) -> bool:
    """Whether the grammar allows documents that the schema doesn't, though every keyword compiled."""
    for at, part in parts(schema):
        if part.get("format") in ("date", "date-time"):
            return True
        if isinstance(least := part.get("minProperties"), int) and least > _MANY:
            return True
        if at != "#" and ("$id" in part or ("id" in part and "$ref" in part)):
            return True
        if any(_large(part.get(key)) for key in ("const", "enum", "minimum", "maximum", "multipleOf")):
            return True
    return False


def _large(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_large, value))
    if isinstance(value, dict):
        return any(map(_large, value.values()))
    return isinstance(value, (int, float)) and abs(value) >= _LARGEST


def _check_time(until: float) -> None:
    if time.thread_time() > until:
        raise CharterError(f"the schema takes more than {_SECONDS:g} seconds to compile; simplify it")


def _relax(schema: Schema, until: float) -> Iterator[Schema]:
    """The schema, then with more and more left out that the grammar can't express; the judge checks those parts."""
    yield schema
    looser = deepcopy(schema)
    for _, part in parts(looser):
        _check_time(until)
        pattern = part.get("pattern")
        if isinstance(pattern, str) and _refusal(_grammar({"type": "string", "pattern": pattern}, True)):
            del part["pattern"]
        by_pattern = part.get("patternProperties")
        if isinstance(by_pattern, dict):
            for name in [n for n in by_pattern if _refusal(_grammar({"patternProperties": {n: True}}, True))]:
                del by_pattern[name]
    yield looser
    for _, part in parts(looser):
        if "$ref" in part:  # circular references with keywords beside them
            for key in [k for k in part if k not in ("$ref", "$defs", "definitions", "$schema")]:
                del part[key]
    yield looser
    for _, part in parts(looser):
        for key in ("minProperties", "maxProperties", "patternProperties"):
            part.pop(key, None)
    yield looser


def _fault(schema: Schema, until: float) -> tuple[str, str]:
    """The innermost part that doesn't compile by itself, and the compiler's message."""
    shared: Schema = {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
    fault = ("#", "unknown")
    for at, part in parts(schema):
        _check_time(until)
        refusal = _refusal(_grammar({**shared, **part}, True))
        if refusal is not None and len(at) >= len(fault[0]):
            fault = (at, _first(refusal))
    return fault
