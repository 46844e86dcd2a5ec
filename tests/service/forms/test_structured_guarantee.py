"""Structured output keeps its promise under random logits: every reply ends, within its tokens, in what was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_schemas import random_schema, write

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter_service.forms import constrained
from charter_service.forms.ending import Ending, Search
from charter_service.forms.grammars import Compiled, Form, Tool, compile_form, tool_calls
from charter_service.forms.schema import Judge

TOKENIZER = toys.tokenizer()


def compiled(schema: Any, **more: Any) -> Compiled:
    return compile_form(Form("json_schema", schema=schema, **more), TOKENIZER)


def validate(text: str, schema: Any) -> Any:
    """The document, after the reference validator; decimals, since 0.07 is a multiple of 0.01."""
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    with localcontext(prec=600):  # multipleOf of a number of 200 digits
        jsonschema.validate(json.loads(text, parse_float=Decimal), exact)
    return json.loads(text)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 10**6), st.booleans())
def test_any_schema_any_budget(shape: int, spare: int, seed: int, greedy: bool) -> None:
    schema = random_schema(shape)
    try:
        form = compiled(schema)
    except CharterError as error:
        pytest.fail(f"a schema that has documents was refused: {error} {schema}")
    reply = write(form.start(form.least + spare), TOKENIZER, form.least + spare, seed, greedy)
    assert reply.ended and reply.tokens <= form.least + spare
    validate(reply.text, schema)


SMALL = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
}
SMALL |= {"required": ["name", "tags"], "additionalProperties": False}


def test_the_engine_holds_a_batch_and_draws_again_what_is_refused() -> None:
    """Under a random model in one batch: each reply in its form, and as it is when sampled alone."""
    schemas = [random_schema(seed) for seed in range(12)]
    budgets = [compiled(schema).least + seed for seed, schema in enumerate(schemas)]
    requests = [(compiled(s).start(b), Sampling(max_tokens=b)) for s, b in zip(schemas, budgets, strict=True)]

    def sample(together: bool) -> tuple[dict[int, str], int]:
        engine, texts, refused = Engine(toys.model(), TOKENIZER, slots=16), dict[int, str](), 0

        def counting(make: Callable[[], Constraint]) -> Callable[[], Constraint]:
            def make_counting() -> Constraint:
                constraint = make()
                accept = constraint.accept

                def count(token: int) -> bool:
                    nonlocal refused
                    refused += not (took := accept(token))
                    return took

                constraint.accept = count  # type: ignore[method-assign]
                return constraint

            return make_counting

        for place, (make, sampling) in enumerate(requests):
            number = engine.submit([5, 6, 7], sampling, seed=place, constraint=counting(make))
            while not engine.idle and (place == len(requests) - 1 or not together):
                for event in engine.step():
                    if event.done:
                        assert event.completion.stop == "end" and event.error is None
                        texts[event.request - 1] = event.completion.text
            assert number == place + 1
        return texts, refused

    batched, refused = sample(together=True)
    assert refused, "no draw was refused: this test needs harder schemas"
    assert batched == sample(together=False)[0]
    for place, schema in enumerate(schemas):
        validate(batched[place], schema)


def test_a_budget_below_the_shortest_document_is_refused_with_the_numbers() -> None:
    form = compiled(SMALL)
    with pytest.raises(
        CharterError, match=rf"takes {form.least} tokens with its end token, max_tokens is {form.least - 1};"
    ):
        form.start(form.least - 1)
    assert write(form.start(form.least), TOKENIZER, form.least, 0).text == '{"name":"","tags":[]}'


@pytest.mark.parametrize("what", ['"', "e", " ", "["])
def test_a_model_that_loops_is_closed(what: str) -> None:
    """Whatever a model repeats, the document closes before its tokens are spent."""
    loved = TOKENIZER.encode(what)[-1]

    def prefer(logits_V: torch.Tensor, _: int) -> None:
        logits_V[loved] += 40.0
        logits_V[list(TOKENIZER.ends)] -= 40.0

    form = compiled({"type": "object", "properties": {"a": {"type": "array", "items": {}}}, "required": ["a"]})
    reply = write(form.start(90), TOKENIZER, 90, 3, prefer=prefer)
    assert reply.ended
    validate(reply.text, {"type": "object", "required": ["a"]})


def test_the_draw_is_from_what_is_left_open() -> None:
    """Where every open token may be followed by an ending, tokens come as often as their weights say."""
    form = compiled({"enum": ["a", "b", "c"]})
    weights = {"a": 0.6, "b": 0.3, "c": 0.1}

    def prefer(logits_V: torch.Tensor, _: int) -> None:
        logits_V[:] = -2.0
        for letter, weight in weights.items():
            logits_V[TOKENIZER.encode(letter)[0]] = float(torch.tensor(weight).log())
            for whole in (f'"{letter}', f'{letter}"', f'"{letter}"'):
                assert len(TOKENIZER.encode(whole)) == len(whole), "the toy tokenizer joins these"

    counts = dict.fromkeys(weights, 0)
    for seed in range(400):
        counts[write(form.start(8), TOKENIZER, 8, seed, prefer=prefer).text.strip('"')] += 1
    for letter, weight in weights.items():
        assert abs(counts[letter] / 400 - weight) < 4 * (weight * (1 - weight) / 400) ** 0.5


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "dependentRequired": {"a": ["b"]}},
        {"type": "integer", "minimum": 0, "maximum": 99, "not": {"multipleOf": 2}},
        {"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 9}]},
        {"type": "object", "properties": {"k": {"enum": ["x", "y"]}, "v": True}, "required": ["k"],
         "if": {"properties": {"k": {"const": "x"}}}, "then": {"required": ["v"]}, "else": {"not": {"required": ["v"]}}},
        {"type": "string", "pattern": "^(?!@@)[@a-z]{2,6}$"},
        {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 3},
        {"type": "string", "format": "date"},
        {"type": "array", "contains": {"const": 4}, "items": {"type": "integer"}},
        {"const": 12345678901234567891},
    ],
)  # fmt: skip
def test_what_the_grammar_cannot_say_is_held_to_by_the_judge(schema: Any) -> None:
    try:
        form = compiled(schema)
    except CharterError:
        assert schema == {"const": 12345678901234567891}  # beyond the numbers of the grammar: refused, not broken
        return
    for seed in range(6):
        for budget in (form.least, form.least + 10, 60):
            reply = write(form.start(budget), TOKENIZER, budget, seed)
            assert reply.ended
            validate(reply.text, schema)


def test_numbers_stay_finite_and_short() -> None:
    digits = [TOKENIZER.encode(digit)[-1] for digit in "0123456789e"]

    def prefer(logits_V: torch.Tensor, _: int) -> None:
        logits_V[digits] += 40.0

    form = compiled({"type": "number"})
    for seed in range(5):
        text = write(form.start(300), TOKENIZER, 300, seed, prefer=prefer).text
        assert abs(json.loads(text)) < 1e120 and len(text) < 30


def test_no_blank_comes_before_a_colon_or_a_comma() -> None:
    """Small models break lines at odd places where the grammar lets them."""
    blanks = [TOKENIZER.encode(blank)[-1] for blank in (" ", "\n")]

    def prefer(logits_V: torch.Tensor, _: int) -> None:
        logits_V[blanks] += 30.0

    schema = {"type": "object", "properties": {"a": {"enum": ["x : y"]}, "b": {"type": "null"}}, "required": ["a", "b"]}
    text = write(compiled(schema).start(90), TOKENIZER, 90, 1, prefer=prefer).text
    assert re.search(r"[:,]\s", text) and not re.search(r"\s[:,]", text.replace("x : y", ""))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "malformed at #/properties/a/type: 'strin' is not a type; did you mean string?"),
        ({"type": ["objct", "null"]}, "malformed at #/type: 'objct' is not a type; did you mean object? allowed: object, array"),
        ({"properties": {"type": {"type": 5}}}, "malformed at #/properties/type/type: '5' is not a type; allowed: object"),
        ({"properties": {"type": 5}}, "malformed at #/properties/type: 5 is not of type"),
        ({"pattern": "a([a-z"}, "malformed at #/pattern: the pattern 'a([a-z' breaks at character 3: unterminated"),
        ({"properties": {"a": {"minLength": -1}}}, "malformed at #/properties/a/minLength"),
        ({"properties": {"a": {"$ref": "http://other.example/x.json"}}}, "#/properties/a"),
        (False, "no document is valid"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "allows no document"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "required": ["x"], "properties": {"x": {"$ref": "#/$defs/x"}}}}},
         "no document of this json_schema form was found"),
        ([1], "an object or a boolean"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_by_name(schema: Any, said: str) -> None:
    with pytest.raises(CharterError, match=re.escape(said)):
        compiled(schema)


def test_special_tokens_are_never_written() -> None:
    """A schema whose texts spell a special token writes its letters, one by one."""
    form = compiled({"const": "<|im_end|>"})
    reply = write(form.start(form.least), TOKENIZER, form.least, 0)
    assert reply.ended and reply.text == '"<|im_end|>"' and reply.tokens > 4


def test_a_form_is_compiled_once() -> None:
    assert compiled(SMALL) is compiled(json.loads(json.dumps(SMALL)))
    assert compiled(SMALL) is not compiled({**SMALL, "required": []})


def test_a_tool_call_is_one_of_the_tools() -> None:
    search: dict[str, Any] = {"type": "object", "properties": {"q": {"$ref": "#/$defs/text"}}, "required": ["q"]}
    search["$defs"] = {"text": {"type": "string", "minLength": 2}}
    tools = [Tool("search", search), Tool("stop", {"type": "object", "additionalProperties": False})]
    form = compile_form(tool_calls(tools, "<tool_call>\n", "\n</tool_call>"), TOKENIZER)
    for seed in range(8):
        text = write(form.start(80), TOKENIZER, 80, seed).text
        call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
        jsonschema.validate(call["arguments"], {t.name: t.schema for t in tools}[call["name"]])


def wishing(text: str, then_end: bool = True) -> Any:
    """Prefers the tokens of a text, then the end."""
    ids = TOKENIZER.encode(text)

    def prefer(logits_V: torch.Tensor, place: int) -> None:
        if place < len(ids):
            logits_V[ids[place]] += 60.0
        elif then_end:
            logits_V[min(TOKENIZER.ends)] += 60.0

    return prefer


def test_free_text_until_the_marker_then_the_form() -> None:
    form = compile_form(Form("json_schema", schema=SMALL, after="</call>"), TOKENIZER)
    make = form.start_after("<call>")
    assert write(make, TOKENIZER, 40, 0, prefer=wishing("Hello there.")).text == "Hello there."
    reply = write(make, TOKENIZER, 90, 1, prefer=wishing("Let me look. <call>", then_end=False))
    before, call = reply.text.split("<call>", 1)
    assert reply.ended and before == "Let me look. "
    validate(call.removesuffix("</call>"), SMALL)


def test_no_document_begins_that_would_not_fit() -> None:
    form = compile_form(Form("json_schema", schema=SMALL, after="</call>"), TOKENIZER)
    budget = len(TOKENIZER.encode("Go. <call>")) + form.least - 1
    reply = write(form.start_after("<call>"), TOKENIZER, budget, 1, prefer=wishing("Go. <call>", then_end=False))
    assert "<call>" not in reply.text
    exact = write(form.start_after("<call>"), TOKENIZER, budget + 1, 1, prefer=wishing("Go. <call>", then_end=False))
    assert exact.ended and exact.text.endswith("</call>")


def test_a_token_may_cross_the_marker() -> None:
    """A marker that ends within a token: the token's rest must begin the document, or the token is refused."""
    crossing = next(t for t in range(TOKENIZER.vocab_size) if TOKENIZER.decode([t]) == "er")
    for inner, kept in (("r", True), ("x", False)):
        form = compile_form(Form("regex", pattern=f"{inner}[0-9]{{2}}"), TOKENIZER)

        def prefer(logits_V: torch.Tensor, place: int) -> None:
            if place == 0:
                logits_V[crossing] += 60.0

        reply = write(form.start_after("e"), TOKENIZER, 30, 5, prefer=prefer)
        assert reply.text.startswith("er") == kept


