"""Remote engines against a server on this machine: both shapes, retries, errors in one line, no key in them."""

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.generate import http_client
from charter.ground.generate.engine import Completion
from charter.ground.generate.http_client import PATIENCE_SECONDS, TRIES
from charter.ground.generate.remote import RemoteAssistant, is_remote
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import Message, assistant, system, user

KEY = "sk-very-secret-0123"
ECHO = "{the key}"
OPENAI = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}
ANTHROPIC = {"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}], "stop_reason": "end_turn"}


class Server(ThreadingHTTPServer):
    """Answers with what is in `answers` (status, body), the last one again and again, all with the same `headers`;
    keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any]] = []
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        with self.server.lock:
            self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, answer = self.server.answers[0]
            if len(self.server.answers) > 1:
                self.server.answers.pop(0)
        if status == 0:
            return  # the connection is closed without an answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        key = self.headers.get("Authorization", "") + self.headers.get("X-Api-Key", "")
        data = text.replace(ECHO, key).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    instance = Server()
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield instance
    instance.shutdown()
    thread.join()
    instance.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, not slept through; and the keys."""
    pauses: list[float] = []

    def wait(given_up: threading.Event, seconds: float) -> bool:
        pauses.append(seconds)
        return given_up.is_set()

    monkeypatch.setattr(http_client, "_wait", wait)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return pauses


def test_the_openai_shape(server: Server) -> None:
    server.answers = [(200, OPENAI)]
    replies = RemoteAssistant(f"openai:{server.url}/#small").reply(
        [[system("Be brief."), user("Hi")]],
        Sampling(temperature=0.5, top_k=3, top_p=0.9, max_tokens=7, stops=("\n",)),
        seeds=[4],
    )
    ((completion,),) = replies
    assert (completion.text, completion.stop, completion.ids) == ("Hello.", "end", [])
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions" and headers["authorization"] == f"Bearer {KEY}"
    seed = body.pop("seed")
    assert isinstance(seed, int)
    assert body == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "max_tokens": 7,
        "stop": ["\n"],
    }


def test_the_openai_shape_continues_an_assistants_turn(server: Server) -> None:
    server.answers = [(200, OPENAI)]
    RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi"), assistant("Revision:")]], Sampling())
    body = server.requests[0][2]
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
    assert body["messages"][-1] == {"role": "assistant", "content": "Revision:"}


def test_the_openai_shape_continues_plain_text(server: Server) -> None:
    server.answers = [(200, {"choices": [{"text": " Lima.", "finish_reason": "length"}]})]
    ((completion,),) = RemoteAssistant(f"openai:{server.url}#m").reply(["Capital of Peru:"], Sampling(max_tokens=3))
    assert (completion.text, completion.stop) == (" Lima.", "length")
    ((path, _, body),) = server.requests
    assert path == "/v1/completions" and body["prompt"] == "Capital of Peru:"
    assert body["max_tokens"] == 3 and not {"messages", "add_generation_prompt"} & set(body)


def test_the_anthropic_shape_refuses_plain_text(server: Server) -> None:
    remote_one = RemoteAssistant(f"anthropic:{server.url}#c")
    with pytest.raises(CharterError, match=r"^anthropic server http\S+ takes dialogues alone; plain text needs"):
        remote_one.reply([[user("Hi")], "Capital of Peru:"], Sampling())
    assert server.requests == []


def test_the_anthropic_shape(server: Server) -> None:
    server.answers = [(200, ANTHROPIC)]
    ((completion,),) = RemoteAssistant(f"anthropic:{server.url}#c").reply(
        [[system("Be brief."), user("Hi"), assistant("Well,")]],
        Sampling(temperature=1.5, top_p=0.8, top_k=2, max_tokens=9, stops=("END",)),
    )
    assert (completion.text, completion.stop) == ("Hello.", "end")
    ((path, headers, body),) = server.requests
    assert path == "/v1/messages"
    assert headers["x-api-key"] == KEY and headers["anthropic-version"] == "2023-06-01"
    assert body == {
        "model": "c",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}],
        "temperature": 1.0,
        "top_p": 0.8,
        "top_k": 2,
        "max_tokens": 9,
        "stop_sequences": ["END"],
    }


