"""A front on another server (`--backend`): the whole chain says what the model says, counts are its own, and a server that
fails, is busy, breaks off or dies gives clean errors, never a hang.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lobby import MODEL, Hall, configuration, open_hall, until

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.sampling import Sampling
from charter_service.api import upstream
from charter_service.api.model_request import ModelRequest, Piece
from charter_service.api.upstream import UpstreamBackend
from charter_service.forms.grammars import Form

NAME = "front"
SAID = [{"role": "user", "content": "How do bees find their way?"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
TOOL = {"name": "count", "input_schema": {**SCHEMA, "additionalProperties": False}}


def front(url: str, **more: Any) -> Any:
    return configuration(models=[{"id": NAME, "source": MODEL, "backend": url}], **more)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("behind")) as made:
        yield made


@pytest.fixture(scope="module")
def chain(behind: Hall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx2.Client, httpx2.Client]]:
    """Clients of the front, and of the server behind it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", behind.key())
        with open_hall(tmp_path_factory.mktemp("front"), front(behind.url)) as hall:
            headers = {"anthropic-version": "2023-06-01"}
            with (
                httpx2.Client(base_url=hall.url, headers=headers | {"x-api-key": hall.key()}, timeout=60) as one,
                httpx2.Client(base_url=behind.url, headers=headers | {"x-api-key": behind.key()}, timeout=60) as two,
            ):
                yield one, two


def both(chain: tuple[httpx2.Client, httpx2.Client], path: str, **body: Any) -> list[Any]:
    """The answers of the front and of the server behind, without what names one or the other."""
    found = []
    for client, model in zip(chain, (NAME, MODEL), strict=True):
        answer = client.post(path, json={"model": model, "temperature": 0} | body)
        assert answer.status_code == 200, answer.text
        found.append(text_of(answer.text) if body.get("stream") else answer.json())
    return found


def text_of(stream: str) -> str:
    """All text of a stream, of whatever shape."""
    texts = []
    for line in stream.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            texts.append(event.get("completion") or event.get("delta", {}).get("text", ""))
            texts += [c.get("text") or c.get("delta", {}).get("content") or "" for c in event.get("choices", ())]
    return "".join(texts)


def test_every_surface_says_what_the_server_behind_says(chain: tuple[httpx2.Client, httpx2.Client]) -> None:
    asks: list[tuple[str, dict[str, Any]]] = [
        ("/v1/messages", {"messages": SAID, "max_tokens": 9}),
        (
            "/v1/messages",
            {"messages": [*SAID, {"role": "assistant", "content": "By"}], "max_tokens": 9, "system": "Buzz."},
        ),
        ("/v1/complete", {"prompt": "\n\nHuman: Hi\n\nAssistant:", "max_tokens_to_sample": 9}),
        ("/v1/chat/completions", {"messages": SAID, "max_tokens": 9, "n": 2, "temperature": 1, "seed": 7, "top_k": 40}),
        ("/v1/completions", {"prompt": "Bees", "max_tokens": 9}),
        ("/v1/completions", {"prompt": [[60, 61, 62]], "max_tokens": 9}),
    ]
    for path, body in asks:
        mine, theirs = both(chain, path, **body)
        for key in ("content", "completion", "stop_reason"):
            assert mine.get(key) == theirs.get(key), path
        assert [c.get("message", c.get("text")) for c in mine.get("choices", ())] == [
            c.get("message", c.get("text")) for c in theirs.get("choices", ())
        ]
        used = [
            {k: v for k, v in one.get("usage", {}).items() if "cache" not in k and "details" not in k}
            for one in (mine, theirs)
        ]
        assert used[0] == used[1], path
        streams = both(chain, path, stream=True, **body)
        assert streams[0] == streams[1] != "", path


def test_stops_are_told_apart_from_ends(chain: tuple[httpx2.Client, httpx2.Client]) -> None:
    whole = both(chain, "/v1/messages", messages=SAID, max_tokens=12)[1]["content"][0]["text"]
    stop = whole[4:6]
    for found in both(chain, "/v1/messages", messages=SAID, max_tokens=12, stop_sequences=["zzz", stop]):
        assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", stop)
        assert found["content"][0]["text"] == whole[: whole.index(stop)]


