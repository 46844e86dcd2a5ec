"""No schema makes this process reach for a file or an address, whatever its references say."""

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter_service.forms.grammars import Form, compile_form
from charter_service.forms.json_form import json_grammar
from charter_service.forms.schema import Judge, check_schema
from charter_service.forms.shapes import shapes_of

PLACES = ("http://127.0.0.1:9/x", "https://example.com/x#/a", "ftp://example.com/x", "//example.com/x")
PLACES += ("file:///etc/hostname", "file:///etc/os-release#/a", "x.json", "/etc/hostname", "urn:example:x")
WITHIN = ("#", "#/$defs/a", "#/definitions/a", "#/nowhere", "#anchor")
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef", "extends")
NAMES = ("$id", "id", "$schema", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary")
INNER = ("items", "additionalItems", "contains", "not", "if", "then", "propertyNames", "contentSchema", "disallow")
INNER += ("unevaluatedItems", "unevaluatedProperties", "additionalProperties", "links", "foo")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "type", "extends")
TABLES = ("properties", "$defs", "definitions", "dependentSchemas", "dependencies", "patternProperties")
JUDGED: tuple[dict[str, Any], ...] = ({"uniqueItems": True}, {"minContains": 1}, {"not": {"const": 7}}, {})
DRAFTS = ("http://json-schema.org/draft-03/schema#", "http://json-schema.org/draft-04/schema#")
DRAFTS += ("http://json-schema.org/draft-06/schema#", "http://json-schema.org/draft-07/schema#")
DRAFTS += ("https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2020-12/schema")
HERE = Path(__file__).parent

# audit events see what every library does in the end; a hook that was added can't be taken away, hence a process
CHILD = """
import sys
sys.path[:0] = {folders!r}
import test_foreign_references as own
import encodings.idna, socket, urllib.request

for schema in own.schemas(-1, 50):  # whatever is imported late
    own.judged(schema)
reached = []
watched = ("open", "urllib.Request", "socket.getaddrinfo", "socket.connect", "socket.__new__", "os.listdir")
sys.addaudithook(lambda event, given: reached.append((event, str(given)[:99])) if event in watched else None)
print(sum(own.judged(schema) for schema in own.schemas({seed}, {count})), reached[:3])
"""


def make_schema(dice: random.Random, depth: int = 0) -> Any:
    """A schema that refers to things, mostly elsewhere."""
    schema: dict[str, Any] = dict(dice.choice(JUDGED)) if dice.random() < 0.5 else {}
    if dice.random() < 0.6:
        schema[dice.choice(REFERENCES)] = dice.choice(PLACES if dice.random() < 0.5 else WITHIN)
    if dice.random() < 0.3:
        schema[dice.choice(NAMES)] = dice.choice(PLACES + WITHIN)
    if depth < 3:
        for _ in range(dice.randrange(3)):
            kind = dice.randrange(3)
            if kind == 0:
                schema[dice.choice(INNER)] = make_schema(dice, depth + 1)
            elif kind == 1:
                schema[dice.choice(LISTS)] = [make_schema(dice, depth + 1)]
            else:
                schema[dice.choice(TABLES)] = {"a": make_schema(dice, depth + 1)}
    return schema


def schemas(seed: int, count: int) -> Any:
    """So many of these, half of them of a named draft."""
    dice = random.Random(seed)
    for _ in range(count):
        schema = make_schema(dice)
        yield {"$schema": dice.choice(DRAFTS), **schema} if dice.random() < 0.5 else schema


def judged(schema: Any) -> bool:
    """Gives a schema to whatever reads one, and documents to its judge; whether there was one. What is wrong is told
    by a CharterError."""
    for reader in (check_schema, json_grammar, shapes):
        with suppress(CharterError):
            reader(schema)
    try:
        judge = Judge(schema)
        for text in ("[1, 2]", '{"a": "b"}', "1"):
            judge.accepts(text)
        return True
    except Exception:  # a malformed schema, which nobody hands to a judge
        return False


def shapes(schema: Any) -> object:
    return shapes_of(schema, "yaml")


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_schemas_open_no_file_and_no_connection(count: int) -> None:
    child = CHILD.format(folders=[str(HERE), str(HERE.parents[1])], seed=1, count=count)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    judged_ones, reached = done.stdout.split(" ", 1)
    assert reached.strip() == "[]"
    assert int(judged_ones) > count // 10, "too few schemas came to be judged to say anything"


@pytest.mark.parametrize("place", PLACES)
def test_a_reference_elsewhere_is_refused_by_its_name(place: str) -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"$dynamicRef": place}}
    with pytest.raises(CharterError, match=r"the schema refers to .*, which is not in it; put it under"):
        Judge(schema).accepts("[1]")
    with pytest.raises(CharterError, match=r"dynamicRef at #/items is .*; expected a reference within"):
        compile_form(Form("json_schema", schema=schema), toys.tokenizer())


def test_a_schema_s_own_names_are_no_other_place() -> None:
    tree = {"$id": "http://here.example/tree", "type": "array", "items": {"$ref": "http://here.example/tree"}}
    assert Judge({**tree, "uniqueItems": True}).accepts("[[], [[]]]")
