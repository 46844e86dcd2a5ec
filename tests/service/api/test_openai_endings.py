"""How answers of 2023 and of OpenAI's shapes end when something else than the model ends them: the policy, a failure before
or in the middle, a client that goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lobby import MODEL, Said, Watch, configuration, open_hall, until, watching

from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter_service.api.errors import ApiError

WORD = "zeppelin"
CHAT, TEXT, COMPLETE = "/v1/chat/completions", "/v1/completions", "/v1/complete"
VERSIONS = ("2023-06-01", "2023-01-01")


@contextmanager
def served(folder: Path, said: Said, policy: bool = False) -> Iterator[httpx2.Client]:
    """A client of a server that has a double behind it."""
    config = configuration(authenticate=False)
    with (
        open_hall(folder, config, watching(WORD) if policy else None, said=said) as hall,
        httpx2.Client(base_url=hall.url, timeout=30) as client,
    ):
        yield client


def complete(client: httpx2.Client, words: str, version: str = VERSIONS[0], **more: Any) -> httpx2.Response:
    body = {"model": MODEL, "prompt": f"\n\nHuman: {words}\n\nAssistant:", "max_tokens_to_sample": 50} | more
    return client.post(COMPLETE, json=body, headers={"anthropic-version": version})


def chat(client: httpx2.Client, words: str, **more: Any) -> httpx2.Response:
    return client.post(CHAT, json={"model": MODEL, "messages": [{"role": "user", "content": words}]} | more)


def events(answer: httpx2.Response) -> list[Any]:
    """The JSON of a stream's events, but for pings."""
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    told = [json.loads(line) for line in lines if line != "[DONE]"]
    return [event for event in told if event.get("type") != "ping"]


def test_a_refused_prompt_is_answered_with_the_reason(tmp_path: Path) -> None:
    said = Said("never said")
    with served(tmp_path, said, policy=True) as client:
        whole = complete(client, f"Tell me of the {WORD}").json()
        reason = whole["completion"].strip()
        assert reason and WORD not in reason and whole["stop_reason"] == "stop_sequence"
        for version in VERSIONS:
            stream = complete(client, f"Tell me of the {WORD}", version, stream=True)
            told = events(stream)
            text = told[-1]["completion"] if version == VERSIONS[1] else "".join(e["completion"] for e in told)
            assert text.strip() == reason and told[-1]["stop_reason"] == "stop_sequence"
        choice = chat(client, f"Tell me of the {WORD}").json()["choices"][0]
        assert choice["finish_reason"] == "content_filter" and choice["message"]["content"] is None
        assert choice["message"]["refusal"] == reason
        told = events(chat(client, f"Tell me of the {WORD}", stream=True))
        assert told[-1]["choices"][0]["finish_reason"] == "content_filter"
        assert "".join(e["choices"][0]["delta"].get("refusal") or "" for e in told) == reason
        plain = client.post(TEXT, json={"model": MODEL, "prompt": f"The {WORD}", "echo": True}).json()
        assert plain["choices"][0]["finish_reason"] == "content_filter" and plain["choices"][0]["text"] == ""
    assert not said.asked


def test_a_refused_reply_ends_before_what_is_refused(tmp_path: Path) -> None:
    pieces = ["A fine day "] * 60 + [f"for a {WORD} ", "over the sea."]
    with served(tmp_path, Said(*pieces), policy=True) as client:
        for version in VERSIONS:
            told = events(complete(client, "Hello", version, stream=True))
            text = told[-1]["completion"] if version == VERSIONS[1] else "".join(e["completion"] for e in told)
            assert WORD not in text and "\n\n" in text, "the reason stands apart"
        told = events(chat(client, "Hello", stream=True))
        assert told[-1]["choices"][0]["finish_reason"] == "content_filter"
        assert WORD not in json.dumps(told)


FAILURES: list[tuple[Exception, int, str]] = [
    (RuntimeError("a secret"), 500, "api_error"),
    (ApiError(529, "too much waits", retry_after=3), 529, "overloaded_error"),
]


