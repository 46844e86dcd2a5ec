"""The client of servers whose weights change, against one on this machine that answers as vLLM does, or almost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.http_client import Asking
from charter.ground.generate.sampling import Sampling
from charter.rooms.rl.remote import PROBE, PolicyServer, Takes, Weights

IDS = [43, 366, 82, 269]
NEW = Weights("000001-abc", "/shared/000001-abc")
SAMPLING = Sampling(max_tokens=5)


class VllmLike(ThreadingHTTPServer):
    """Answers in vLLM's shapes; `spoilt` is laid over each choice, `answers` over whole answers by their path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.version, self.adapters, self.asked = "default", list[str](), list[tuple[str, Any]]()
        self.spoilt: dict[str, Any] = {}
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.loses = 0  # times that it has lost the weights when it is asked for replies

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append((path, body))
        if planned := self.answers.get(path):
            return planned.pop(0) if len(planned) > 1 else planned[0]
        tokenizer = toys.tokenizer()
        if path == "/tokenize":
            return 200, {"tokens": tokenizer.encode(body["prompt"])}
        if path == "/weight_info":
            return 200, {"weight_version": self.version}
        if path == "/update_weight_version":
            self.version = body["new_version"]
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in ("policy", *self.adapters)]}
        if path == "/v1/load_lora_adapter":
            self.adapters.append(body["lora_name"])
            return 200, "Success: no JSON"
        if path == "/v1/unload_lora_adapter":
            self.adapters.remove(body["lora_name"])
            return 200, "Success: no JSON"
        if path == "/v1/completions":
            return self.replies(body)
        return 200, {"success": True, "results": [None]}

    def replies(self, body: Any) -> tuple[int, Any]:
        if self.loses:
            self.loses -= 1
            self.version, self.adapters = "default", []
        if body["model"] not in ("policy", *self.adapters):
            return 404, {"error": {"message": "The model does not exist."}}
        # where a server's version is planned, its replies say nothing of theirs
        version = NEW.version if "/weight_info" in self.answers else self.version
        choice = {
            "text": toys.tokenizer().decode(IDS),
            "token_ids": IDS,
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": [-1.0, -2.0, -0.5, -3.0]},
            "finish_reason": "length",
            "weight_versions": [{"version": version, "start": 0, "end": 4}],
        }
        answer = {"model": body["model"], "choices": [choice | self.spoilt] * body["n"]}
        return 200, answer


class Handler(BaseHTTPRequestHandler):
    server: VllmLike

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = self.server.answer(self.path, json.loads(body) if body else None)
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def log_message(self, *given: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmLike]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with VllmLike() as fake:
        thread = threading.Thread(target=lambda: fake.serve_forever(0.01))
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def client(server: VllmLike, takes: Takes = "reload", notes: list[str] | None = None) -> PolicyServer:
    tokenizer = toys.tokenizer()
    asking = Asking(server.url, note=([] if notes is None else notes).append)
    return PolicyServer(asking, "policy", takes, tokenizer, tokenizer.ends, toys.VOCABULARY)


def sampled(server: VllmLike, takes: Takes = "reload", notes: list[str] | None = None) -> Any:
    return client(server, takes, notes).sample([[1, 2, 3], [4, 5]], SAMPLING, 2, [11, 12], NEW)


def paths(server: VllmLike) -> list[str]:
    return [path for path, _ in server.asked]