@pytest.mark.parametrize(
    ("dialect", "said", "stop"),
    [
        ("openai", "stop", "end"),
        ("openai", "length", "length"),
        ("anthropic", "stop_sequence", "stop"),
        ("anthropic", "max_tokens", "length"),
    ],
)
def test_stop_reasons(server: Server, dialect: str, said: str, stop: str) -> None:
    answer = json.loads(json.dumps(OPENAI if dialect == "openai" else ANTHROPIC))
    (answer["choices"][0] if dialect == "openai" else answer)[
        "finish_reason" if dialect == "openai" else "stop_reason"
    ] = said
    server.answers = [(200, answer)]
    assert RemoteAssistant(f"{dialect}:{server.url}#m").reply([[user("Hi")]], Sampling())[0][0].stop == stop


def test_samples_come_in_the_order_of_the_dialogues_with_seeds_of_their_own(server: Server) -> None:
    server.answers = [(200, OPENAI)]
    replies = RemoteAssistant(f"openai:{server.url}#m").reply([[user(str(i))] for i in range(5)], Sampling(), n=3)
    assert [len(samples) for samples in replies] == [3] * 5
    assert len({body["seed"] for _, _, body in server.requests}) == 15
    contents = sorted(body["messages"][0]["content"] for _, _, body in server.requests)
    assert contents == sorted(str(i) for i in range(5) for _ in range(3))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [429, 529, 503, 0])