@pytest.mark.parametrize(("failing", "status", "kind"), FAILURES)
def test_a_failure_before_the_first_word_is_an_error_of_http(
    tmp_path: Path, failing: Exception, status: int, kind: str
) -> None:
    with served(tmp_path, Said(failing=failing)) as client:
        for stream in (False, True):
            answers = [
                *(complete(client, "Hello", version, stream=stream) for version in VERSIONS),
                chat(client, "Hello", stream=stream),
                client.post(TEXT, json={"model": MODEL, "prompt": "Hello", "stream": stream}),
            ]
            for answer in answers:
                assert answer.status_code == status and "secret" not in answer.text
                assert answer.json()["error"]["type"] == kind
                assert (answer.headers.get("retry-after") == "3") == (status == 529)


@pytest.mark.parametrize(("failing", "status", "kind"), FAILURES)
def test_a_failure_in_the_middle_is_the_streams_last_event(
    tmp_path: Path, failing: Exception, status: int, kind: str
) -> None:
    with served(tmp_path, Said("So ", "far", failing=failing)) as client:
        june = complete(client, "Hello", stream=True).text
        assert (
            "event: error\ndata: " in june
            and events(complete(client, "Hello", stream=True))[-1]["error"]["type"] == kind
        )
        january = complete(client, "Hello", VERSIONS[1], stream=True)
        last = events(january)[-1]
        assert last["completion"] == " So far" and last["stop_reason"] is None
        assert last["exception"].startswith(f"{kind}: ") and january.text.rstrip().endswith("data: [DONE]")
        told = chat(client, "Hello", stream=True)
        assert events(told)[-1]["error"]["type"] == kind and told.text.rstrip().endswith("data: [DONE]")
        assert "secret" not in june + january.text + told.text


def test_a_client_that_goes_gives_the_reply_up(tmp_path: Path) -> None:
    said = Said("One ", "two ", "three")
    with served(tmp_path, said) as client:
        said.gate.clear()
        asks: list[tuple[str, dict[str, Any]]] = [
            (COMPLETE, {"prompt": "\n\nHuman: Hi\n\nAssistant:", "max_tokens_to_sample": 9}),
            (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
            (TEXT, {"prompt": ["Hi", "Ho"]}),
        ]
        for number, (path, body) in enumerate(asks):
            for stream in (False, True):
                before = said.given_up
                with pytest.raises(httpx2.ReadTimeout):
                    client.post(
                        path,
                        json={"model": MODEL, "stream": stream, **body},
                        headers={"anthropic-version": VERSIONS[0]} if not number else {},
                        timeout=0.3,
                    )
                until(lambda before=before: said.given_up > before and not said.under_way)  # type: ignore[misc]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A model whose every reply about one word is refused; prompts about it pass."""
    watch = Watch(WORD)
    watch.sides = frozenset({"reply"})
    folder, screen = tmp_path_factory.mktemp("hall"), Screen(shipped_policy(), [watch])
    with (
        open_hall(folder, configuration(authenticate=False), screen) as hall,
        httpx2.Client(base_url=hall.url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("tokens", [0, 3])
def test_nobody_is_told_what_may_follow_a_text_that_is_stopped(
    watched: httpx2.Client, stream: bool, ids: bool, tokens: int
) -> None:
    """With the likeliest next tokens a reply that is refused could be had a token at a time."""

    def asked(words: str) -> list[dict[str, Any]]:
        cut = {"model": MODEL, "messages": [{"role": "user", "content": "Go on"}]}
        if ids:  # a conversation in the chat's own markers, and the reply so far
            prompt = watched.post("/tokenize", json=cut).json()["tokens"]
            prompt += watched.post("/tokenize", json={"model": MODEL, "prompt": words}).json()["tokens"]
        given = {"prompt": prompt if ids else words, "echo": True, "logprobs": 5, "max_tokens": tokens}
        answer = watched.post(TEXT, json={"model": MODEL, "stream": stream, **given})
        assert answer.status_code == 200, answer.text
        return events(answer) if stream else [answer.json()]

    for words, stopped in ((f"They say the {WORD} is", True), ("They say the bees are", False)):
        choices = [choice for answer in asked(words) for choice in answer["choices"]]
        told = [one for choice in choices for one in (choice["logprobs"] or {}).get("tokens", ())]
        assert (choices[-1]["finish_reason"] == "content_filter") is stopped
        assert bool(told) is not stopped
