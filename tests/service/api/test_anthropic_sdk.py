"""Anthropic's own client, as it is published, against a server of toys: what it is given, and what it raises."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from lobby import ALIAS, MODEL, OTHER, Hall, Said, configuration, open_hall, until

from charter_service.api.errors import KINDS, ApiError
from charter_service.web.refusal import Refusal

anthropic = pytest.importorskip("anthropic", minversion="2", reason="anthropic's client of 2026 is not installed")

HELLO: Any = [{"role": "user", "content": "Hello there"}]
# its version of the API has no temperature any more; an earlier one has
GREEDY: dict[str, Any] = {"extra_body": {"temperature": 0}, "extra_headers": {"anthropic-version": "2023-06-01"}}
LOOK: Any = {
    "name": "look",
    "description": "Looks at a place.",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string", "maxLength": 8}}, "required": ["at"]},
}


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as hall:
        yield hall


OPENED: list[anthropic.Anthropic] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Closes the clients of a test, whose connections would else be found open at some later time."""
    yield
    while OPENED:
        OPENED.pop().close()


def client(hall: Hall, **more: Any) -> Any:
    given: dict[str, Any] = {"base_url": hall.url, "api_key": hall.key(), "max_retries": 0, "timeout": 30.0}
    OPENED.append(anthropic.Anthropic(**(given | more)))
    return OPENED[-1]


def test_a_message(hall: Hall) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "messages": HELLO, **GREEDY}
    message = client(hall).messages.create(**asked, system="Be brief.")
    assert message.content[0].type == "text"
    assert message.usage.output_tokens == 8
    assert message.stop_reason == "max_tokens"
    assert message._request_id.startswith("req_")


def test_a_reply_that_repeated_itself(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("Yes.", stop="loop")) as hall:
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "messages": HELLO}
        message = client(hall).messages.create(**asked)
        with client(hall).messages.stream(**asked, extra_body={"loop_stop": True}) as stream:
            streamed = stream.get_final_message()
    assert message.stop_reason == streamed.stop_reason == "end_turn"
    assert message.stop_details.type == streamed.stop_details.type == "repetition"


def test_headers_can_be_read(hall: Hall) -> None:
    answer = client(hall).messages.with_raw_response.create(model=MODEL, max_tokens=1, messages=HELLO)
    assert int(answer.headers["anthropic-ratelimit-requests-limit"]) == 4000
    assert answer.parse().usage.output_tokens == 1


def test_streams(hall: Hall) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 12, "messages": HELLO, **GREEDY}
    whole = client(hall).messages.create(**asked)
    with client(hall).messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    kinds = [event.type for event in client(hall).messages.create(**asked, stream=True)]
    assert text == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.stop_reason == whole.stop_reason
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_the_asynchronous_client(hall: Hall) -> None:
    async def ask() -> tuple[Any, str, int]:
        async with anthropic.AsyncAnthropic(base_url=hall.url, api_key=hall.key(), max_retries=0) as ours:
            asked: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": HELLO, **GREEDY}
            several = await asyncio.gather(*(ours.messages.create(**asked) for _ in range(3)))
            async with ours.messages.stream(**asked) as stream:
                text = "".join([part async for part in stream.text_stream])
            counted = await ours.messages.count_tokens(model=MODEL, messages=HELLO)
            return several, text, counted.input_tokens

    several, text, counted = asyncio.run(ask())
    assert {message.content[0].text for message in several} == {text}
    assert counted == several[0].usage.input_tokens


def test_tools_and_their_results(hall: Hall) -> None:
    ours, asked = client(hall), {"model": MODEL, "max_tokens": 80, "tools": [LOOK]}
    message = ours.messages.create(**asked, messages=HELLO, tool_choice={"type": "any"})
    (call, *_) = message.content
    assert message.stop_reason == "tool_use"
    assert (call.type, call.name) == ("tool_use", "look")
    assert set(call.input) == {"at"}
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": "A bird."} for c in message.content]
    turns: Any = [*HELLO, message.to_param(), {"role": "user", "content": results}]
    again = ours.messages.create(**asked, messages=turns, tool_choice={"type": "auto"})
    assert again.stop_reason in ("end_turn", "max_tokens", "tool_use")
    with ours.messages.stream(**asked, messages=HELLO, tool_choice={"type": "tool", "name": "look"}) as stream:
        told = "".join(e.partial_json for e in stream if e.type == "input_json")
        final = stream.get_final_message()
    assert told
    assert set(final.content[0].input) == {"at"}


def test_counting(hall: Hall) -> None:
    ours = client(hall)
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "system": "Be brief.", "tools": [LOOK]}
    counted = ours.messages.count_tokens(**asked)
    assert counted.input_tokens == ours.messages.create(**asked, max_tokens=1).usage.input_tokens
    assert ours.beta.messages.count_tokens(**asked).input_tokens == counted.input_tokens


