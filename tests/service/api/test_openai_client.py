"""The official `openai` client, unmodified, against the server over TCP: calls, streams, forms, tools, errors, retries."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest

if find_spec("openai") is None:
    pytest.skip("openai is not installed: pip install -e '.[dev]'", allow_module_level=True)

import openai
from lobby import MODEL, OTHER, Hall, Said, open_hall
from pydantic import BaseModel

from charter.ground.generate.remote import RemoteAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import assistant, system, user

SAID: list[Any] = [{"role": "user", "content": "How do bees find their way?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city"],
        },
    },
}


class Trip(BaseModel):
    city: Literal["Rome", "Oslo"]
    days: int


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as made:
        yield made


@pytest.fixture(scope="module")
def key(hall: Hall) -> str:
    return hall.key()


@pytest.fixture(scope="module")
def client(hall: Hall, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{hall.url}/v1", api_key=key, max_retries=0) as made:
        yield made


def test_models_are_listed_and_got(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, OTHER]
    assert client.models.retrieve(OTHER).owned_by == "charter"


def test_a_chat_whole_and_streamed(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": SAID, "max_tokens": 9, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert text and whole.choices[0].finish_reason == "length" and whole.usage
    assert whole.usage.completion_tokens == 9 and whole._request_id and whole._request_id.startswith("req_")
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == text
    assert pieces[-1].usage and pieces[-1].usage.total_tokens == whole.usage.total_tokens
    with client.chat.completions.stream(**asked) as stream:
        stream.until_done()
        assert stream.current_completion_snapshot.choices[0].message.content == text


def test_an_asynchronous_client_reads_and_leaves_streams(hall: Hall, key: str) -> None:
    async def work() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{hall.url}/v1", api_key=key) as client:
            asked: dict[str, Any] = {"model": MODEL, "messages": SAID, "max_tokens": 9, "temperature": 0}
            stream = await client.chat.completions.create(**asked, stream=True)
            streamed = "".join([c.choices[0].delta.content or "" async for c in stream])
            left = await client.chat.completions.create(**asked | {"max_tokens": 900}, stream=True)
            async for _ in left:
                break
            await left.close()
            found = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(6)))
            (text,) = {one.choices[0].message.content for one in found}
            return streamed, str(text)

    streamed, text = asyncio.run(work())
    assert streamed == text


def test_texts_with_log_probabilities(client: openai.OpenAI) -> None:
    found = client.completions.create(model=MODEL, prompt="Bees", max_tokens=3, echo=True, logprobs=2, temperature=0)
    columns = found.choices[0].logprobs
    assert columns and columns.tokens and columns.token_logprobs and columns.top_logprobs
    assert "".join(columns.tokens[:-3]) == "Bees" and len(columns.token_logprobs) == len(columns.tokens)
    assert found.choices[0].text.startswith("Bees")
    pieces = client.completions.create(model=MODEL, prompt="Bees", max_tokens=3, stream=True, temperature=0)
    assert "Bees" + "".join(piece.choices[0].text for piece in pieces) == found.choices[0].text
    chat = client.chat.completions.create(
        model=MODEL, messages=SAID, max_tokens=2, logprobs=True, top_logprobs=2, temperature=0
    )
    content = chat.choices[0].logprobs and chat.choices[0].logprobs.content
    assert content and content[0].logprob == content[0].top_logprobs[0].logprob < 0


def test_a_form_comes_back_as_an_object(client: openai.OpenAI) -> None:
    found = client.chat.completions.parse(model=MODEL, messages=SAID, response_format=Trip, max_tokens=60)
    trip = found.choices[0].message.parsed
    assert isinstance(trip, Trip) and trip.city in ("Rome", "Oslo")


def test_tools_are_called_and_answered(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": SAID, "tools": [WEATHER], "max_tokens": 120}
    forced = {"type": "function", "function": {"name": "weather"}}
    found = client.chat.completions.create(**asked, tool_choice=forced, parallel_tool_calls=False)
    choice = found.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather"
    given = json.loads(call.function.arguments)
    assert len(given["city"]) <= 8 and given.get("days", 0) <= 9
    talk = [*SAID, choice.message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    answered = client.chat.completions.create(**asked | {"messages": talk, "max_tokens": 5}, tool_choice="none")
    assert answered.choices[0].message.content and not answered.choices[0].message.tool_calls
    with client.chat.completions.stream(**asked, tool_choice="required", seed=2) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    calls = streamed.message.tool_calls or []
    assert calls and all("city" in json.loads(one.function.arguments) for one in calls)


def test_errors_are_the_clients_own(hall: Hall, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": SAID, "max_tokens": 2}
    with pytest.raises(openai.NotFoundError) as lost:
        client.chat.completions.create(**asked | {"model": "gpt-9"})
    assert lost.value.code == "model_not_found" and "gpt-9" in str(lost.value)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(**asked | {"temperature": 3})
    assert bad.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-charter-wrong").chat.completions.create(**asked)
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key=hall.key(models=(OTHER,))).chat.completions.create(**asked)
    with pytest.raises(openai.RateLimitError) as limited:
        small = client.with_options(api_key=hall.key(limits={"input_tokens_per_minute": 4}))
        small.chat.completions.create(**asked)
    assert limited.value.response.headers["x-ratelimit-limit-tokens"]


def test_the_client_comes_again_when_it_is_told_to(hall: Hall, client: openai.OpenAI) -> None:
    """A key with one request at a time: the second is refused with `retry-after`, and passes once the first is left."""
    narrow = client.with_options(api_key=hall.key(limits={"concurrency": 1}), max_retries=4)
    asked: dict[str, Any] = {"model": MODEL, "messages": SAID, "max_tokens": 900}
    first = narrow.chat.completions.create(**asked, stream=True, seed=0)
    next(iter(first))
    with pytest.raises(openai.RateLimitError):
        narrow.with_options(max_retries=0).chat.completions.create(**asked | {"max_tokens": 1})
    timer = threading.Timer(0.2, first.close)
    timer.start()
    raw = narrow.chat.completions.with_raw_response.create(**asked | {"max_tokens": 1})
    assert raw.retries_taken >= 1 and raw.parse().choices[0].message.content is not None
    timer.join()


def test_our_own_remote_client_works(hall: Hall, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    remote = RemoteAssistant(f"openai:{hall.url}#{MODEL}")
    greedy = Sampling(temperature=0, max_tokens=6)
    talk = [system("Be brief."), user("How do bees find their way?")]
    ((whole,),) = remote.reply([talk], greedy)
    assert whole.text and whole.stop == "length"
    ((rest,),) = remote.reply([[*talk, assistant(whole.text[:3])]], greedy)
    assert rest.text.startswith(whole.text[3:])
    ((plain,), (other,)) = remote.reply(["Bees find", "Honey is"], greedy)
    assert plain.text and plain.text != other.text
    sampled = remote.reply([talk], Sampling(max_tokens=8, top_k=50, top_p=0.9, stops=("zzz",)), n=3)[0]
    assert len({one.text for one in sampled}) > 1


def test_our_own_remote_client_works_in_anthropics_shape(hall: Hall, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    remote = RemoteAssistant(f"anthropic:{hall.url}#{MODEL}")
    greedy = Sampling(temperature=0, max_tokens=6, stops=("zzz",))
    talk = [system("Be brief."), user("How do bees find their way?")]
    ((whole,),) = remote.reply([talk], greedy)
    ((rest,),) = remote.reply([[*talk, assistant(whole.text[:3])]], greedy)
    assert whole.stop == "length" and rest.text.startswith(whole.text[3:])


def test_a_reply_that_repeated_itself(tmp_path: Path) -> None:
    said = Said("Yes.", stop="loop")
    with open_hall(tmp_path, said=said) as hall, openai.OpenAI(base_url=f"{hall.url}/v1", api_key=hall.key()) as client:
        choice = client.chat.completions.create(model=MODEL, messages=SAID).choices[0]
        chunks = list(
            client.chat.completions.create(model=MODEL, messages=SAID, stream=True, extra_body={"loop_stop": False})
        )
        client.completions.create(model=MODEL, prompt="Yes")
    assert (choice.finish_reason, choice.to_dict()["stop_reason"]) == ("stop", "repetition")
    assert chunks[-1].choices[0].to_dict()["stop_reason"] == "repetition"
    assert [one.sampling.loop_stop for one in said.asked] == [True, False, False]
