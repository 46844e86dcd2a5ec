r"""POST /v1/complete, byte by byte: both versions, streamed and not, the checks of a prompt, and what a model reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lobby import ALIAS, MODEL, Hall, Said, open_hall

import toys
from charter.ground.text.template import CLAUDE_2023, Template
from charter_service.api.errors import ApiError
from charter_service.api.wire.complete import messages_of

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
PROMPT = f"{HUMAN} How do bees find their way?{ASSISTANT}"
NEW, OLD = "2023-06-01", "2023-01-01"
FIRST = f'prompt must start with "{HUMAN}" turn'


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as made:
        yield made


@pytest.fixture(scope="module")
def key(hall: Hall) -> str:
    return hall.key()


def post(hall: Hall, key: str, version: str = NEW, **body: Any) -> httpx2.Response:
    given = {"model": MODEL, "prompt": PROMPT, "max_tokens_to_sample": 6, "temperature": 0} | body
    headers = {"x-api-key": key, "anthropic-version": version}
    return httpx2.post(
        f"{hall.url}/v1/complete", json=given, headers={k: v for k, v in headers.items() if v}, timeout=60
    )


def error_of(answer: httpx2.Response) -> str:
    body = answer.json()
    assert body["type"] == "error" and body["request_id"] == answer.headers["request-id"]
    return f"{answer.status_code} {body['error']['type']}: {body['error']['message']}"


def test_an_answer_has_the_fields_of_its_version(hall: Hall, key: str) -> None:
    new, old = (post(hall, key, version).json() for version in (NEW, OLD))
    assert new["completion"] == old["completion"] and len(new["completion"]) >= 6
    assert new.pop("id").startswith("compl_") and new.pop("log_id").startswith("req_")
    assert new == {
        "type": "completion",
        "completion": old["completion"],
        "stop_reason": "max_tokens",
        "model": MODEL,
        "stop": None,
    }
    assert old.pop("log_id").startswith("req_")
    assert old == {
        "completion": new["completion"],
        "stop_reason": "max_tokens",
        "model": MODEL,
        "stop": None,
        "truncated": False,
        "exception": None,
    }


def test_the_stream_of_june_is_named_events_with_what_is_new(hall: Hall, key: str) -> None:
    whole = post(hall, key).json()
    answer = post(hall, key, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.text.strip("\n").split("\n\n")
    assert blocks.pop(0) == 'event: ping\ndata: {"type":"ping"}'
    assert all(block.startswith('event: completion\ndata: {"type":"completion",') for block in blocks)
    events = [json.loads(block.split("data: ", 1)[1]) for block in blocks]
    assert "".join(event["completion"] for event in events) == whole["completion"]
    assert all(event["completion"] and event["stop_reason"] is None for event in events[:-1])
    assert (events[-1]["completion"], events[-1]["stop_reason"]) == ("", "max_tokens")
    assert len({event["id"] for event in events}) == 1
    # the toy repeats one token, and what may be a loop is held back
    assert len(events) >= 3
    assert "[DONE]" not in answer.text


def test_the_stream_of_january_is_nameless_events_with_all_so_far(hall: Hall, key: str) -> None:
    whole = post(hall, key).json()
    answer = post(hall, key, OLD, stream=True)
    ping, *blocks, done = answer.text.strip("\n").split("\n\n")
    assert ping == 'event: ping\ndata: {"type":"ping"}'
    assert not any("event:" in block for block in blocks)
    assert done == "data: [DONE]"
    events = [json.loads(block.removeprefix("data: ")) for block in blocks]
    texts = [event["completion"] for event in events]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == whole["completion"] and len(set(texts)) >= 2
    assert [event["stop_reason"] for event in events] == [None] * (len(events) - 1) + ["max_tokens"]
    assert all(event["truncated"] is False and event["exception"] is None for event in events)


def test_a_stop_sequence_ends_the_text_and_is_told(hall: Hall, key: str) -> None:
    text = post(hall, key, max_tokens_to_sample=12).json()["completion"]
    stop = text[3:5]
    found = post(hall, key, max_tokens_to_sample=12, stop_sequences=["never", stop]).json()
    assert found["completion"] == text[: text.index(stop)]
    assert (found["stop_reason"], found["stop"]) == ("stop_sequence", stop)


def test_a_turn_that_the_model_ends_is_stopped_by_the_built_in_sequence(hall: Hall, key: str) -> None:
    sampled = [post(hall, key, temperature=1, max_tokens_to_sample=400, top_k=-1, top_p=-1).json() for _ in range(4)]
    ended = [one for one in sampled if one["stop_reason"] == "stop_sequence"]
    assert ended, "no sample of 400 tokens ended; the toy's end token is likelier than that"
    assert all(one["stop"] == HUMAN and HUMAN not in one["completion"] for one in ended)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("How do bees find their way?", FIRST + " after an optional system prompt"),
        (f"{ASSISTANT} Hello{HUMAN} Hi{ASSISTANT}", FIRST + " after an optional system prompt"),
        (f"Human: Hi{ASSISTANT}", FIRST + " after an optional system prompt"),
        (f"{HUMAN} Hi", f'prompt must end with "{ASSISTANT}" turn'),
        (f"{HUMAN} Hi{ASSISTANT} Hello{HUMAN} Bye", f'prompt must end with "{ASSISTANT}" turn'),
        (
            f"{HUMAN} Hi{HUMAN} Hi{ASSISTANT}",
            f'prompt must alternate between "{HUMAN}" and "{ASSISTANT}" turns, but has two "{HUMAN}" in a row',
        ),
    ],
)
def test_a_prompt_out_of_order_is_refused_in_the_words_of_the_api(hall: Hall, key: str, prompt: str, said: str) -> None:
    answer = post(hall, key, prompt=prompt)
    assert error_of(answer) == f"400 invalid_request_error: {said}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_tokens_to_sample": 0}, "max_tokens_to_sample: Input should be greater than or equal to 1"),
        ({"max_tokens_to_sample": 5000}, "max_tokens_to_sample: 5000 > 1024, which is the maximum allowed"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"top_p": -0.5}, "top_p: expected a number from 0 to 1, or -1 for off"),
        ({"top_k": "9"}, "top_k: Input should be a valid integer"),
        ({"stop_sequences": [""]}, "stop_sequences.0: String should have at least 1 character"),
        ({"tags": {}}, "tags: Extra inputs are not permitted"),
        ({"metadata": {"user": "x"}}, "metadata.user: Extra inputs are not permitted"),
        ({"prompt": PROMPT.replace("bees", "bees " * 2000)}, "prompt is too long: "),
    ],
)
def test_a_body_that_is_wrong_is_refused_by_its_place(hall: Hall, key: str, body: dict[str, Any], said: str) -> None:
    assert error_of(post(hall, key, **body)).startswith(f"400 invalid_request_error: {said}")


def test_the_version_and_the_key_are_needed(hall: Hall, key: str) -> None:
    assert error_of(post(hall, key, "")).startswith(
        "400 invalid_request_error: anthropic-version: header is required; send anthropic-version: 2023-06-01"
    )
    assert error_of(post(hall, key, "2022-01-01")).startswith("400 invalid_request_error: anthropic-version")
    assert error_of(post(hall, "")).startswith("401 authentication_error")
    assert error_of(post(hall, key, model="claude-9")).startswith("404 not_found_error: model: claude-9")


def test_values_that_switch_nothing_on_change_nothing(hall: Hall, key: str) -> None:
    plain = post(hall, key).json()["completion"]
    more = {"top_k": -1, "top_p": -1, "stop_sequences": [], "metadata": {"user_id": "u-1"}, "stream": False}
    assert post(hall, key, **more).json()["completion"] == plain
    assert post(hall, key, temperature=1, top_p=0).json()["completion"] == plain, "top_p 0 is greedy"


def test_a_model_of_the_form_of_2023_reads_the_prompts_own_characters() -> None:
    tokenizer = toys.tokenizer().with_template(CLAUDE_2023)
    template = Template(tokenizer, CLAUDE_2023)
    prompts = [
        PROMPT,
        f"{HUMAN}  two spaces, a line\n\nand its end {ASSISTANT}",
        f"You are a bee.{HUMAN} Hi{ASSISTANT} Buzz, I",
        f"{HUMAN} \n{ASSISTANT} ends in a space ",
    ]
    for prompt in prompts:
        assert template.encode_prompt(messages_of(prompt)) == tokenizer.encode(prompt), prompt
    several = f"{HUMAN} Hi{ASSISTANT} Hello{HUMAN} Bye{ASSISTANT}"
    ids = template.encode_prompt(messages_of(several))
    ends = [at for at, token in enumerate(ids) if token == template.end_id]
    assert len(ends) == 1, "the end token that it was trained to write behind each reply"
    assert tokenizer.decode(ids) == several


def test_a_begun_turn_is_continued(hall: Hall, key: str) -> None:
    text = post(hall, key, max_tokens_to_sample=8).json()["completion"]
    begun = post(hall, key, prompt=f"{PROMPT} {text[:4]}", max_tokens_to_sample=8).json()["completion"]
    assert begun.startswith(text[4:8])


@pytest.mark.parametrize("version", [NEW, OLD])
def test_text_that_begins_a_turn_begins_with_a_space(tmp_path: Path, version: str) -> None:
    cases = {"Yes.": " Yes.", " Yes.": " Yes.", "\nYes.": "\nYes.", "": ""}
    said = Said()
    with open_hall(tmp_path, said=said) as hall:
        key = hall.key()
        for text, expected in cases.items():
            said.pieces = ["", *text]
            assert post(hall, key, version).json()["completion"] == expected
            streamed = events_of(post(hall, key, version, stream=True))
            texts = [event["completion"] for event in streamed]
            assert (texts[-1] if version == OLD else "".join(texts)) == expected
        said.pieces = ["Yes."]
        for prompt in (f"{PROMPT} I think", f"{PROMPT} "):
            assert post(hall, key, version, prompt=prompt).json()["completion"] == "Yes."


def events_of(answer: httpx2.Response) -> list[Any]:
    """The events of a stream that are JSON, without pings."""
    data = [block.split("data: ", 1)[1] for block in answer.text.strip("\n").split("\n\n")]
    found = [json.loads(one) for one in data if one != "[DONE]"]
    return [one for one in found if one.get("type") != "ping"]


def test_an_alias_is_answered_by_the_models_id(hall: Hall, key: str) -> None:
    answer = post(hall, key, model=ALIAS)
    assert answer.json()["model"] == MODEL
    assert answer.headers["anthropic-organization-id"] == hall.organisations["acme"]
    wrong = post(hall, key, model="claude-9")
    assert wrong.headers["anthropic-organization-id"] == hall.organisations["acme"]
    assert "anthropic-organization-id" not in post(hall, "sk-wrong").headers


def test_january_overlooks_what_its_client_checked() -> None:
    loose = f"Human: Hi{ASSISTANT} "
    assert messages_of(loose, lenient=True) == messages_of(f"{HUMAN} Hi{ASSISTANT}")
    with pytest.raises(ApiError, match="must start with"):
        messages_of(loose)
    with pytest.raises(ApiError, match=r'must start with "\n\nHuman:" turn$'):
        messages_of("Hi", lenient=True)
