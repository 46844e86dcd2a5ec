"""Every task on a server of either shape: what sampling allows is asked, and the rest is refused in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from desk import filled, scripted_reply, short_settings

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.settings import Settings

SHAPES = ("openai", "anthropic")
# Log-probabilities of given texts, which no server of these shapes has.
NEED_SCORES = ("winogender", "occupations", "position")
# They ask the model nothing: its loss, which a server can't give, and what judges say of rows.
ASK_NOTHING = ("text", "revisions", "acceptable_use", "rm_bench")


class Handler(BaseHTTPRequestHandler):
    """Answers by a digest of the request, so that the same request gets the same answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        read = self.rfile.read(int(self.headers["Content-Length"]))
        text = scripted_reply(read)
        answer: dict[str, Any] = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        if self.path == "/v1/completions":
            answer = {"choices": [{"text": text, "finish_reason": "stop"}]}
        elif self.path == "/v1/chat/completions":
            answer = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{instance.server_address[1]}#model"
        instance.shutdown()
        thread.join()


def remote(role: str, ref: str) -> Input:
    return Input(role, "the server", "engine", None, Path(), ref, f"id-{role}")


def run(name: str, ref: str, folder: Path, checkpoints: Path, **change: Any) -> Any:
    """The model under test and the judge are the server."""
    out = toys.workspace(folder / "out")
    inputs = filled(TASKS[name], folder, checkpoints, lambda role: remote(role, ref))
    room.run(short_settings(name, change), inputs, out)
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [name for name in TASKS if name not in (*NEED_SCORES, *ASK_NOTHING)])
def test_a_server_is_asked_what_sampling_allows(
    name: str, shape: str, server: str, tmp_path: Path, checkpoints: Path
) -> None:
    task = TASKS[name]
    more = {"form": "chat"} if "form" in task.takes and task.protocol.form == "text" else {}
    out = run(name, f"{shape}:{server}", tmp_path, checkpoints, **more)
    rows = read_objects(out.path / f"samples/{name}.jsonl")
    report = json.loads((out.path / "report.json").read_text("utf-8"))
    assert rows and report["model"]["name"] == "the server"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NEED_SCORES)
def test_what_needs_log_probabilities_is_refused_in_one_line(
    name: str, shape: str, server: str, tmp_path: Path, checkpoints: Path
) -> None:
    with pytest.raises(CharterError, match=f"^{name}.* leave (it|{name}) out of tasks") as told:
        run(name, f"{shape}:{server}", tmp_path, checkpoints)
    assert "\n" not in str(told.value)


def test_a_server_that_takes_dialogues_alone_is_told_of_the_form(
    server: str, tmp_path: Path, checkpoints: Path
) -> None:
    with pytest.raises(CharterError, match=r"change\.arc\.form: chat"):
        run("arc", f"anthropic:{server}", tmp_path, checkpoints)


def test_a_probe_of_a_server_says_what_else_there_is(server: str, tmp_path: Path, checkpoints: Path) -> None:
    settings = Settings(tasks=("acceptable_use",), acceptable_use={"limit": 40})
    task = TASKS["acceptable_use"]
    inputs = filled(task, tmp_path, checkpoints, lambda role: remote(role, f"openai:{server}"))
    with pytest.raises(CharterError, match=r"give a `reader`, or set .*\[encoder, words\]"):
        room.run(settings, inputs, toys.workspace(tmp_path / "out"))
