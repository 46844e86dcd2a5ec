"""OpenAI's two shapes as they go over the wire: fields, chunks, log-probabilities, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lobby import MODEL, Hall, open_hall

import toys
from charter.ground.generate.scorer import score
from charter.ground.model.checkpoint import load_policy
from charter.ground.text.template import Template
from charter_service.api.model_request import Token
from charter_service.api.wire.openai import Columns

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SAID = [{"role": "user", "content": "How do bees find their way?"}]
PROMPT = "Bees find their way by the sun, and tell each other"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hall")


@pytest.fixture(scope="module")
def hall(folder: Path) -> Iterator[Hall]:
    with open_hall(folder) as made:
        yield made


@pytest.fixture(scope="module")
def client(hall: Hall) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {hall.key()}"}
    with httpx2.Client(base_url=hall.url, headers=headers, timeout=60) as made:
        yield made


def chat(client: httpx2.Client, status: int = 200, **body: Any) -> Any:
    given = {"model": MODEL, "messages": SAID, "max_tokens": 6, "temperature": 0} | body
    answer = client.post(CHAT, json=given)
    assert answer.status_code == status, answer.text
    return chunks_of(answer.text) if body.get("stream") and status == 200 else answer.json()


def text(client: httpx2.Client, status: int = 200, **body: Any) -> Any:
    given = {"model": MODEL, "prompt": PROMPT, "max_tokens": 6, "temperature": 0} | body
    answer = client.post(TEXT, json=given)
    assert answer.status_code == status, answer.text
    return chunks_of(answer.text) if body.get("stream") and status == 200 else answer.json()


def chunks_of(stream: str) -> list[Any]:
    """The chunks of a stream that ends as it should."""
    *blocks, done = stream.strip("\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_a_chat_completion_has_its_fields(client: httpx2.Client) -> None:
    found = chat(client)
    assert found.pop("id").startswith("chatcmpl-") and found.pop("created") > 1.7e9
    assert found.pop("system_fingerprint").startswith("fp_")
    content = found["choices"][0]["message"].pop("content")
    assert len(content) >= 6
    assert found == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": found["usage"],
    }
    used = found["usage"]
    assert (used["completion_tokens"], used["total_tokens"]) == (6, used["prompt_tokens"] + 6)


def test_headers_say_what_is_left_and_name_the_request(client: httpx2.Client) -> None:
    answer = client.post(CHAT, json={"model": MODEL, "messages": SAID, "max_tokens": 1})
    names = {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}
    assert names <= set(answer.headers) and answer.headers["x-request-id"].startswith("req_")
    assert not [name for name in answer.headers if name.startswith("anthropic")]


def test_a_stream_says_what_the_whole_says(client: httpx2.Client) -> None:
    asked: dict[str, Any] = {"n": 2, "temperature": 1, "seed": 5, "max_tokens": 9}
    whole = chat(client, **asked)
    chunks = chat(client, stream=True, stream_options={"include_usage": True}, **asked)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    for index, choice in enumerate(whole["choices"]):
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert "".join(c["delta"].get("content", "") for c in mine) == choice["message"]["content"]
        assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
    assert len({choice["message"]["content"] for choice in whole["choices"]}) == 2
    assert "usage" not in chat(client, stream=True)[0]


def test_a_seed_gives_the_same_reply_and_none_another(client: httpx2.Client) -> None:
    def one(**more: Any) -> str:
        return str(chat(client, temperature=1, max_tokens=12, **more)["choices"][0]["message"]["content"])

    assert one(seed=3) == one(seed=3) != one(seed=-4)
    assert len({one() for _ in range(3)}) > 1


def test_stops_cut_the_text_and_are_told_in_vllms_field(client: httpx2.Client) -> None:
    whole = chat(client, max_tokens=10)["choices"][0]["message"]["content"]
    stop = whole[4:6]
    for given in (stop, ["never", stop]):
        choice = chat(client, max_tokens=10, stop=given)["choices"][0]
        assert choice["message"]["content"] == whole[: whole.index(stop)]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


def test_a_last_turn_of_the_assistants_is_continued(client: httpx2.Client) -> None:
    whole = chat(client, max_tokens=8)["choices"][0]["message"]["content"]
    begun = [*SAID, {"role": "assistant", "content": whole[:3]}]
    flags: list[dict[str, Any]] = [{}, {"continue_final_message": True, "add_generation_prompt": False}]
    for more in flags:
        found = chat(client, messages=begun, max_tokens=8, **more)["choices"][0]["message"]["content"]
        assert found.startswith(whole[3:8])
    wrong = [
        chat(client, 400, messages=begun, add_generation_prompt=True),
        chat(client, 400, continue_final_message=True),
        chat(client, 400, messages=begun, continue_final_message=True, add_generation_prompt=True),
    ]
    assert all("message" in one["error"]["message"] for one in wrong)


def test_messages_of_all_roles_become_turns(client: httpx2.Client) -> None:
    parts = [{"type": "text", "text": "How do bees "}, {"type": "text", "text": "find their way?"}]
    same = chat(client, messages=[{"role": "user", "content": parts}])
    assert same["choices"][0]["message"] == chat(client)["choices"][0]["message"]
    talk = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather in Paris?", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "user", "content": "And tomorrow?"},
    ]
    assert chat(client, messages=talk)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "must be the user's"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.user.content",
            "only parts of type text, not image_url",
        ),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages", "answers no call"),
        ({"presence_penalty": 0.5}, "presence_penalty", "only 0 is offered here"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "at most 0 items"),
        ({"stop": ["a"] * 17}, "stop", "at most 16 items"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"max_tokens": 4000}, "max_tokens", "4000 > 1024"),
        ({"modalities": ["audio"]}, "modalities", "only in text"),
        ({"frobnicate": 1}, "frobnicate", "not permitted"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.json_schema", "required"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "zoo"}}}},
            None,
            "zoo",
        ),
    ],
)
def test_what_cant_be_done_is_refused_by_name(
    client: httpx2.Client, body: dict[str, Any], param: str | None, said: str
) -> None:
    error = chat(client, 400, **body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and said in error["message"]
    assert error["param"] == param


def test_completions_take_many_prompts_and_shapes(client: httpx2.Client) -> None:
    ids = toys.tokenizer().encode_document(PROMPT)
    one = text(client)["choices"][0]["text"]
    for prompt in (PROMPT, [PROMPT], ids, [ids]):
        assert text(client, prompt=prompt)["choices"][0]["text"] == one
    several = text(client, prompt=[PROMPT, "Honey", PROMPT], n=2, best_of=2)
    choices = several["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert [choices[n]["text"] for n in (0, 1, 4, 5)] == [one] * 4 != choices[2]["text"]
    assert several["usage"]["completion_tokens"] == 36
    stream = text(client, prompt=[PROMPT, "Honey"], n=2, stream=True, stream_options={"include_usage": True})
    for index in range(4):
        mine = [c for chunk in stream for c in chunk["choices"] if c["index"] == index]
        assert "".join(c["text"] for c in mine) == choices[index]["text"]
        assert mine[-1]["finish_reason"] == "length"
    assert stream[-1]["usage"]["completion_tokens"] == 24


def test_log_probabilities_are_the_scorers(client: httpx2.Client, hall: Hall, folder: Path) -> None:
    model, tokenizer = load_policy(folder / "policy")
    ids = tokenizer.encode_document(PROMPT)
    (expected,) = score(model, [(ids[:1], [ids[1:]])])
    found = text(client, echo=True, logprobs=3, max_tokens=0)["choices"][0]
    columns = found["logprobs"]
    assert found["text"] == PROMPT and columns["token_logprobs"][0] is None
    assert columns["token_logprobs"][1:] == pytest.approx(expected[0], abs=1e-5)
    assert "".join(columns["tokens"]) == PROMPT and columns["text_offset"][2] == len("".join(columns["tokens"][:2]))
    for mine, top in zip(columns["token_logprobs"][1:], columns["top_logprobs"][1:], strict=True):
        assert len(top) in (3, 4) and mine in top.values()
    # what is sampled, alone and behind an echo, and in chat's shape
    wrote = text(client, echo=True, logprobs=1, max_tokens=5)["choices"][0]["logprobs"]
    alone = text(client, logprobs=1, max_tokens=5)["choices"][0]
    assert wrote["token_logprobs"][len(ids) :] == alone["logprobs"]["token_logprobs"]
    assert wrote["text_offset"][len(ids)] == len(PROMPT)
    again = tokenizer.encode(PROMPT + alone["text"])
    if again[: len(ids)] == ids and tokenizer.decode(again[len(ids) :]) == alone["text"] and len(again) == len(ids) + 5:
        (both,) = score(model, [(ids, [again[len(ids) :]])])
        assert alone["logprobs"]["token_logprobs"] == pytest.approx(both[0], abs=1e-4)
    assert all(max(top.values()) == mine for mine, top in zip(
        alone["logprobs"]["token_logprobs"], alone["logprobs"]["top_logprobs"], strict=True))  # fmt: skip


def test_sampled_chat_tokens_have_the_scorers_log_probabilities(client: httpx2.Client, folder: Path) -> None:
    model, tokenizer = load_policy(folder / "policy")
    spelled = {tokenizer.spelling(token): token for token in reversed(range(tokenizer.vocab_size))}
    found = chat(client, temperature=1, seed=1, max_tokens=8, logprobs=True, top_logprobs=2)["choices"][0]
    entries = found["logprobs"]["content"]
    assert b"".join(bytes(e["bytes"]) for e in entries).decode(errors="replace") == found["message"]["content"]
    ids = [spelled[bytes(entry["bytes"])] for entry in entries]
    prompt = toys_template_ids(folder)
    (expected,) = score(model, [(prompt, [ids])])
    assert [entry["logprob"] for entry in entries] == pytest.approx(expected[0], abs=1e-4)
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)
    plain = chat(client, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert all(entry["top_logprobs"] == [] for entry in plain)


def toys_template_ids(folder: Path) -> list[int]:
    """The prompt of the chat tests as the model reads it."""
    _, tokenizer = load_policy(folder / "policy")
    return Template(tokenizer, tokenizer.template).encode_prompt(SAID)  # type: ignore[arg-type]


def test_an_end_token_is_told_beside_the_text_it_is_not_in(client: httpx2.Client) -> None:
    """Evaluation tools ask for one token behind what they score, and cut off its entry: it must always be there."""
    asked: dict[str, Any] = {"n": 128, "max_tokens": 1, "temperature": 2, "logprobs": 1, "echo": True}
    choices = [c for seed in range(4) for c in text(client, seed=seed, **asked)["choices"]]
    assert {len(choice["logprobs"]["tokens"]) for choice in choices} == {len(choices[0]["logprobs"]["tokens"])}
    ended = [choice for choice in choices if choice["finish_reason"] == "stop"]
    assert ended, "none of 512 samples is an end token"
    assert all(c["text"] == PROMPT and c["logprobs"]["tokens"][-1].startswith("<|") for c in ended)
    streams = [text(client, seed=seed, stream=True, **asked) for seed in range(4)]
    last = [c for stream in streams for chunk in stream for c in chunk["choices"] if c["finish_reason"] == "stop"]
    assert len(last) == len(ended) and all(len(c["logprobs"]["tokens"]) == 1 for c in last)


def test_offsets_count_characters_not_bytes() -> None:
    raws = ["é".encode(), "雪".encode()[:1], "雪".encode()[1:], b"x"]
    tokens = [Token(raw.decode(errors="replace"), raw, -1.0) for raw in raws]
    columns = Columns(1)
    assert columns.form(tokens[:2])["text_offset"] == [0, 1]
    assert columns.form(tokens[2:])["text_offset"] == [1, 2]
    endless = columns.form([Token("y", b"y", -math.inf, (("y", b"y", -math.inf),))])
    assert endless["token_logprobs"] == [-9999.0] and json.dumps(endless, allow_nan=False)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_tokens": 0}, "needs echo"),
        ({"max_tokens": 0, "echo": True, "n": 2}, "n must be 1"),
        ({"best_of": 3}, "best_of equal to n"),
        ({"suffix": "the end"}, "at most 0 characters"),
        ({"logprobs": 6}, "less than or equal to 5"),
        ({"prompt": []}, "at least 1 item"),
        ({"prompt": [[5, 999999]]}, "there is no token 999999"),
        ({"prompt": ""}, "empty prompt"),
        ({"prompt": "word " * 3000}, "prompt is too long"),
    ],
)
def test_completions_refuse_what_they_dont_do(client: httpx2.Client, body: dict[str, Any], said: str) -> None:
    assert said in text(client, 400, **body)["error"]["message"]


def test_forms_hold_replies(client: httpx2.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    formats: list[dict[str, Any]] = [
        {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema, "strict": True}},
        {"type": "json_object"},
    ]
    for form in formats:
        for stream in (False, True):
            found = chat(client, response_format=form, max_tokens=80, temperature=1, stream=stream)
            content = (
                "".join(c["choices"][0]["delta"].get("content", "") for c in found)
                if stream
                else found["choices"][0]["message"]["content"]
            )
            value = json.loads(content)
            assert isinstance(value, dict)
            if form["type"] == "json_schema":
                assert value["city"] in ("Rome", "Oslo") and value["days"] <= 9
    said = chat(client, 400, response_format=formats[0], max_tokens=3)["error"]["message"]
    assert "max_tokens is 3" in said


def test_ids_are_cut_and_spelled_as_vllm_does(client: httpx2.Client) -> None:
    tokenizer = toys.tokenizer()
    found = client.post("/tokenize", json={"prompt": PROMPT, "add_special_tokens": False}).json()
    assert found["tokens"] == tokenizer.encode(PROMPT) and found["count"] == len(found["tokens"])
    assert client.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": PROMPT}
    used = chat(client)["usage"]["prompt_tokens"]
    assert client.post("/tokenize", json={"model": MODEL, "messages": SAID}).json()["count"] == used
    assert client.post("/tokenize", json={}).status_code == 400
