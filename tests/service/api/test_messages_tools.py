"""Tools: calls are held to their schemas, found in the text as it is written, and told as Anthropic's API tells them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lobby import MODEL, Hall, Said, open_hall

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter_service.api.wire.tool_reading import Reader
from charter_service.api.wire.tool_words import OPEN, write_calls
from charter_service.api.wire.tools import AnyChoice, AutoChoice, CustomTool, Offer, ToolChoice, offer_of
from charter_service.forms.grammars import compile_form

WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "units": {"enum": ["C", "F"]},
        },
        "required": ["city"],
    },
}
PAINT = {
    "name": "paint",
    "input_schema": {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/place"}},
        "required": ["at"],
        "$defs": {"place": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}},
    },
}
SCHEMAS = {tool["name"]: tool["input_schema"] for tool in (WEATHER, PAINT)}
ASKED = [{"role": "user", "content": "How is the weather?"}]


def offer(choice: Any, *tools: dict[str, Any]) -> Offer:
    found = offer_of([CustomTool.model_validate(tool) for tool in tools or (WEATHER, PAINT)], choice)
    assert found is not None
    return found


def write(constraint: Constraint, tokens: int, seed: int, begun: str = "") -> str:
    """What a model would write that likes all tokens as much: `begun` first, then at random, held to the constraint."""
    tokenizer, generator = toys.tokenizer(), torch.Generator().manual_seed(seed)
    forced, ids = list(tokenizer.encode(begun)), list[int]()
    while len(ids) < tokens:
        while True:
            logits = torch.zeros(tokenizer.vocab_size)
            constraint.restrict(logits, tokens - len(ids))
            token = forced[0] if forced else int(torch.multinomial(logits.softmax(0), 1, generator=generator))
            if constraint.accept(token):
                break
            assert not forced, "what was begun was refused"
        forced = forced[1:]
        if token in tokenizer.ends:
            return str(tokenizer.decode(ids))
        ids.append(token)
    raise AssertionError(f"not ended within {tokens} tokens: {tokenizer.decode(ids)!r}")


def calls_in(text: str) -> tuple[str, list[tuple[str, Any]]]:
    """Free text and calls of a reply, as the reader tells them."""
    reader, words, calls = Reader(), "", list[tuple[str, str]]()
    for heard in [*reader.feed(text), *reader.end()]:
        if heard.kind == "text":
            words += heard.text
        elif heard.kind == "call":
            calls.append((heard.text, ""))
        elif heard.kind == "input":
            calls[-1] = (calls[-1][0], calls[-1][1] + heard.text)
    return words, [(name, json.loads(given)) for name, given in calls]


@pytest.mark.parametrize("seed", range(6))
def test_a_call_that_must_be_made_is_valid(seed: int) -> None:
    wanted = offer(AnyChoice(type="any"))
    compiled = compile_form(wanted.form(), toys.tokenizer())
    text = write(wanted.start(compiled, 120)(), 120, seed)
    words, calls = calls_in(text)
    assert text.startswith(OPEN)
    assert words == ""
    assert calls
    for name, given_input in calls:
        jsonschema.validate(given_input, SCHEMAS[name])


@pytest.mark.parametrize("seed", range(6))
def test_a_call_that_may_be_made_is_valid_and_ends_the_reply(seed: int) -> None:
    wanted = offer(AutoChoice(type="auto", disable_parallel_tool_use=True))
    compiled = compile_form(wanted.form(), toys.tokenizer())
    words, calls = calls_in(write(wanted.start(compiled, 150)(), 150, seed, f"I look. {OPEN}"))
    assert words == "I look."
    ((name, given_input),) = calls
    jsonschema.validate(given_input, SCHEMAS[name])


def test_the_named_tool_is_used() -> None:
    wanted = offer(ToolChoice(type="tool", name="paint", disable_parallel_tool_use=True))
    compiled = compile_form(wanted.form(), toys.tokenizer())
    names = {calls_in(write(wanted.start(compiled, 90)(), 90, seed))[1][0][0] for seed in range(4)}
    assert names == {"paint"}


def test_what_can_not_fit_is_refused_with_numbers() -> None:
    wanted = offer(AnyChoice(type="any"))
    compiled = compile_form(wanted.form(), toys.tokenizer())
    with pytest.raises(CharterError, match=rf"takes {compiled.least} tokens with its end token, max_tokens is 3"):
        wanted.start(compiled, 3)
    write(wanted.start(compiled, compiled.least)(), compiled.least, 1)


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
made = st.lists(
    st.tuples(st.sampled_from(["weather", "a", "b_c"]), st.dictionaries(words, values, max_size=3)), max_size=3
)


@settings(max_examples=150, deadline=None)
@given(before=words, calls=made, cuts=st.lists(st.integers(1, 9), max_size=40))
def test_however_a_reply_is_cut_the_same_is_read(before: str, calls: Any, cuts: list[int]) -> None:
    before = before.replace("<", "")
    text = before + (write_calls(calls).read if calls else "")
    reader, told = Reader(), list[Any]()
    rest = text
    for cut in [*cuts, len(text)]:
        told += reader.feed(rest[:cut])
        rest = rest[cut:]
    told += reader.end()
    spoken = "".join(heard.text for heard in told if heard.kind == "text")
    assert spoken.strip() == before.strip()
    assert not spoken.startswith(" ")
    assert [heard.text for heard in told if heard.kind == "call"] == [name for name, _ in calls]
    assert sum(heard.kind == "called" for heard in told) == len(calls)
    inputs, current = list[str](), ""
    for heard in told:
        current = current + heard.text if heard.kind == "input" else current
        if heard.kind == "called":
            inputs, current = [*inputs, current], ""
    assert [json.loads(one) for one in inputs] == [given_input for _, given_input in calls]


def test_text_that_only_looks_like_a_marker_is_told() -> None:
    assert calls_in("a < b, <tool, and <tool_cal") == ("a < b, <tool, and <tool_cal", [])


def post(hall: Hall, **body: Any) -> Any:
    given_body = {"model": MODEL, "max_tokens": 120, "messages": ASKED, "tools": [WEATHER, PAINT]} | body
    sent = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
    return httpx.post(f"{hall.url}/v1/messages", headers=sent, json=given_body, timeout=60)


def told(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_a_model_that_must_call_calls(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        single = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
        answer = post(hall, tool_choice=single, temperature=0).json()
        streamed = told(post(hall, tool_choice=single, temperature=0, stream=True).text)
        refused = post(hall, tool_choice=single, max_tokens=5)
        shaped = post(hall, tools=[], output_config={"format": {"type": "json_schema", "schema": SCHEMAS["weather"]}})
    (block,) = answer["content"]
    assert answer["stop_reason"] == "tool_use"
    assert block["type"] == "tool_use"
    assert block["id"].startswith("toolu_")
    assert block["name"] == "weather"
    jsonschema.validate(block["input"], SCHEMAS["weather"])
    parts = [e["delta"] for e in streamed if e["type"] == "content_block_delta"]
    assert {part["type"] for part in parts} == {"input_json_delta"}
    assert json.loads("".join(part["partial_json"] for part in parts)) == block["input"]
    start = next(e for e in streamed if e["type"] == "content_block_start")
    assert start["content_block"] | {"id": ""} == {"type": "tool_use", "id": "", "name": "weather", "input": {}}
    assert streamed[-2]["delta"]["stop_reason"] == "tool_use"
    assert streamed[-2]["usage"]["output_tokens"] == answer["usage"]["output_tokens"]
    assert refused.status_code == 400
    assert "max_tokens is 5" in refused.json()["error"]["message"]
    (text,) = shaped.json()["content"]
    jsonschema.validate(json.loads(text["text"]), SCHEMAS["weather"])
    assert shaped.json()["stop_reason"] == "end_turn"


def test_text_and_several_calls(tmp_path: Path) -> None:
    reply = "I look.\n" + write_calls([("weather", {"city": "Rome"}), ("paint", {"at": [1, 2]})]).read
    with open_hall(tmp_path, said=Said(*reply)) as hall:
        answer, streamed = post(hall).json(), told(post(hall, stream=True).text)
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert answer["content"][0]["text"] == "I look."
    assert [block["input"] for block in answer["content"][1:]] == [{"city": "Rome"}, {"at": [1, 2]}]
    assert len({block["id"] for block in answer["content"][1:]}) == 2
    assert answer["stop_reason"] == "tool_use"
    starts = [e for e in streamed if e["type"] == "content_block_start"]
    stops = [e for e in streamed if e["type"] == "content_block_stop"]
    assert [e["index"] for e in starts] == [e["index"] for e in stops] == [0, 1, 2]


def test_a_call_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    with open_hall(
        tmp_path, said=Said("I look. ", '<tool_call>[{"name": "weather", "arg', stop="stop", stopped_by="x")
    ) as hall:
        early = post(hall).json()
    with open_hall(
        tmp_path, said=Said(f'{OPEN}[{{"name": "weather", "arguments": {{"ci', stop="stop", stopped_by="x")
    ) as hall:
        late, streamed = post(hall).json(), told(post(hall, stream=True).text)
    assert early["content"] == [{"type": "text", "text": "I look."}]
    assert late["content"] == []
    assert late["stop_reason"] == streamed[-2]["delta"]["stop_reason"] == "stop_sequence"


def test_without_tools_nothing_is_a_call(tmp_path: Path) -> None:
    reply = write_calls([("weather", {"city": "Rome"})]).read
    with open_hall(tmp_path, said=Said(reply)) as hall:
        answer = post(hall, tools=[]).json()
        unused = post(hall, tool_choice={"type": "none"}).json()
    assert answer["content"] == unused["content"] == [{"type": "text", "text": reply}]
