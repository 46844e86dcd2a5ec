"""What a body says of a conversation, and the words in which one is refused."""

from __future__ import annotations

from typing import Any

import pytest

from charter.ground.text.dialogue import assistant, system, user
from charter_service.api.errors import ApiError
from charter_service.api.wire.messages_body import CountBody, MessagesBody, wanted_of
from charter_service.api.wire.reading import checked

CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21 °C"}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    turns = [m if isinstance(m, dict) else {"role": r, "content": m} for m, r in zip(messages, "ua" * 9, strict=False)]
    named = {"u": "user", "a": "assistant"}
    turns = [{**t, "role": named.get(t["role"], t["role"])} for t in turns]
    return {"model": "toy-2", "max_tokens": 5, "messages": turns, **more}


def prompt(*messages: Any, **more: Any) -> list[Any]:
    return wanted_of(checked(body(*messages, **more), MessagesBody)).prompt


def refused(*messages: Any, **more: Any) -> str:
    with pytest.raises(ApiError) as caught:
        prompt(*messages, **more)
    assert caught.value.status == 400
    return str(caught.value)


def test_text_and_blocks_say_the_same() -> None:
    blocks = [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]
    assert prompt("Hello") == prompt(blocks) == [user("Hello")]
    assert prompt("Hello", system="Be brief.") == prompt("Hello", system=[{"type": "text", "text": "Be brief."}])
    assert prompt("Hello", system="Be brief.") == [system("Be brief."), user("Hello")]
    assert prompt("Hello", system="") == [user("Hello")]