def test_log_probabilities_and_scores_come_through(chain: tuple[httpx2.Client, httpx2.Client]) -> None:
    asked: dict[str, Any] = {"prompt": "Bees find", "echo": True, "logprobs": 2, "max_tokens": 4}
    mine, theirs = both(chain, "/v1/completions", **asked)
    columns, expected = mine["choices"][0]["logprobs"], theirs["choices"][0]["logprobs"]
    assert columns["tokens"] == expected["tokens"] and columns["top_logprobs"] == expected["top_logprobs"]
    assert columns["token_logprobs"][1:] == pytest.approx(expected["token_logprobs"][1:], abs=1e-5)
    mine, theirs = both(chain, "/v1/completions", **asked | {"max_tokens": 0})
    assert mine["choices"][0]["logprobs"]["tokens"] == theirs["choices"][0]["logprobs"]["tokens"]
    chat = both(chain, "/v1/chat/completions", messages=SAID, max_tokens=3, logprobs=True, top_logprobs=2)
    assert chat[0]["choices"][0]["logprobs"] == chat[1]["choices"][0]["logprobs"]


def test_forms_and_tools_are_held_by_the_server_behind(chain: tuple[httpx2.Client, httpx2.Client]) -> None:
    client, _ = chain
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    asked: dict[str, Any] = {"model": NAME, "messages": SAID, "max_tokens": 90}
    answer = client.post("/v1/chat/completions", json=asked | {"response_format": form}).json()
    assert json.loads(answer["choices"][0]["message"]["content"])["n"] <= 99
    used = client.post(
        "/v1/messages", json=asked | {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "count"}}
    ).json()
    assert used["stop_reason"] == "tool_use" and used["content"][0]["input"]["n"] <= 99
    small = client.post("/v1/chat/completions", json=asked | {"response_format": form, "max_tokens": 2})
    assert small.status_code == 400 and "max_tokens is 2" in small.text, "in the words of the server behind"


def test_tokens_are_counted_by_the_server_behind(chain: tuple[httpx2.Client, httpx2.Client]) -> None:
    counts = [
        client.post("/v1/messages/count_tokens", json={"model": model, "messages": SAID}).json()
        for client, model in zip(chain, (NAME, MODEL), strict=True)
    ]
    assert counts[0] == counts[1]
    facts = [client.get(f"/v1/models/{m}").json()["charter"] for client, m in zip(chain, (NAME, MODEL), strict=True)]
    assert facts[0]["context"] == facts[1]["context"] and "count" in facts[0]["offers"]


def test_a_front_that_is_left_leaves_the_server_behind(
    chain: tuple[httpx2.Client, httpx2.Client], behind: Hall
) -> None:
    served = behind.service.registry.find(MODEL).backend
    with chain[0].stream(
        "POST",
        "/v1/chat/completions",
        json={"model": NAME, "messages": SAID, "max_tokens": 900, "stream": True, "seed": 0},
    ) as answer:
        next(answer.iter_lines())
    engine = served._driver._engine  # type: ignore[attr-defined]
    until(lambda: engine.idle)


