"""A server of replies that never change: it says that it takes a policy's weights, and answers a prompt and seed with
what the starting policy once wrote, so that two runs of rl learn from the very same rollouts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy


class Scribe:
    """What has been written, by prompt and seed; `asked` counts all prompts that came."""

    def __init__(self, policy: Path) -> None:
        model, self.tokenizer = load_policy(policy)
        self.engine = Engine(model.eval(), self.tokenizer)
        self.version, self.asked = "start", 0
        self.written: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        self.lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """As vLLM answers."""
        with self.lock:
            if path == "/tokenize":
                return {"tokens": self.tokenizer.encode(body["prompt"])}
            if path == "/weight_info":
                return {"weight_version": self.version}
            if path == "/update_weight_version":
                self.version = body["new_version"]
            if path == "/v1/completions":
                return {"model": body["model"], "choices": self._choices(body)}
            return {"success": True}

    def _choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked += 1
        key = (tuple(body["prompt"]), body["seed"], body["n"], body["max_tokens"])
        if key not in self.written:
            how = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
            (found,) = self.engine.generate([body["prompt"]], how, body["n"], [body["seed"]])
            self.written[key] = [
                {
                    "token_ids": one.ids,
                    "logprobs": {"token_logprobs": one.logprobs},
                    "text": one.text,
                    "finish_reason": "stop" if one.stop == "end" else "length",
                }
                for one in found
            ]
        return self.written[key]


@contextmanager
def scribe(policy: Path) -> Iterator[tuple[Scribe, str]]:
    """A running one, and its address."""
    writer = Scribe(policy)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(writer.answer(self.path, {}))

        def do_POST(self) -> None:
            self._send(writer.answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _send(self, found: dict[str, Any]) -> None:
            data = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            """Nothing is said of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield writer, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
