"""No field of a request is taken and ignored: each that the published client can send is done, or refused by name.

The client's own types are walked through. A field that a new client adds has no entry below and fails a test.
"""

from __future__ import annotations

import asyncio
import typing
from types import SimpleNamespace
from typing import Any

import pytest
from lobby import MODEL, Said

from charter_service.accounts.keys import ANONYMOUS
from charter_service.api.errors import ApiError
from charter_service.api.model_request import Call
from charter_service.api.wire import offered
from charter_service.api.wire.messages import with_user
from charter_service.api.wire.messages_body import MessagesBody, model_request_of, wanted_of
from charter_service.api.wire.reading import checked
from charter_service.api.wire.route import NEWEST, OLDER, check_version

types = pytest.importorskip("anthropic.types", reason="anthropic's client is not installed")
beta = pytest.importorskip("anthropic.types.beta", reason="anthropic's client is not installed")
CALL = Call(ANONYMOUS, "req_1", "messages")
LOOK = {"name": "look", "input_schema": {"type": "object"}}
MARK = {"type": "ephemeral", "ttl": "1h"}
SHAPE = {"type": "json_schema", "schema": {"type": "object"}}
HELLO = {"role": "user", "content": "Hello"}
PLAIN = {"type": "text", "media_type": "text/plain", "data": "Bees dance."}

# a plausible value of each field that is done: each changes what a model is asked, or what its reply is like
DONE: dict[str, Any] = {
    "cache_control": MARK,
    "loop_stop": False,
    "max_tokens": 7,
    "messages": [{"role": "user", "content": "Goodbye"}],
    "metadata": {"user_id": "u"},
    "model": "another",
    "output_config": {"format": SHAPE},
    "output_format": SHAPE,
    "stop_sequences": ["x"],
    "stream": True,
    "system": "Be brief.",
    "system_by": "user",
    "temperature": 0.5,
    "tool_choice": {"type": "any"},
    "tools": [LOOK],
    "top_k": 3,
    "top_p": 0.5,
}
# plausible values that ask for what is not offered
REFUSED: dict[str, list[Any]] = {
    "billing_policy": [{"type": "default"}],
    "compaction": [{"type": "summarize"}],
    "container": ["container_1", {"skills": []}, {}],
    "context_management": [{"edits": [{"type": "clear_tool_uses_20250919"}]}, "x"],
    "diagnostics": [{"previous_message_id": "msg_1"}, {"previous_message_id": None}],
    "fallback_credit_token": ["token"],
    "fallbacks": [[{"model": "other"}], "other"],
    "inference_geo": ["us", "eu", ""],
    "mcp_servers": [[{"type": "url", "url": "https://a.example", "name": "a"}], {}],
    "service_tier": ["priority", "flex", 1],
    "speed": ["fast", True],
    "thinking": [
        {"type": "adaptive"},
        {"type": "adaptive", "display": "summarized"},
        {"type": "between_tools"},
        {"type": "enabled", "budget_tokens": 1024},
        {"type": "disabled", "budget_tokens": 1024},
    ],
    "thread": [{"type": "new"}],
    "user_profile_id": ["uprof_1"],
    "workspace_id": ["wrkspc_1"],
}
# values that change nothing by their meaning
HARMLESS: dict[str, list[Any]] = {
    "thinking": [{"type": "disabled"}],
    **{name: list(one.but) for name, one in offered.FIELDS.items() if one.but},
}
HEADERS = {"betas"}  # what the client sends as a header


def body(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 9, "messages": [HELLO], **more}


def asked(**more: Any) -> Any:
    """What a request comes to: all that the model, the limits and the answer depend on."""
    said, read = Said(), checked(body(**more), MessagesBody)

    async def compiled(*_: Any) -> Any:
        return SimpleNamespace(start=lambda tokens: "held", start_after=lambda marker: "held")

    served: Any = SimpleNamespace(backend=said, context=1000)
    said.compile = compiled  # type: ignore[attr-defined]
    wanted = wanted_of(read)
    request = asyncio.run(model_request_of(read, wanted, served, CALL))
    held = bool(request.constraint)
    return (
        request.model, request.prompt, request.said, request.sampling, held, wanted.offer, wanted.form, wanted.ttl,
        with_user(CALL, read).user, read.stream,
    )  # fmt: skip


def refusal(**more: Any) -> str:
    with pytest.raises(ApiError) as caught:
        asked(**more)
    assert caught.value.status == 400
    assert caught.value.kind == "invalid_request_error"
    return str(caught.value)


def fields_of(*kinds: Any) -> set[str]:
    return {name for kind in kinds for name in typing.get_type_hints(kind, include_extras=True)}


def params() -> set[str]:
    found = set[str]()
    for module in (types.message_create_params, beta.message_create_params, types.message_count_tokens_params):
        for name in vars(module):
            if name.startswith("Message") and name.endswith(("Base", "Streaming", "Params")):
                found |= set(getattr(getattr(module, name), "__annotations__", {}))
    return found


def test_each_field_of_the_client_is_done_or_refused() -> None:
    known = params() - HEADERS
    assert len(known) > 20
    assert known <= DONE.keys() | REFUSED.keys(), "a new field: do it, or put it into `offered`"
    assert REFUSED.keys() - {"thinking"} == offered.FIELDS.keys()
    assert set(MessagesBody.model_fields) == DONE.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", DONE)