class Double(ThreadingHTTPServer):
    """A server behind that misbehaves: `act` answers what isn't a question at the start."""

    daemon_threads = True

    def __init__(self, act: Callable[[BaseHTTPRequestHandler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.act, self.asked = act, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Double

    def do_GET(self) -> None:
        self.say(200, {"data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/tokenize":
            self.say(404, {"detail": "Not Found"})
            return
        self.server.asked += 1
        self.server.act(self)

    def say(self, status: int, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self, *chunks: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *words: object) -> None:
        """Says nothing."""


PART = {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]}
CASES: dict[str, tuple[Callable[[Any], None], int, str, int]] = {
    "busy": (lambda h: h.say(429, {"error": {"message": "wait"}}, Retry_After="7"), 529, "is overloaded", 1),
    "failing": (lambda h: h.say(500, {"error": {"message": "secret"}}), 500, "failed (500)", 3),
    "refusing": (lambda h: h.say(400, {"error": {"message": "no such thing"}}), 400, "no such thing", 1),
    "late": (lambda h: h.say(504, {}), 504, "took too long", 3),
    "locked": (lambda h: h.say(401, {}), 500, "refuses our key", 1),
    "silent": (lambda h: None, 529, "can't be reached", 3),
    "strange": (lambda h: h.begin("what"), 500, "another shape", 1),
    "brief": (lambda h: h.begin(), 500, "before it was complete", 1),
    "erring": (lambda h: h.begin({"error": {"type": "overloaded_error"}}), 529, "is overloaded", 1),
}


@pytest.fixture
def double() -> Iterator[Double]:
    made = Double(lambda handler: None)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries come one after the other without a pause."""

    async def at_once(seconds: float) -> None:
        """No pause."""

    monkeypatch.setattr(upstream.asyncio, "sleep", at_once)


def heard(double: Double) -> Any:
    """What a stream of the backend gives: its text, or its error."""

    async def work() -> Any:
        backend = UpstreamBackend(double.url, MODEL, NAME)
        asked = ModelRequest(NAME, SAID, Sampling(max_tokens=4))  # type: ignore[arg-type]
        try:
            return "".join([p.text async for p in backend.stream(asked, "", False) if isinstance(p, Piece)])
        except Exception as error:
            return error

    return asyncio.run(work())


@pytest.mark.parametrize("case", CASES)
def test_what_goes_wrong_behind_is_told_in_our_words(double: Double, quick: None, case: str) -> None:
    double.act, status, said, tries = CASES[case]
    error = heard(double)
    assert error.status == status and said in str(error) and "secret" not in str(error)
    assert double.asked == tries
    if status == 529:
        assert int(error.headers["retry-after"]) == (7 if case == "busy" else 5)


def test_a_server_that_writes_nothing_times_out(double: Double, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "READ_SECONDS", 0.5)
    over = threading.Event()
    for begun in (False, True):

        def act(handler: Any, begun: bool = begun) -> None:
            if begun:
                handler.begin(PART)
            over.wait(60)

        double.act = act
        error = heard(double)
        assert (error.status, error.kind) == (504, "timeout_error")
        assert "wrote nothing for" in str(error)
    assert double.asked == 2, "a request that takes too long isn't sent again"
    over.set()


def test_a_server_that_echoes_what_it_was_sent_tells_no_key(
    double: Double, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operators-own")
    double.act = lambda h: h.say(400, {"error": {"message": f"bad: {dict(h.headers)}"}})
    error = heard(double)
    assert "bad: " in str(error) and "authorization" in str(error).lower()
    assert "sk-operators-own" not in str(error)


def test_a_server_that_recovers_is_asked_again(double: Double, quick: None) -> None:
    last = {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }

    def act(handler: Any) -> None:
        if double.asked < 3:
            handler.say(503, {})
        else:
            handler.begin(PART, last)
            handler.wfile.write(b"data: [DONE]\n\n")

    double.act = act
    assert heard(double) == "Hel"


def test_what_a_server_lacks_is_said_when_it_is_asked_for(double: Double) -> None:
    backend = UpstreamBackend(double.url, MODEL, NAME)
    assert "count" not in backend.capabilities
    assert asyncio.run(backend.count("x" * 41)) == 6 + 11, "an estimate"
    with pytest.raises(CharterError, match="only text, not token ids"):
        asyncio.run(backend.spell([1]))
    with pytest.raises(CharterError, match="only to JSON, not to a regex"):
        asyncio.run(backend.compile(Form("regex", pattern="a+"), "org", False))
    with pytest.raises(CharterError, match="serves no model 'other'; it has toy-2"):
        UpstreamBackend(double.url, "other", NAME)
    with pytest.raises(CharterError, match=r"can't be reached .* is the server running"):
        UpstreamBackend("http://127.0.0.1:9", MODEL, NAME)
    with pytest.raises(CharterError, match="not the address of a server"):
        UpstreamBackend("localhost:8000", MODEL, NAME)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`charter serve` of a toy as a process of its own, and its address."""
    folder = toys.policy_folder(tmp_path / "toy")
    asked = [
        sys.executable,
        "-m",
        "charter",
        "serve",
        f"{MODEL}={folder}",
        "--port",
        "0",
        "--no-auth",
        "--no-policy",  # the server before it checks
        "--json",
    ]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path) as started:
        try:
            assert started.stdout
            yield started, json.loads(started.stdout.readline())["address"]
        finally:
            started.kill()


def test_a_server_that_dies_in_the_middle_breaks_the_stream_cleanly(
    process: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    killed, url = process
    (tmp_path / "front").mkdir()
    made = front(url, authenticate=False)
    with open_hall(tmp_path / "front", made) as hall, httpx2.Client(base_url=hall.url, timeout=60) as client:
        headers = {"anthropic-version": "2023-06-01"}
        body: dict[str, Any] = {"model": NAME, "messages": SAID, "max_tokens": 900, "stream": True}
        with client.stream("POST", "/v1/messages", json=body, headers=headers) as answer:
            lines = answer.iter_lines()
            for line in lines:
                if "text_delta" in line:
                    break
            killed.send_signal(signal.SIGKILL)
            rest = list(lines)
        error = json.loads(rest[rest.index("event: error") + 1].removeprefix("data: "))
        assert error["error"]["type"] == "api_error" and "broke off" in error["error"]["message"]
        after = client.post("/v1/chat/completions", json={"model": NAME, "messages": SAID})
        assert after.status_code == 529 and after.headers["retry-after"] == "5"
        assert "can't be reached" in after.json()["error"]["message"]
