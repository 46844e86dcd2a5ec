"""A server is killed with a batch under way; the next one ends it, each request once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import until

PATH = "/v1/messages/batches"
HEADERS = {"anthropic-version": "2023-06-01"}
REQUESTS = 40  # more than are worked on at a time


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`charter serve` in a process of its own, and its address."""
    words = ["random:tiny", "--no-auth", "--port", "0", "--json", "--device", "cpu"]
    words += ["--no-policy"]  # a toy writes noise, and it starts many times
    command = [sys.executable, "-m", "charter", "serve", *words, "--database", str(folder / "serve.sqlite")]
    environment = {**os.environ, "CHARTER_LAUNCHED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


def finished(folder: Path) -> dict[str, str]:
    """What the database holds of requests that ended: their messages' ids."""
    with closing(sqlite3.connect(folder / "serve.sqlite")) as connection:
        rows = connection.execute("SELECT custom_id, result FROM batch_items WHERE state = 'succeeded'")
        return {custom_id: json.loads(result)["id"] for custom_id, result in rows}


def get(address: str, path: str) -> Any:
    answer = httpx.get(address + path, headers=HEADERS, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.slow
def test_nothing_that_was_accepted_is_lost(tmp_path: Path) -> None:
    asked = [
        {
            "custom_id": f"r{n}",
            "params": {
                "model": "tiny",
                "max_tokens": 40,
                "temperature": 0,
                "messages": [{"role": "user", "content": f"Question {n}"}],
            },
        }
        for n in range(REQUESTS)
    ]
    with served(tmp_path) as (process, address):
        answer = httpx.post(address + PATH, headers=HEADERS, json={"requests": asked}, timeout=30)
        assert answer.status_code == 200, answer.text
        id = answer.json()["id"]
        until(lambda: finished(tmp_path))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    kept = finished(tmp_path)
    assert 0 < len(kept) < REQUESTS
    with served(tmp_path) as (_, address):
        left = get(address, f"{PATH}/{id}").json()
        assert left["processing_status"] == "in_progress"
        until(lambda: get(address, f"{PATH}/{id}").json()["processing_status"] == "ended", 120)
        rows = [json.loads(line) for line in get(address, f"{PATH}/{id}/results").text.splitlines()]
    assert sorted(row["custom_id"] for row in rows) == sorted(one["custom_id"] for one in asked)
    assert kept.items() <= {row["custom_id"]: row["result"]["message"]["id"] for row in rows}.items()
    assert {row["result"]["type"] for row in rows} == {"succeeded"}