def test_a_reload_is_told_in_order_once_and_replies_are_ids_with_log_probabilities(server: VllmLike) -> None:
    completions = sampled(server)
    assert [len(replies) for replies in completions] == [2, 2]
    assert completions[0][0].ids == IDS and completions[0][0].logprobs == [-1.0, -2.0, -0.5, -3.0]
    told = ["/weight_info", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version", "/weight_info"]
    assert paths(server)[:5] == told
    bodies = [body for path, body in server.asked if path == "/v1/completions"]
    assert {(tuple(b["prompt"]), b["seed"], b["n"]) for b in bodies} == {((1, 2, 3), 11, 2), ((4, 5), 12, 2)}
    assert all(b["top_p"] == 1 and b["stop_token_ids"] == sorted(toys.tokenizer().ends) for b in bodies)
    server.asked.clear()
    sampled(server)
    assert paths(server).count("/collective_rpc") == 0, "it has them"


def test_adapters_are_loaded_by_name_and_all_but_two_unloaded(server: VllmLike) -> None:
    policy_server = client(server, "lora")
    for number in range(4):
        weights = Weights(f"00000{number}-x", f"/shared/{number}")
        policy_server.sample([[1, 2]], SAMPLING, 1, [1], weights)
    assert server.adapters == ["policy-000002-x", "policy-000003-x"]
    assert ("/v1/load_lora_adapter", {"lora_name": "policy-000003-x", "lora_path": "/shared/3"}) in server.asked


@pytest.mark.parametrize("takes", ["reload", "lora"])
def test_a_server_that_lost_the_weights_gets_them_again_and_is_asked_again(server: VllmLike, takes: Takes) -> None:
    server.loses, notes = 1, list[str]()
    assert [len(replies) for replies in sampled(server, takes, notes)] == [2, 2]
    assert paths(server).count("/collective_rpc" if takes == "reload" else "/v1/load_lora_adapter") == 2
    assert len(notes) == 1 and "it gets them again, and the requests are repeated" in notes[0]
    server.loses = 10**6
    with pytest.raises(CharterError, match=r"4 times in a row; let nobody else change its weights"):
        sampled(server, takes)


def test_weights_lost_behind_the_last_reply_are_noticed(server: VllmLike) -> None:
    server.answers["/weight_info"] = [(200, {"weight_version": v}) for v in ("old", NEW.version, "default")] + [
        (200, {"weight_version": NEW.version})
    ]
    notes: list[str] = []
    sampled(server, "reload", notes)
    assert len(notes) == 1 and paths(server).count("/v1/completions") == 4


def test_a_reply_of_other_weights_is_not_taken(server: VllmLike) -> None:
    server.spoilt = {"weight_versions": [{"version": "000000-old", "start": 0, "end": 4}]}
    with pytest.raises(CharterError, match="4 times in a row"):
        sampled(server)


def test_a_server_that_names_its_weights_otherwise_is_refused(server: VllmLike) -> None:
    server.answers["/weight_info"] = [(200, {"weight_version": "default"})]
    with pytest.raises(CharterError, match="got weights 000001-abc and reports default"):
        sampled(server)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"token_ids": None}, "gives no token_ids with a log-probability each"),
        ({"logprobs": {"token_logprobs": [-1.0]}}, "gives no token_ids with a log-probability each"),
        ({"logprobs": {"token_logprobs": [-1.0, None, -1.0, -1.0]}}, "no log-probabilities"),
        ({"logprobs": {"token_logprobs": [-1.0, 0.5, -1.0, -1.0]}}, "no log-probabilities"),
        ({"token_ids": [43, 366, 82, 400]}, "wrote token 400, and the policy has tokens 0 to 399"),
        ({"text": "Something else"}, "spells tokens .* as 'Something else'"),
        ({"prompt_token_ids": [9]}, "read another prompt"),
        ({"finish_reason": "stop"}, "ends replies with token 269, which ends none here"),
        ({"finish_reason": "abort"}, r"gave up a reply \(abort\)"),
    ],
)
def test_replies_that_cannot_be_the_models_are_refused(server: VllmLike, spoilt: dict[str, Any], words: str) -> None:
    server.spoilt = spoilt
    with pytest.raises(CharterError, match=words):
        sampled(server)


def test_other_tokens_for_a_text_are_refused(server: VllmLike) -> None:
    client(server).check_tokenizer()
    server.answers["/tokenize"] = [(200, {"tokens": toys.tokenizer().encode(PROBE)[:-1]})]
    with pytest.raises(CharterError, match="cuts text into other tokens"):
        client(server).check_tokenizer()


def test_a_server_that_takes_no_weights_says_how_it_must_be_started(server: VllmLike) -> None:
    server.answers["/weight_info"] = [(404, {"detail": "Not Found"})]
    with pytest.raises(CharterError, match=r"answered 404: .*VLLM_SERVER_DEV_MODE=1"):
        sampled(server)
    server.answers["/v1/load_lora_adapter"] = [(404, {"detail": "Not Found"})]
    with pytest.raises(CharterError, match=r"answered 404: .*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        sampled(server, "lora")


def test_a_prefix_cache_that_stays_full_is_refused(server: VllmLike, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charter.rooms.rl.remote.RESETS", 2)
    server.answers["/reset_prefix_cache"] = [(200, {"success": False})]
    with pytest.raises(CharterError, match=r"prefix cache of .* can't be emptied"):
        sampled(server)
    assert server.version == "default", "the weights are not called new"


def test_an_answer_as_another_model_is_refused(server: VllmLike) -> None:
    server.answers["/v1/completions"] = [(200, {"model": "other", "choices": []})]
    with pytest.raises(CharterError, match="answered a request for policy as other"):
        sampled(server)
