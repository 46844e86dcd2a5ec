"""POST /v1/messages as it goes over the wire: shapes, the order of events, headers, and what is metered."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from lobby import ALIAS, MODEL, OTHER, Hall, Said, configuration, open_hall, until, watching

from charter_service.accounts.tables import DECISIONS, USAGE
from charter_service.api import local
from charter_service.api.held import Held
from charter_service.api.model_request import End, Piece

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as hall:
        yield hall


def headers(hall: Hall, **more: str) -> dict[str, str]:
    return {"x-api-key": hall.key(), "anthropic-version": "2023-06-01", **more}


def post(hall: Hall, path: str = "/v1/messages", **body: Any) -> httpx.Response:
    given = {"model": MODEL, "messages": HELLO} | ({} if "count" in path else {"max_tokens": 12}) | body
    return httpx.post(hall.url + path, headers=headers(hall), json=given, timeout=30)


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, read as its bytes stand: `event:` and `data:` lines, a blank one behind each."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def text_of(found: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["delta"]["text"] for name, data in found if name == "content_block_delta")


def test_a_message_in_one_piece(hall: Hall) -> None:
    answer = post(hall, temperature=0)
    assert answer.status_code == 200
    message = answer.json()
    assert message["id"].startswith("msg_")
    assert message["type"] == "message"
    assert message["role"] == "assistant"
    assert message["model"] == MODEL
    assert [block["type"] for block in message["content"]] == ["text"]
    assert message["stop_reason"] == "max_tokens"
    assert message["stop_sequence"] is None
    usage = message["usage"]
    assert usage["output_tokens"] == 12
    assert usage["cache_creation_input_tokens"] == usage["cache_read_input_tokens"] == 0
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["anthropic-organization-id"] == hall.organisations["acme"]
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "4000"
    kinds = ("requests", "tokens", "input-tokens", "output-tokens")
    assert all(f"anthropic-ratelimit-{kind}-reset" in answer.headers for kind in kinds)


def test_the_order_of_events(hall: Hall) -> None:
    answer = post(hall, stream=True, temperature=0)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "4000"
    found = events(answer.text)
    assert all(name == data["type"] for name, data in found)
    names = [name for name, _ in found]
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}
    start = found[0][1]["message"]
    assert start["content"] == []
    assert start["stop_reason"] is None
    assert start["usage"]["input_tokens"] > 0
    assert found[1][1] == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert found[-2][1]["usage"]["output_tokens"] == 12
    assert found[-2][1]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}


def test_streamed_and_whole_say_the_same(hall: Hall) -> None:
    for more in ({"temperature": 0}, {"temperature": 0, "system": "Be brief."}, {"top_k": 1}):
        whole, parts = post(hall, **more).json(), events(post(hall, **more, stream=True).text)
        assert text_of(parts) == whole["content"][0]["text"]
        assert parts[-2][1]["usage"].items() <= whole["usage"].items()


def test_sampled_text_is_the_same_streamed_or_not(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (3, 4):
        monkeypatch.setattr(local.secrets, "randbelow", lambda _, seed=seed: seed)
        whole, parts = post(hall).json(), events(post(hall, stream=True).text)
        assert text_of(parts) == whole["content"][0]["text"]


def test_counting_says_what_usage_says(hall: Hall) -> None:
    tool = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
    for more in (
        {},
        {"system": "Be brief."},
        {"tools": [tool]},
        {"messages": [*HELLO, {"role": "assistant", "content": "I"}]},
    ):
        counted = post(hall, "/v1/messages/count_tokens", **more)
        assert counted.status_code == 200
        assert counted.json() == {"input_tokens": post(hall, **more).json()["usage"]["input_tokens"]}


def test_a_begun_turn_is_continued(hall: Hall) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "I would say"}]
    alone, continued = post(hall, temperature=0).json(), post(hall, temperature=0, messages=begun).json()
    assert continued["usage"]["input_tokens"] > alone["usage"]["input_tokens"]
    assert not continued["content"][0]["text"].startswith("I would say")


def test_names_and_aliases(hall: Hall) -> None:
    assert post(hall, model=ALIAS).json()["model"] == MODEL
    assert post(hall, model=OTHER).json()["model"] == OTHER


@pytest.mark.parametrize(
    ("version", "status"), [(None, 400), ("2024-10-22", 400), ("2023-01-01", 200), ("2026-10-21", 200)]
)
def test_versions(hall: Hall, version: str | None, status: int) -> None:
    given = {"x-api-key": hall.key()} | ({"anthropic-version": version} if version else {})
    body = {"model": MODEL, "max_tokens": 1, "messages": HELLO}
    answer = httpx.post(f"{hall.url}/v1/messages", headers=given, json=body)
    assert answer.status_code == status
    if version is None:
        said = answer.json()["error"]["message"]
        assert said == "anthropic-version: header is required; send anthropic-version: 2023-06-01"


def test_numbers_stand_in_refusals(hall: Hall) -> None:
    long = post(hall, messages=[{"role": "user", "content": "word " * 1000}])
    assert long.status_code == 400
    assert "maximum" in long.json()["error"]["message"]
    most = post(hall, max_tokens=5000).json()["error"]["message"]
    assert most.startswith("max_tokens: 5000 > 1024, which is the maximum")


@pytest.mark.parametrize("body", ["", "[]", "{", '{"model": "\\ud800"}', "[" * 5000, '{"model": NaN}', "\x00"])
def test_what_is_no_request_is_refused(hall: Hall, body: str) -> None:
    answer = httpx.post(f"{hall.url}/v1/messages", headers=headers(hall), content=body.encode())
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_stop_sequences_are_named(tmp_path: Path) -> None:
    said = Said("one, ", "two", stop="stop", stopped_by="three")
    with open_hall(tmp_path, said=said) as hall:
        message = post(hall, stop_sequences=["three", "four"]).json()
        found = events(post(hall, stop_sequences=["three"], stream=True).text)
    assert message["stop_reason"] == "stop_sequence"
    assert message["stop_sequence"] == "three"
    assert message["content"] == [{"type": "text", "text": "one, two"}]
    assert found[-2][1]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "three"}
    assert said.asked[0].sampling.stops == ("three", "four")


@pytest.mark.parametrize(
    ("stop", "reason"), [("end", "end_turn"), ("length", "max_tokens"), ("context", "model_context_window_exceeded")]
)
def test_why_a_reply_ended(tmp_path: Path, stop: Any, reason: str) -> None:
    with open_hall(tmp_path, said=Said("Yes.", stop=stop)) as hall:
        assert post(hall).json()["stop_reason"] == reason
        assert events(post(hall, stream=True).text)[-2][1]["delta"]["stop_reason"] == reason


def test_a_reply_that_repeated_itself_says_so_and_may_go_on_by_request(tmp_path: Path) -> None:
    said = Said("Yes.", stop="loop")
    with open_hall(tmp_path, said=said) as hall:
        message = post(hall).json()
        delta = events(post(hall, stream=True, loop_stop=False).text)[-2][1]["delta"]
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert message["stop_details"]["type"] == "repetition"
    assert delta["stop_details"] == message["stop_details"]
    assert [one.sampling.loop_stop for one in said.asked] == [True, False]


def test_a_reply_of_no_words(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said()) as hall:
        assert post(hall).json()["content"] == []
        names = [name for name, _ in events(post(hall, stream=True).text)]
    assert names == ["message_start", "message_delta", "message_stop"]


def test_what_was_read_before_is_told_to_whom_asked_for_a_cache(tmp_path: Path) -> None:
    said = Said("Yes.")
    said.cached = 4
    with open_hall(tmp_path, said=said) as hall:
        plain = post(hall).json()["usage"]
        marked = post(hall, cache_control={"type": "ephemeral"}).json()["usage"]
        last = events(post(hall, cache_control={"type": "ephemeral"}, stream=True).text)[-2][1]["usage"]
    assert (plain["input_tokens"], plain["cache_read_input_tokens"]) == (5, 0)
    assert (marked["input_tokens"], marked["cache_read_input_tokens"]) == (1, 4)
    assert last.items() <= marked.items()


def test_an_error_in_the_midst_of_a_stream_is_an_event(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One ", "two", failing=RuntimeError("secret words"))) as hall:
        answer = post(hall, stream=True)
        whole = post(hall)
    assert answer.status_code == 200
    name, data = events(answer.text)[-1]
    assert name == "error"
    assert data["type"] == "error"
    assert data["error"]["type"] == "api_error"
    assert data["request_id"] == answer.headers["request-id"]
    assert "secret" not in answer.text
    assert whole.status_code == 500
    assert "secret" not in whole.text


def test_an_error_before_the_first_word_is_one_of_http(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said(failing=RuntimeError("broken"))) as hall:
        assert post(hall, stream=True).status_code == 500


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_frees_what_it_held(tmp_path: Path, stream: bool) -> None:
    said = Said("One ", "two")
    with open_hall(tmp_path, said=said) as hall:
        said.gate.clear()
        address = urlsplit(hall.url)
        body = json.dumps({"model": MODEL, "max_tokens": 9, "messages": HELLO, "stream": stream}).encode()
        lines = [f"{name}: {value}" for name, value in headers(hall).items()]
        head = ["POST /v1/messages HTTP/1.1", "host: here", f"content-length: {len(body)}", *lines, "", ""]
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall("\r\n".join(head).encode() + body)
            until(lambda: said.under_way == 1)
        until(lambda: said.given_up == 1)
        assert said.under_way == 0
        (usage,) = until(lambda: hall.rows(USAGE))
        assert usage.requests == 1
        assert hall.service.admissions.under_way(hall.organisations["acme"]) == 0


def test_usage_is_metered(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        key = hall.key()
        totals = [0, 0]
        for stream in (False, True):
            body = {"model": MODEL, "max_tokens": 4, "messages": HELLO, "stream": stream}
            given = {"x-api-key": key, "anthropic-version": "2023-06-01"}
            answer = httpx.post(f"{hall.url}/v1/messages", headers=given, json=body)
            usage = events(answer.text)[-2][1]["usage"] if stream else answer.json()["usage"]
            totals = [totals[0] + usage["input_tokens"], totals[1] + usage["output_tokens"]]
        found = until(lambda: [row for row in hall.rows(USAGE) if row.requests == 2])
    assert [(row.model, row.input_tokens, row.output_tokens) for row in found] == [(MODEL, *totals)]


def test_many_at_once_get_what_each_gets_alone(hall: Hall) -> None:
    questions = [f"Question number {n}" for n in range(6)]
    alone = [ask(hall, question) for question in questions]
    together: dict[str, str] = {}
    threads = [threading.Thread(target=lambda q=q: together.update({q: ask(hall, q)})) for q in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[question] for question in questions] == alone


def ask(hall: Hall, question: str) -> str:
    answer = post(hall, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=10)
    return str(answer.json()["content"][0]["text"])


def test_a_key_waits_where_its_minute_is_used_up(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(), said=Said("Yes.")) as hall:
        given = {"x-api-key": hall.key(limits={"requests_per_minute": 1}), "anthropic-version": "2023-06-01"}
        body = {"model": MODEL, "max_tokens": 4, "messages": HELLO}
        first, second = (httpx.post(f"{hall.url}/v1/messages", headers=given, json=body) for _ in range(2))
    assert first.status_code == 200
    assert second.status_code == 429
    assert second.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(second.headers["retry-after"]) <= 60
    assert second.headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_a_prompt_against_the_policy_gets_a_message_that_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = Said("Yes.")
    caplog.set_level("INFO", "charter_service.api")
    with open_hall(tmp_path, said=said, screen=watching("there")) as hall:
        message, streamed = post(hall), events(post(hall, stream=True).text)
        (row, *_) = hall.rows(DECISIONS)
    assert message.status_code == 200
    answer = message.json()
    assert answer["stop_reason"] == "refusal"
    assert answer["content"][0]["text"] == answer["stop_details"]["explanation"]
    assert answer["stop_details"]["category"] == streamed[-2][1]["delta"]["stop_details"]["category"] == row.category
    assert answer["usage"]["output_tokens"] == 0
    assert text_of(streamed) == answer["content"][0]["text"]
    assert streamed[-2][1]["delta"]["stop_reason"] == "refusal"
    assert said.asked == []
    assert row.request == message.headers["request-id"]
    assert row.action == "block"
    line = f"the screen stopped {row.request} under {row.category} (prompt); --no-policy, or"
    assert any(record.getMessage().startswith(line) for record in caplog.records)
    assert "there" not in caplog.text, "the terminal shows no text of the request"


def test_a_reply_is_released_by_sentences() -> None:
    """Whole sentences and lines, a long one in pieces, and not one check for each abbreviation."""
    words = [
        "It",
        "is",
        "on",
        "the",
        "hill",
        ",",
        "beside",
        "the",
        "old",
        "mill",
        ".\n",
        "And",
        "so",
        ",",
        "e.g.",
        ",",
        "on",
        "it",
        "goes",
        "to",
        "its",
        "end",
        ".",
        "No",
        ".",
        "Yes",
        ".",
    ]
    waiting, lumps = Held(24, None), list[str]()
    for number, word in enumerate([*words, *("on " * 40).split()]):
        waiting.add(Piece(0, f"{word} ", (), number))
        if waiting.due:
            lumps.append("".join(piece.text for piece in waiting.release() if isinstance(piece, Piece)).strip())
    assert [lump.split()[-1] for lump in lumps[:3]] == [".", ".", "on"]
    assert max(len(lump.split()) for lump in lumps) <= 24
    assert not waiting.pieces or waiting.count - waiting.checked == len(waiting.pieces)
    waiting.add(End(0, "end"))
    assert waiting.due


def test_no_word_against_the_policy_leaves(tmp_path: Path) -> None:
    said = Said("One ", "two ", "three ", "four ", "five")
    hold = {"policy": {"state": "on", "hold": 2}}
    with open_hall(tmp_path, configuration(**hold), said=said, screen=watching("five")) as hall:
        streamed = events(post(hall, stream=True).text)
        whole = post(hall).json()
    assert text_of(streamed) == whole["content"][0]["text"] == "One two three four "
    assert streamed[-2][1]["delta"]["stop_reason"] == whole["stop_reason"] == "refusal"
