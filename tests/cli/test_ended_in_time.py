"""SIGTERM ends each server in time while it is busy and connections stay open."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml

from charter.cli.main import execute

# a server gives itself five seconds; the rest is for a busy machine
SECONDS = 15.0
OPEN = 20
HALF = b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"
MODEL = "tiny=random:tiny"
LONG = {"model": "tiny", "max_tokens": 200, "prompt": "Hi", "temperature": 1, "stream": True}


def arena(folder: Path) -> Sequence[str]:
    execute(["arena", "init", str(folder / "mine")])
    file = folder / "mine/arena.yaml"
    config = yaml.safe_load(file.read_text())
    config["models"] = [{"name": "start", "model": "random:tiny"}]
    file.write_text(yaml.safe_dump(config))
    return "arena", "serve", str(file)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["serve", "up", "chat", "arena"])
def test_a_busy_server_ends_in_time(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARTER_LAUNCHED", "1")
    with ExitStack() as stack:
        # a server that takes calls and never answers
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        words: Sequence[str] = {
            "serve": ("serve", MODEL, "--no-auth"),
            "up": ("up", MODEL),
            "chat": ("chat", "serve", "--api", f"http://127.0.0.1:{silent.getsockname()[1]}"),
            "arena": (),
        }[server] or arena(tmp_path)
        command = [sys.executable, "-m", "charter", *words, "--port", "0", "--json"]
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        stack.callback(process.kill)
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        home = urlsplit(json.loads(line)["address"])
        for _ in range(OPEN):
            one = stack.enter_context(socket.create_connection((home.hostname, home.port)))
            one.sendall(HALF)
        if server == "serve":
            client = stack.enter_context(httpx2.Client(base_url=home.geturl(), timeout=60))
            answer = stack.enter_context(client.stream("POST", "/v1/completions", json=LONG))
            assert answer.status_code == 200, answer.read()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    assert process.returncode in (0, -signal.SIGKILL)