def test_models(hall: Hall) -> None:
    found = list(client(hall).models.list(limit=1))
    assert [model.id for model in found] == [MODEL, OTHER]
    one = client(hall).models.retrieve(ALIAS)
    assert (one.id, one.display_name, one.lifecycle) == (MODEL, "Toy 2", "active")
    assert (one.max_input_tokens, one.max_tokens) == (1024, 1024)
    able = one.capabilities
    assert able.batch.supported and able.structured_outputs.supported and able.thinking.types.disabled.supported
    assert not (able.image_input.supported or able.thinking.supported or able.effort.high.supported)
    known = set(type(able).model_fields)
    assert known == set(one.to_dict()["capabilities"]), "each capability that the client knows is told"
    assert [model.id for model in client(hall).models.list(lifecycle=["retired"])] == []
    with pytest.raises(anthropic.BadRequestError, match="lifecycle: 'new' is no stage"):
        client(hall).models.list(lifecycle=["new"])


def test_usage_has_the_fields_of_the_client(hall: Hall) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 3, "messages": HELLO}
    usage = client(hall).messages.create(**asked).usage
    assert set(type(usage).model_fields) == set(usage.to_dict())
    assert usage.output_tokens_details.thinking_tokens == 0
    assert (usage.service_tier, usage.speed, usage.server_tool_use) == ("standard", "standard", None)
    start, *_, delta, _ = client(hall).messages.create(**asked, stream=True)
    assert start.message.usage.output_tokens == 1
    assert set(type(delta.usage).model_fields) <= set(delta.usage.to_dict())


def test_a_cache_that_was_asked_for_is_told_of(hall: Hall) -> None:
    long: Any = [{"role": "user", "content": "Tell me how bees find their way home. " * 20}]
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 2, "messages": long, "system": "A first."}
    mark: Any = {"type": "ephemeral", "ttl": "1h"}
    first, again = (client(hall).messages.create(**asked, cache_control=mark).usage for _ in range(2))
    total = client(hall).messages.count_tokens(model=MODEL, messages=long, system="A first.").input_tokens
    for usage in (first, again):
        parts = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
        assert sum(parts) == total
    assert first.cache_creation_input_tokens > total // 2
    assert first.cache_creation.ephemeral_1h_input_tokens == first.cache_creation_input_tokens
    assert first.cache_creation.ephemeral_5m_input_tokens == 0
    assert again.cache_read_input_tokens >= first.cache_creation_input_tokens
    assert again.cache_creation_input_tokens == 0
    plain = client(hall).messages.create(**asked).usage
    assert (plain.input_tokens, plain.cache_read_input_tokens) == (total, 0)


def test_the_version_of_the_client_has_no_sampling_settings(hall: Hall) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 3, "messages": HELLO}
    ours = client(hall).messages
    for name in ("temperature", "top_p", "top_k"):
        with pytest.raises(anthropic.BadRequestError, match=f"{name}: version 2026-10-21 has no such"):
            ours.create(**asked, extra_body={name: 1})
        with pytest.raises(anthropic.BadRequestError, match=rf"requests.0.params.{name}: version 2026-10-21"):
            ours.batches.create(requests=[{"custom_id": "a", "params": {**asked, name: 1}}])
    with pytest.raises(anthropic.BadRequestError, match=r"messages.1.content.0: version 2026-10-21"):
        document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A."}}
        ours.count_tokens(model=MODEL, messages=[*HELLO, {"role": "assistant", "content": [document]}])


def test_headers_that_ask_for_what_is_not_offered(hall: Hall) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 3, "messages": HELLO}
    ours = client(hall)
    with pytest.raises(anthropic.BadRequestError, match="anthropic-beta: `files-api-2023-01-01` names nothing"):
        ours.beta.messages.create(**asked, betas=["token-counting-2024-11-01", "files-api-2023-01-01"])
    with pytest.raises(anthropic.BadRequestError, match="anthropic-workspace-id: there are no workspaces"):
        ours.messages.create(**asked, workspace_id="wrkspc_1")
    with pytest.raises(anthropic.BadRequestError, match="anthropic-user-profile-id: there are no user profiles"):
        ours.messages.count_tokens(model=MODEL, messages=HELLO, user_profile_id="uprof_1")
    with pytest.raises(anthropic.BadRequestError, match="anthropic-workspace-id"):
        ours.models.list(workspace_id="wrkspc_1")


def test_the_beta_surface_and_structured_output(hall: Hall) -> None:
    ours = client(hall).beta.messages
    shape = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 40,
        "messages": HELLO,
        "betas": ["structured-outputs-2025-11-13"],
    }
    message = ours.create(**asked, output_config={"format": {"type": "json_schema", "schema": shape}})
    assert '"sure"' in message.content[0].text
    with ours.stream(**asked) as stream:
        assert stream.get_final_message().usage.output_tokens > 0


