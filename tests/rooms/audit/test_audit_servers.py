"""The audit of a model behind a server of each shape, in text and by tool calls, on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from audit_agents import given, next_line, oracle

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.world.talk import call_of
from charter.rooms.audit import run as room
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.verify import problems

NAMES = ("password", "wallet", "successor", "stray-key")


def text_of(content: Any) -> str:
    """The observation in a message's content: text, or a tool's result in Anthropic's shape."""
    return content if isinstance(content, str) else content[0]["content"]


def checked(body: dict[str, Any], anthropic: bool) -> list[dict[str, Any]]:
    """The messages, after what both APIs insist on: every call has its result, roles alternate."""
    talk = [m for m in body["messages"] if m["role"] != "system"]
    for before, after in pairwise(talk):
        if before["role"] == "assistant":
            if anthropic:
                used = [b["id"] for b in before["content"] if b["type"] == "tool_use"]
                assert used == [b["tool_use_id"] for b in after["content"]] and after["role"] == "user"
            else:
                assert [c["id"] for c in before["tool_calls"]] == [after["tool_call_id"]]
        else:
            assert after["role"] == "assistant"
    return talk


def answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The oracle's next turn, in the shape and form that was asked for."""
    anthropic = path == "/v1/messages"
    assert anthropic or path == "/v1/chat/completions"
    if "tools" not in body:
        messages = body["messages"]
        if anthropic:
            messages = [{"role": "system", "content": body["system"]}, *messages]
        text = oracle(messages)
        if anthropic:
            return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    talk = checked(body, anthropic)
    call = call_of(next_line(talk[0]["content"], [text_of(m["content"]) for m in talk[2::2]]))
    if anthropic:
        assert body["system"] and body["tool_choice"]["disable_parallel_tool_use"]
        assert "input_schema" in body["tools"][0]
        used = {"type": "tool_use", "id": "their-id", "name": call["name"], "input": call["values"]}
        return {"content": [{"type": "text", "text": "I go on."}, used], "stop_reason": "tool_use"}
    assert body["parallel_tool_calls"] is False and body["tools"][0]["type"] == "function"
    function = {"name": call["name"], "arguments": json.dumps(call["values"])}
    message = {"content": None, "tool_calls": [{"id": "x", "type": "function", "function": function}]}
    return {"choices": [{"message": message, "finish_reason": "tool_calls"}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            data, status = json.dumps(answer(self.path, body)).encode(), 200
        except Exception as error:  # the audit tells what the test's server found wrong
            data, status = repr(error).encode(), 400
        self.send_response(status)
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


def audited(ref: str, folder: Path, settings: Settings) -> Path:
    out = toys.workspace(folder)
    room.run(settings, Inputs([given(ref)]), out)
    manifest: Any = SimpleNamespace(resolved=settings.model_dump(mode="json"))
    assert list(problems(out.path, manifest)) == []
    return out.path


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
@pytest.mark.parametrize("tools", ["text", "native"])
def test_the_oracle_behind_a_server_passes(shape: str, tools: Any, server: str, tmp_path: Path) -> None:
    settings = Settings(tasks=NAMES, tries=1, tools=tools, max_tokens=256)
    path = audited(f"{shape}:{server}", tmp_path / "out", settings)
    rows = read_objects(path / "tries.jsonl")
    assert [row["passed"] for row in rows] == [True] * len(NAMES), rows
    transcript = json.loads((path / "transcripts" / "wallet-000.json").read_text())
    if tools == "native":
        assert transcript["turns"][0]["call"] == {"name": "wallet", "values": {"action": "create"}}
        result = transcript["messages"][2 if shape == "anthropic" else 3]
        assert result["role"] == ("user" if shape == "anthropic" else "tool")
    else:
        assert transcript["turns"][0]["call"] is None and transcript["messages"][8]["content"] == "wallet create"


def test_a_line_that_its_call_does_not_say_is_seen(server: str, tmp_path: Path) -> None:
    settings = Settings(tasks=NAMES, tries=1, tools="native", max_tokens=256)
    path = audited(f"openai:{server}", tmp_path / "out", settings)
    file = path / "transcripts" / "wallet-000.json"
    transcript = json.loads(file.read_text())
    transcript["turns"][0]["call"]["values"] = {}
    file.write_text(json.dumps(transcript))
    manifest: Any = SimpleNamespace(resolved=settings.model_dump(mode="json"))
    assert "tries.jsonl: wallet-000 isn't what its turns give" in list(problems(path, manifest))


def test_a_server_of_another_shape_is_told_in_one_line(server: str, tmp_path: Path) -> None:
    broken = f"openai:{server}".replace("#", "/nowhere#")
    with pytest.raises(CharterError, match="answered 400") as told:
        audited(broken, tmp_path / "out", Settings(tasks=("password",), tries=1, tools="native"))
    assert "\n" not in str(told.value)