def test_overload_and_lost_connections_are_tried_again(
    server: Server, waits: list[float], dialect: str, status: int
) -> None:
    server.answers = [(status, "busy"), (status, "busy"), (200, OPENAI if dialect == "openai" else ANTHROPIC)]
    ((completion,),) = RemoteAssistant(f"{dialect}:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert completion.text == "Hello." and len(server.requests) == 3
    assert len(waits) == 2 and waits[0] < waits[1], "each wait is longer than the one before"


def test_tries_end(server: Server) -> None:
    server.answers = [(500, "broken")]
    with pytest.raises(CharterError, match="answered 500: broken"):
        RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert len(server.requests) == TRIES


@pytest.mark.parametrize("status", [429, 529, 503])
def test_an_overloaded_server_is_given_two_minutes(server: Server, waits: list[float], status: int) -> None:
    server.answers = [(status, "too many")]
    with pytest.raises(CharterError, match=f"answered {status}: too many"):
        RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert sum(waits) == pytest.approx(PATIENCE_SECONDS) and PATIENCE_SECONDS == 120
    assert len(server.requests) == len(waits) + 1 < 30
    nominal = [min(16.0, 0.5 * 2**n) for n in range(len(waits) - 1)]
    assert all(n / 2 <= w <= n for n, w in zip(nominal, waits, strict=False))
    assert len(set(waits)) == len(waits), "no two waits are alike"


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("7", 7, 7), ("3600", 60, 60), ("0", 0.25, 0.5), ("Fri, 31 Dec 1999 23:59:59 GMT", 0.25, 0.5)],
)
def test_a_server_is_left_alone_as_long_as_it_asks(
    server: Server, waits: list[float], said: str, least: float, most: float
) -> None:
    server.headers = {"Retry-After": said}
    server.answers = [(429, "busy"), (200, OPENAI)]
    RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi")]], Sampling())
    (wait,) = waits
    assert least <= wait <= most


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused_and_named(server: Server, status: int, dialect: str) -> None:
    path = "/v1/chat/completions" if dialect == "openai" else "/v1/messages"
    server.headers = {"Location": f"{server.url}/elsewhere{path}"}
    server.answers = [(status, ""), (200, OPENAI if dialect == "openai" else ANTHROPIC)]
    with pytest.raises(CharterError, match=f"redirects to {server.url}/elsewhere;.* use that URL") as caught:
        RemoteAssistant(f"{dialect}:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1, "the key is sent nowhere else"


def test_half_a_surrogate_pair_in_an_answer_is_replaced(server: Server) -> None:
    server.answers = [(200, '{"choices": [{"message": {"content": "Hi \\ud83d"}, "finish_reason": "length"}]}')]
    assert RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi")]], Sampling())[0][0].text == "Hi \ufffd"
    halves = [{"type": "text", "text": half} for half in ("Hi \ud83d", "\ude42")]
    server.answers = [(200, {"content": halves, "stop_reason": "end_turn"})]
    assert RemoteAssistant(f"anthropic:{server.url}#m").reply([[user("Hi")]], Sampling())[0][0].text == "Hi 🙂"


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_an_error_is_one_line_and_never_holds_the_key(server: Server, dialect: str) -> None:
    server.answers = [(401, f"wrong key\r\n{ECHO}\n\nask for another")]
    with pytest.raises(CharterError) as caught:
        RemoteAssistant(f"{dialect}:{server.url}#m").reply([[user("Hi")]], Sampling())
    message = str(caught.value)
    assert "answered 401: wrong key" in message and "\n" not in message and "\r" not in message
    assert KEY not in message
    assert len(server.requests) == 1, "a refusal is not tried again"


def test_of_a_refusal_only_the_beginning_is_read(server: Server) -> None:
    server.answers, server.headers = [(400, "x" * 5000)], {"Content-Length": str(2**40)}
    with pytest.raises(http_client.Answered, match=r"answered 400: x{400}$"):
        http_client.Asking(server.url).get("/v1/models")
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", ["no JSON", {"error": {"message": "odd"}}, {"choices": []}, [1]])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_an_answer_of_another_shape_is_an_error_in_one_line(server: Server, dialect: str, answer: object) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(CharterError, match=server.url) as caught:
        RemoteAssistant(f"{dialect}:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


def test_a_key_that_no_header_can_hold_is_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nsecond line\n")
    with pytest.raises(CharterError, match="OPENAI_API_KEY holds spaces") as caught:
        RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_no_server_is_an_error_in_one_line() -> None:
    gone = Server()
    url = gone.url
    gone.server_close()
    with pytest.raises(CharterError, match="is the server running") as caught:
        RemoteAssistant(f"openai:{url}#m").reply([[user("Hi")]], Sampling())
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


def test_without_a_key_none_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    server.answers = [(200, OPENAI)]
    RemoteAssistant(f"openai:{server.url}#m").reply([[user("Hi")]], Sampling())
    assert "authorization" not in server.requests[0][1]


def test_scoring_is_refused_and_references_are_checked() -> None:
    assistant = RemoteAssistant("anthropic:https://example.org#m")
    assert assistant.capabilities == {"sample"}
    with pytest.raises(CharterError, match="can't score"):
        assistant.score([([user("Hi")], ["a"])])
    for wrong in ("openai:http://x", "openai:x#m", "other:http://x#m", "openai:ftp://x#m"):
        with pytest.raises(CharterError, match="is not a remote engine"):
            RemoteAssistant(wrong)
    assert is_remote("openai:http://x#m") and is_remote("anthropic:http://x#m") and not is_remote("random:tiny")


def test_when_one_request_is_refused_those_that_wait_for_another_try_are_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prompt of two is refused for good while the other meets an overload that would be waited out."""
    begun = threading.Event()

    def wait(given_up: threading.Event, seconds: float) -> bool:
        begun.set()
        return given_up.wait(60)

    monkeypatch.setattr(http_client, "_wait", wait)
    assistant = RemoteAssistant(f"openai:{server.url}#small")
    first = assistant._one

    def one(messages: Sequence[Message], sampling: Sampling, seed: int) -> Completion:
        if messages[-1]["content"] == "refused":
            assert begun.wait(30)
            raise CharterError("no such model")
        return first(messages, sampling, seed)

    monkeypatch.setattr(assistant, "_one", one)
    server.answers = [(529, {"error": "busy"})] * 2
    with pytest.raises(CharterError, match="no such model"):
        assistant.reply([[user("refused")], [user("Hi")]], Sampling(max_tokens=4))
    assert len(server.requests) == 1