def test_what_is_wrong_with_a_request(hall: Hall) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
    ours = client(hall)
    with pytest.raises(anthropic.AuthenticationError) as wrong_key:
        client(hall, api_key="sk-charter-wrong").messages.create(**asked)
    assert wrong_key.value.type == "authentication_error"
    with pytest.raises(anthropic.PermissionDeniedError):
        client(hall, api_key=hall.key(scopes=("feedback",))).messages.create(**asked)
    with pytest.raises(anthropic.PermissionDeniedError, match="may not use the model toy-2"):
        client(hall, api_key=hall.key(models=(OTHER,))).messages.create(**asked)
    with pytest.raises(anthropic.NotFoundError, match="model: claude-9"):
        ours.messages.create(**asked | {"model": "claude-9"})
    with pytest.raises(anthropic.NotFoundError):
        ours.messages.batches.retrieve("msgbatch_none")
    with pytest.raises(anthropic.BadRequestError) as bad:
        ours.messages.create(**asked | {"messages": []})
    assert bad.value.api_message == "messages: at least one message is required"
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id == bad.value.body["request_id"]
    with pytest.raises(anthropic.RequestTooLargeError):
        ours.messages.create(**asked | {"system": "x" * (33 * 2**20)})


def test_each_kind_of_error_of_the_client_has_a_status() -> None:
    shared = pytest.importorskip("anthropic.types.shared")
    known = {
        get_args(kind.model_fields["type"].annotation)[0]
        for name, kind in vars(shared).items()
        if name.endswith("ErrorObject") and "type" in getattr(kind, "model_fields", {})
    }
    assert {"billing_error", "timeout_error", "overloaded_error"} <= known
    assert known <= set(KINDS.values())
    said = {status: ApiError(status, "x").kind for status in (402, 408, 413, 504, 529)}
    assert said == {
        402: "billing_error",
        408: "timeout_error",
        413: "request_too_large",
        504: "timeout_error",
        529: "overloaded_error",
    }


def test_a_server_that_fails_or_has_too_much_to_do(tmp_path: Path) -> None:
    said = Said(failing=RuntimeError("broken"))
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
    with open_hall(tmp_path, said=said) as hall:
        with pytest.raises(anthropic.InternalServerError) as broken:
            client(hall).messages.create(**asked)
        assert broken.value.status_code == 500
        said.failing = ApiError(529, "too many requests wait", retry_after=1)
        with pytest.raises(anthropic.OverloadedError) as overloaded:
            client(hall).messages.create(**asked)
        assert overloaded.value.type == "overloaded_error"
        assert overloaded.value.response.headers["retry-after"] == "1"
        with pytest.raises(anthropic.OverloadedError):
            client(hall).messages.create(**asked, stream=True)
        said.pieces = ["One "]
        with pytest.raises(anthropic.APIStatusError) as late, client(hall).messages.stream(**asked) as stream:
            stream.until_done()
        assert late.value.body["error"]["type"] == "overloaded_error"
        said.pieces, said.failing = [], Refusal("gone", 409)
        with pytest.raises(anthropic.ConflictError):
            client(hall).messages.create(**asked)


def test_a_client_waits_as_it_is_told_and_tries_again(tmp_path: Path) -> None:
    said = Said("Yes.")
    with open_hall(tmp_path, configuration(), said=said) as hall:
        key = hall.key(limits={"requests_per_minute": 60})
        hall.service.admissions._clock = clock = Clock()
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
        ours = client(hall, api_key=key)
        for _ in range(60):
            ours.messages.create(**asked)
        with pytest.raises(anthropic.RateLimitError) as limited:
            ours.messages.create(**asked)
        assert limited.value.response.headers["retry-after"] == "1"
        clock.runs = True
        assert client(hall, api_key=key, max_retries=1).messages.create(**asked).content[0].text == "Yes."
        with pytest.raises(anthropic.RateLimitError) as never:
            small = hall.key(limits={"input_tokens_per_minute": 2})
            client(hall, api_key=small, max_retries=5).messages.create(**asked)
        assert never.value.response.headers["x-should-retry"] == "false"


class Clock:
    """Stands still until it runs: then every look takes a second."""

    def __init__(self) -> None:
        self.now, self.runs = 1_000_000.0, False

    def __call__(self) -> float:
        self.now += self.runs
        return self.now


def test_time_runs_out_and_the_slot_falls_free(tmp_path: Path) -> None:
    said = Said("One ", "two")
    with open_hall(tmp_path, said=said) as hall:
        said.gate.clear()
        with pytest.raises(anthropic.APITimeoutError):
            client(hall, timeout=0.2).messages.create(model=MODEL, max_tokens=5, messages=HELLO)
        until(lambda: said.given_up == 1)
        said.gate.set()
        with client(hall).messages.stream(model=MODEL, max_tokens=5, messages=HELLO) as stream:
            assert next(iter(stream.text_stream)) == "One "
        until(lambda: said.under_way == 0)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        ours = anthropic.Anthropic(base_url=url, api_key="x", max_retries=0)
        with pytest.raises(anthropic.APIConnectionError):
            ours.messages.create(model=MODEL, max_tokens=1, messages=HELLO)
