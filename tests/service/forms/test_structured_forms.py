"""Forms other than JSON, each read by a real parser: XML, YAML, Markdown tables, code fences, patterns, grammars."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from made_schemas import write
from markdown_it import MarkdownIt

import toys
from charter.ground.artifact.errors import CharterError
from charter_service.forms.grammars import Compiled, Form, compile_form
from charter_service.forms.shapes import shapes_of
from charter_service.forms.table_form import read_table
from charter_service.forms.xml_form import read_xml
from charter_service.forms.yaml_form import spell

TOKENIZER = toys.tokenizer()
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "note": {"type": ["string", "null"], "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "share": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 2}},
        "kind": {"enum": ["red", "no", "a<b"]},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]$"},
        "born": {"type": "string", "format": "date"},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/kid"}, "minItems": 1, "maxItems": 2},
        "ok": {"type": "boolean"},
    },
    "required": ["name", "age", "kind", "kids"],
    "$defs": {
        "kid": {
            "type": "object",
            "properties": {
                "id": {"type": "integer"},
                "next": {"$ref": "#/$defs/kid"},
                "more": {"type": "object", "properties": {"q": {"type": "string"}}},
            },
            "required": ["id"],
        }
    },
}
ROWS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "n": {"type": "integer"},
            "kind": {"enum": ["a", "b c", 1]},
            "ok": {"type": "boolean"},
            "code": {"type": "string", "pattern": "^[a-z]{2}"},
        },
        "required": ["name", "n"],
    },
}
BUDGETS = (0, 9, 70, 250)


def texts(form: Form, seeds: int = 5) -> list[str]:
    """Replies under random logits, in several budgets, each ended."""
    compiled: Compiled = compile_form(form, TOKENIZER)
    replies = [
        write(compiled.start(compiled.least + more), TOKENIZER, compiled.least + more, seed)
        for seed in range(seeds)
        for more in BUDGETS
    ]
    assert all(reply.ended for reply in replies)
    return [reply.text for reply in replies]


def test_xml_is_read_back_as_data_of_the_schema() -> None:
    for text in texts(Form("xml", schema=PERSON, root="person")):
        jsonschema.validate(data := read_xml(text, shapes_of(PERSON, "xml")), PERSON)
        root = etree.fromstring(text.encode())
        assert root.tag == "person" and (root.findtext("name") or "") == data["name"]
        assert [e.text for e in root.findall("tags/item")] == data.get("tags", [])


def test_yaml_is_data_of_the_schema() -> None:
    for text in texts(Form("yaml", schema=PERSON)):
        jsonschema.validate(yaml.safe_load(text), PERSON)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.text("noyestrufal0123456789 .:-#'\"eE~_[]{}", max_size=8),
        st.sampled_from(["no", "Null", "1e5", "0x1f", "2020-01-01", "12:30", "=", "<<", "-", "? a", "a: b", "a #b"]),
    )
)
def test_a_yaml_text_stays_a_text(text: str) -> None:
    assert yaml.safe_load(f"k: {spell(text)}") == {"k": text}


def test_a_table_is_read_alike_by_markdown_it() -> None:
    for text in texts(Form("table", schema=ROWS)):
        jsonschema.validate(rows := read_table(text, shapes_of(ROWS, "table")), ROWS)
        tokens = MarkdownIt().enable("table").parse(text)
        cells = [token.content for token in tokens if token.type == "inline"]
        shown = [value if isinstance(value, str) else json.dumps(value) for row in rows for value in row.values()]
        assert cells == [*ROWS["items"]["properties"], *shown]


@pytest.mark.parametrize("inner", ["json", "yaml", "xml", None])
def test_a_fence_is_one_block_of_its_language(inner: Any) -> None:
    form = Form("code", schema=PERSON if inner else None, inner=inner, language=inner or "python", root="person")
    for text in texts(form, seeds=2):
        (token,) = MarkdownIt().parse(text)
        assert token.type == "fence" and token.info == (inner or "python")
        assert text == f"```{token.info}\n{token.content}```"
        read = {"json": json.loads, "yaml": yaml.safe_load, "xml": lambda t: read_xml(t, shapes_of(PERSON, "xml"))}
        if inner:
            jsonschema.validate(read[inner](token.content), PERSON)


def test_a_pattern_matches_the_whole_text() -> None:
    for pattern in (r"[a-z]+@[a-z]+\.(com|org)", r"(ab|ba)*c", r"\d{3}-\d{4}", r"^[^x]{5,8}$"):
        for text in texts(Form("regex", pattern=pattern), seeds=4):
            assert re.fullmatch(pattern.strip("^$"), text, re.DOTALL)


def test_a_grammar_is_parsed() -> None:
    grammar = 'start: sum\nsum: product (("+" | "-") product)*\nproduct: value (("*") value)*\nvalue: NUMBER | "(" sum ")"\nNUMBER: /[1-9][0-9]{0,3}/'
    for text in texts(Form("grammar", grammar=grammar)):
        ast.parse(text, mode="eval")
        assert re.fullmatch(r"[0-9+*()-]+", text)


def test_any_json_object() -> None:
    assert all(isinstance(json.loads(text), dict) for text in texts(Form("json_object")))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (
            Form("xml", schema={"type": "object", "properties": {"a b": {"type": "string"}}}),
            "can't name an element 'a b' (#)",
        ),
        (
            Form("xml", schema={"anyOf": [{"type": "string"}, {"type": "integer"}]}),
            "can't tell the alternatives at # apart",
        ),
        (
            Form("yaml", schema={"type": "object", "properties": {"a": {"oneOf": []}}}),
            "malformed at #/properties/a/oneOf",
        ),
        (
            Form("yaml", schema={"properties": {"a": {"type": "object", "minProperties": 1}}}),
            "minProperties, found at #/properties/a",
        ),
        (
            Form("yaml", schema={"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
            "uniqueItems, found at #",
        ),
        (Form("table", schema={"type": "object", "properties": {}}), "needs an array of objects"),
        (
            Form("table", schema={"type": "array", "items": {"properties": {"a|b": {"type": "string"}}}}),
            "the column 'a|b'",
        ),
        (
            Form("table", schema={"type": "array", "items": {"properties": {"a": {"type": ["string", "null"]}}}}),
            "scalar columns",
        ),
        (Form("xml", schema={"type": "string", "format": "regex"}), "the format 'regex' at # isn't supported"),
        (Form("xml", schema={"$ref": "other.json"}), "is 'other.json'; expected a reference within the schema"),
        (Form("code", language="two words"), "one word"),
        (Form("code", schema={}), "needs inner"),
        (Form("regex", pattern="["), "can't be compiled"),
        (Form("regex"), "needs a pattern"),
        (Form("grammar", grammar="start: missing"), "unknown name"),
        (Form("json_schema"), "needs a schema"),
    ],
)
def test_what_a_form_can_not_say_is_refused_by_name(form: Form, said: str) -> None:
    with pytest.raises(CharterError, match=re.escape(said)):
        compile_form(form, TOKENIZER)