def test_calls_may_follow_one_another() -> None:
    form = compile_form(Form("regex", pattern="[0-9]{2}", after=";"), TOKENIZER)
    ids = TOKENIZER.encode("n=")

    def prefer(logits_V: torch.Tensor, place: int) -> None:
        logits_V[ids[place % 5 % 2]] += 60.0 if place % 5 < 2 else 0.0

    reply = write(form.start_after("n=", again=True), TOKENIZER, 40, 2, prefer=prefer)
    assert reply.text.count("n=") > 2 and reply.text.count(";") >= reply.text.count("n=") - 1


def test_a_judge_that_gives_up_never_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the judge accepted before is followed to its end."""
    form = compiled({"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 2})
    calls, accepts = 0, Judge.accepts

    def tires(judge: Judge, text: str) -> bool:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise CharterError("too long")
        return accepts(judge, text)

    monkeypatch.setattr(Judge, "accepts", tires)
    reply = write(form.start(60), TOKENIZER, 60, 4)
    monkeypatch.undo()
    assert calls > 6 and reply.ended
    values = validate(reply.text, {"type": "array", "uniqueItems": True, "minItems": 2})
    assert len(values) >= 2


def test_what_is_refused_slowly_is_tried_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    form = compile_form(Form("regex", pattern=r"^(.*[ab].{12}[cd].{12}){0,3}$"), toys.tokenizer())
    start, most = form.start(form.least + 6), form.least + 6
    many = [write(start, toys.tokenizer(), most, seed) for seed in range(5)]
    monkeypatch.setattr(constrained, "REFUSED_SECONDS", 1e-9)
    few = [write(start, toys.tokenizer(), most, seed) for seed in range(5)]
    assert max(one.refusals for one in many) > 1
    assert max(one.refusals for one in few) == 1
    assert all(one.ended and re.fullmatch(form.form.pattern, one.text) for one in (*many, *few))


@pytest.mark.parametrize("steps", [1, 40])
def test_documents_end_however_little_is_sought_while_they_are_written(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a search does not find in its steps is refused; the ending known before still stands."""
    sought: list[int] = []
    shortest = Search.shortest

    def count_steps(self: Search) -> Ending | None:
        ending = shortest(self)
        sought.append(self._all - self._steps)
        return ending

    forms = [(schema, compiled(schema)) for schema in map(random_schema, range(12))]
    starts = [(schema, form.start(form.least + 20), form.least + 20) for schema, form in forms]
    monkeypatch.setattr(constrained, "WRITING_STEPS", steps)
    monkeypatch.setattr(Search, "shortest", count_steps)
    for schema, start, most in starts:
        reply = write(start, TOKENIZER, most, 1)
        assert reply.ended and reply.tokens <= most
        validate(reply.text, schema)
    assert 0 < max(sought) <= steps
