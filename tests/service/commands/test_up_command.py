"""`charter up`: one command from nothing to a reply in the browser's pages, whichever process is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

Charter = Callable[..., tuple[int, str, str]]
PATIENCE = 120.0


def until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)
    return value


@contextmanager
def started(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and the address that it prints."""
    command = [
        sys.executable,
        "-m",
        "charter",
        "up",
        "tiny=random:tiny",
        "--no-policy",  # a toy writes noise; starts and ends are tested
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen([*command, *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)["address"]
    finally:
        process.kill()
        process.communicate()


def server_of(process: subprocess.Popen[str]) -> int:
    """The process of the model's server."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    children += [child for task in tasks for child in (task / "children").read_text().split()]
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children}
    return next(child for child, line in lines.items() if b"serve" in line)


def ask(browser: httpx.Client, text: str) -> dict[str, Any]:
    """The last message of a new chat, once it is complete."""
    csrf = re.search(r'name="csrf" value="(\w+)"', browser.get("/").text)
    assert csrf
    headers = {"accept": "application/json"}
    sent = browser.post("/c", data={"csrf": csrf[1], "text": text}, headers=headers).json()
    place = f"/c/{sent['chat']}/export.json"
    last: dict[str, Any] = until(lambda: (m := browser.get(place).json()["messages"][-1])["state"] != "running" and m)
    return last


def test_from_nothing_to_a_reply_and_through_kills(tmp_path: Path) -> None:
    with started(tmp_path) as (process, address):
        home, _, token = address.partition("/join/")
        assert token, "the first address is an invitation"
        with httpx.Client(base_url=home, follow_redirects=True, timeout=60) as browser:
            assert 'id="key"' in browser.post(f"/join/{token}", data={"name": "ann"}).text
            reply = ask(browser, "Hello")
            assert reply["state"] == "done" and reply["model"] == "tiny" and reply["output_tokens"] > 0
            os.kill(server_of(process), signal.SIGKILL)
            assert ask(browser, "Again")["state"] == "done"  # by a server that was started again
            server = server_of(process)
            process.kill()
            until(lambda: not Path(f"/proc/{server}").exists())  # nobody is left behind
            cookies = browser.cookies
    with started(tmp_path) as (process, address):
        with httpx.Client(base_url=address, cookies=cookies, follow_redirects=True, timeout=60) as browser:
            page = browser.get("/").text
            assert "Hello" in page and "Again" in page
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0 and "charter: stopped; run the same command again" in said


def test_what_can_not_be_is_refused_in_one_line(
    charter: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = charter("up", "tiny=random:tiny", "--api", "http://127.0.0.1:1")
    assert code == 1 and "not both" in err
    code, _, err = charter("up", "--api", "ftp://x", "--port", "0")
    assert code == 1 and "is not the address of a server" in err