def test_turns_of_one_role_become_one() -> None:
    found = prompt(
        {"role": "user", "content": "One"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
        {"role": "assistant", "content": "Four"},
        {"role": "assistant", "content": "five"},
    )
    assert found == [user("One\n\ntwo\n\nthree"), assistant("Four\n\nfive")]


def test_the_system_may_speak_first_and_behind_a_user() -> None:
    note = {"role": "system", "content": "Answer in French."}
    assert prompt(note, {"role": "user", "content": "Hello"}, system="Be brief.")[0] == system(
        "Be brief.\n\nAnswer in French."
    )
    found = prompt({"role": "user", "content": "Hello"}, note)
    assert found == [user("Hello\n\n<system>\nAnswer in French.\n</system>")]
    words = refused({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, note)
    assert words.startswith("messages.2: a system message stands")


def test_documents_are_taken_in_as_text() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "The sky is green."}
    document = {"type": "document", "source": plain, "title": "Skies", "context": "A poem."}
    (turn,) = prompt([document, {"type": "text", "text": "Which colour?"}])
    assert turn["content"] == '<document name="Skies">\nA poem.\nThe sky is green.\n</document>\n\nWhich colour?'
    parts = {"type": "content", "content": [{"type": "text", "text": "In parts."}]}
    (turn,) = prompt([{"type": "document", "source": parts}])
    assert "In parts." in turn["content"]
    found = {"type": "search_result", "source": "a.example", "title": "A", "content": [{"type": "text", "text": "B"}]}
    assert "a.example" in prompt([found])[0]["content"]


def test_calls_and_results_become_text() -> None:
    found = prompt("Weather?", [{"type": "text", "text": "I look."}, CALL], [RESULT], tools=[WEATHER])
    assert found[0]["role"] == "system"
    assert '"weather"' in found[0]["content"]
    assert found[2]["content"] == (
        'I look.\n\n<tool_call>[{"name": "weather", "arguments": {"city": "Paris"}}]</tool_call>'
    )
    assert found[3]["content"] == "<tool_result>\nweather:\n21 °C\n</tool_result>"
    failed = prompt("Weather?", [CALL], [{**RESULT, "is_error": True}], tools=[WEATHER])
    assert "weather failed" in failed[3]["content"]


def test_two_calls_stand_in_one_list() -> None:
    other = {**CALL, "id": "toolu_2", "input": {"city": "Rome"}}
    found = prompt("Weather?", [CALL, other], [RESULT, {**RESULT, "tool_use_id": "toolu_2"}])
    assert found[1]["content"].count("<tool_call>") == 1
    assert found[1]["content"].count('"name"') == 2


def test_what_was_thought_is_not_shown_again() -> None:
    thought = [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Yes."}]
    assert prompt("Really?", thought, "Sure?")[1] == assistant("Yes.")


def test_a_last_empty_turn_of_the_assistant_asks_for_nothing() -> None:
    assert prompt("Hello", "") == [user("Hello")]
    assert prompt("Hello", "I am")[-1] == assistant("I am")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages: at least one message is required"),
        ([""], "messages.0: all messages must have non-empty content except for the optional final assistant message"),
        ([[]], "messages.0: all messages must have non-empty content"),
        (["  "], "messages: text content blocks must contain non-whitespace text"),
        ([[{"type": "text", "text": ""}]], "messages: text content blocks must be non-empty"),
        ([{"role": "assistant", "content": "I"}], 'messages: first message must use the "user" role'),
        (["a", "I think "], "messages: final assistant content cannot end with trailing whitespace"),
        (["a", [CALL], "b"], "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1"),
        (["a", [CALL]], "messages.1: `tool_use` ids were found without"),
        ([[RESULT]], "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1."),
        (["a", [CALL], [RESULT, RESULT]], "messages.2.content.1: more than one `tool_result`"),
        ([[CALL]], "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages"),
        (["a", [CALL, CALL], [RESULT]], "messages.1: `tool_use` ids must be unique"),
        ([[{"type": "image", "source": {"type": "url", "url": "x"}}]], "messages.0.content.0: images can't be read"),
        (
            [[{"type": "document", "source": {"type": "file", "file_id": "x"}}]],
            "messages.0.content.0.source: documents are read as text here",
        ),
        ([[{"type": "video"}]], "messages.0.content.0: Input tag 'video' found using 'type' does not match"),
        ([[{"type": "text"}]], "messages.0.content.0.text.text: Field required"),
        ([{"role": "wizard", "content": "a"}], "messages.0.role: Input should be"),
        ([7], "messages.0.content: Input should be a valid list"),
        ([[{"type": "text", "text": "a", "colour": 1}]], "messages.0.content.0.text.colour: Extra inputs are not permitted; allowed: cache_control, type, text"),
        ([[{"type": "text", "text": "a", "cachecontrol": 1}]], "messages.0.content.0.text.cachecontrol: Extra inputs are not permitted; did you mean cache_control?"),
    ],
)  # fmt: skip
def test_conversations_are_refused_in_the_words_of_the_api(messages: list[Any], words: str) -> None:
    assert refused(*messages).startswith(words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": 1.5}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"temperature": 1.2}, "temperature: Input should be less than or equal to 1"),
        ({"top_p": -0.1}, "top_p: Input should be greater than or equal to 0"),
        ({"top_k": -1}, "top_k: Input should be greater than or equal to 0"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"temprature": 0}, "temprature: Extra inputs are not permitted; did you mean temperature? allowed: model, messages"),
        ({"user_id": "x"}, "user_id: Extra inputs are not permitted; did you mean metadata.user_id? allowed: model"),
        ({"max_tokens": None, "maxtokens": 5}, "maxtokens: Extra inputs are not permitted; did you mean max_tokens?"),
        ({"stop_sequences": [""]}, "stop_sequences: each stop sequence must be non-empty"),
        ({"stop_sequences": ["\n"]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"stop_sequences": ["x"] * 101}, "stop_sequences: List should have at most 100 items"),
        ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
        ({"metadata": {"user_id": "x" * 257}}, "metadata.user_id: String should have at most 256 characters"),
        ({"metadata": {"email": "x"}}, "metadata.email: Extra inputs are not permitted"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.type: no model here thinks before it answers"),
        ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
        ({"mcp_servers": [{}]}, "mcp_servers: this server calls no other servers"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name: String should match pattern"),
        ({"tools": [{"name": "a", "input_schema": {}}]}, "tools.0.custom.input_schema: expected a JSON Schema"),
        ({"tools": [{"name": "a"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{"name": "a", "input_schema": {"type": "object", "properties": 7}}]}, "tools.0.custom.input_schema: the JSON Schema is malformed at #/properties"),
        ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, "tools.0.other.type: tools of type web_search"),
        ({"tools": [WEATHER, WEATHER]}, "tools: Tool names must be unique."),
        ({"tool_choice": {"type": "any"}}, "tool_choice: tools are needed"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice: Tool 'x' not found in provided tools"),
        ({"tools": [WEATHER], "output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format: "),
    ],
)  # fmt: skip
def test_settings_are_refused_in_the_words_of_the_api(more: dict[str, Any], words: str) -> None:
    assert refused("Hello", **more).startswith(words)


def test_what_changes_nothing_is_taken() -> None:
    more = {
        "cache_control": {"type": "ephemeral"},
        "container": None,
        "context_management": {"edits": []},
        "inference_geo": "global",
        "metadata": {"user_id": None},
        "output_config": {"effort": None},
        "service_tier": "auto",
        "speed": "standard",
        "temperature": None,
        "thinking": {"type": "disabled"},
        "tool_choice": {"type": "none"},
        "tools": [],
    }
    assert prompt("Hello", **more) == [user("Hello")]


def test_counting_takes_no_settings_of_the_reply() -> None:
    with pytest.raises(ApiError, match="max_tokens: Extra inputs are not permitted"):
        checked(body("Hello"), CountBody)


def test_a_tool_that_may_not_be_used_is_not_told_of() -> None:
    assert prompt("Hello", tools=[WEATHER], tool_choice={"type": "none"}) == [user("Hello")]


def test_a_cache_is_asked_for_at_any_block() -> None:
    def marked(**more: Any) -> bool:
        return wanted_of(checked({**body("Hello"), **more}, MessagesBody)).ttl != ""

    mark = {"cache_control": {"type": "ephemeral"}}
    assert not marked()
    assert marked(**mark)
    assert marked(system=[{"type": "text", "text": "Be brief.", **mark}])
    assert marked(tools=[{**WEATHER, **mark}])