def test_what_is_done_makes_a_difference(name: str) -> None:
    more = {"tool_choice": {"tools": [LOOK]}, "system_by": {"system": "Be kind."}}.get(name, {})
    assert asked(**more) != asked(**more, **{name: DONE[name]})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in REFUSED for value in REFUSED[name]])
def test_what_is_not_offered_is_refused_by_name(name: str, value: Any) -> None:
    words = refusal(**{name: value})
    assert words.startswith((f"{name}: ", f"{name}."))
    assert "leave it out" in words


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in HARMLESS for value in HARMLESS[name]])
def test_a_value_that_changes_nothing_is_taken(name: str, value: Any) -> None:
    assert asked(**{name: value}) == asked(**{name: None}) == asked()


def test_fields_within_fields() -> None:
    assert fields_of(types.OutputConfigParam, beta.BetaOutputConfigParam) == {"effort", "format", "task_budget"}
    for effort in ("low", "medium", "high", "xhigh", "max"):
        assert refusal(output_config={"effort": effort}).startswith("output_config.effort: no model here")
    assert refusal(output_config={"task_budget": {"type": "tokens", "total": 9}}).startswith(
        "output_config.task_budget: "
    )
    assert fields_of(types.CacheControlEphemeralParam) == {"type", "ttl"}
    assert refusal(cache_control={"type": "persistent"}).startswith("cache_control.type: ")
    assert refusal(cache_control={"type": "ephemeral", "ttl": "2d"}).startswith("cache_control.ttl: ")
    thoughts = (types.ThinkingConfigEnabledParam, types.ThinkingConfigAdaptiveParam)
    assert fields_of(*thoughts) == {"type", "budget_tokens", "display"}
    assert fields_of(types.MetadataParam) == {"user_id"}


def tool(**more: Any) -> dict[str, Any]:
    return {"tools": [LOOK | more]}


def test_fields_of_tools() -> None:
    done = {"name", "description", "input_schema", "type", "cache_control", "input_examples"}
    same = {"strict", "eager_input_streaming"}
    refused = {"allowed_callers": ["code_execution_20260521"], "defer_loading": True}
    assert fields_of(types.ToolParam) == done | same | refused.keys()
    plain = asked(**tool())
    for name, value in refused.items():
        words = refusal(**tool(**{name: value}))
        assert words.startswith(f"tools.0.custom.{name}: ")
    assert asked(**tool(allowed_callers=["direct"], defer_loading=False))[1:4] == plain[1:4]
    examples = asked(**tool(input_examples=[{"at": "Paris"}]))
    assert '"input_examples": [{"at": "Paris"}]' in examples[1][0]["content"]
    for more in ({"description": "Looks."}, {"cache_control": MARK}):
        assert asked(**tool(**more)) != plain


def test_fields_of_blocks() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}}
    for more in ({}, {"transformations": {"oversized_image": "error"}}):
        words = refusal(messages=[{"role": "user", "content": [image | more]}])
        assert words.startswith("messages.0.content.0")
        assert "no model here" in words
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1"}

    def talk(use: dict[str, Any], made: dict[str, Any]) -> list[Any]:
        return [HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [made]}]

    assert fields_of(types.ToolUseBlockParam) == {
        "id", "input", "name", "type", "cache_control", "caller", "toolset_name",
    }  # fmt: skip
    plain = asked(messages=talk(call, result))
    assert asked(messages=talk(call | {"caller": {"type": "direct"}}, result)) == plain
    strange = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
    assert "caller" in refusal(messages=talk(call | {"caller": strange}, result))
    assert "toolset_name" in refusal(messages=talk(call | {"toolset_name": "computer"}, result))
    assert "toolset_name" in refusal(messages=talk(call, result | {"toolset_name": "computer"}))


def test_five_marks_are_too_many() -> None:
    marked = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}] * 4
    assert wanted_of(checked(body(system=marked), MessagesBody)).ttl == "5m"
    assert refusal(system=marked, cache_control=MARK) == (
        "A maximum of 4 blocks with cache_control may be provided. Found 5."
    )


DOCUMENT = {"role": "assistant", "content": [{"type": "document", "source": PLAIN}]}
CITED = {"role": "user", "content": [{"type": "text", "text": "a", "citations": [{"type": "char_location"}]}]}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"temperature": 1.0}, "temperature"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"messages": [HELLO, DOCUMENT]}, "messages.1.content.0"),
        ({"messages": [CITED]}, "messages.0.content.0.citations"),
    ],
)
def test_the_newest_version_refuses_what_it_removed(more: dict[str, Any], place: str) -> None:
    for given in (body(**more), checked(body(**more), MessagesBody)):
        check_version(OLDER, given)
        with pytest.raises(ApiError, match=f"{place}: version {NEWEST}") as caught:
            check_version(NEWEST, given)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": None},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": PLAIN}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "citations": []}]}]},
        {"messages": "no list"},
        {"messages": [7, {"role": "user"}, {"role": "assistant", "content": 7}]},
    ],
)
def test_the_newest_version_takes_the_rest(more: dict[str, Any]) -> None:
    check_version(NEWEST, body(**more))
