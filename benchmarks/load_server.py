"""A server in a process of its own, as people run it, with keys to it, and what it holds while it is under load."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from charter_service.accounts.keys import USUAL, KeyLimits, make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.web.database import writing

VERSION = {"anthropic-version": "2023-06-01"}
GENEROUS = KeyLimits(
    requests_per_minute=10**6, input_tokens_per_minute=10**9, output_tokens_per_minute=10**9, concurrency=10**5
)


class Server:
    """A running server: its process, address and model."""

    def __init__(self, process: subprocess.Popen[str], address: str, model: str) -> None:
        self.process, self.address, self.model = process, address, model
        self.port = int(address.rpartition(":")[2])
        self._facts = psutil.Process(process.pid)

    def figures(self) -> dict[str, Any]:
        """Memory in MiB, threads, open files, busy slots and what waits."""
        text = httpx.get(f"{self.address}/metrics", timeout=120).text
        engine = {what: float(value) for what, value in re.findall(r'charter_engine{.*what="(\w+)"} (\S+)', text)}
        return {
            "rss_mib": round(self._facts.memory_info().rss / 2**20),
            "threads": self._facts.num_threads(),
            "files": self._facts.num_fds(),
            "busy": engine.get("busy"),
            "waiting": engine.get("waiting"),
        }

    def longest(self, key: str) -> int:
        """Tokens of the longest reply that the model may give."""
        given = {**VERSION, "x-api-key": key}
        return int(httpx.get(f"{self.address}/v1/models/{self.model}", headers=given).json()["max_tokens"])

    def rss(self) -> int:
        """MiB."""
        return round(self._facts.memory_info().rss / 2**20)


class Watch(threading.Thread):
    """Follows the server's memory, and how long a small request takes."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server, self._over = server, threading.Event()
        self.peak, self.longest = 0, 0.0

    def run(self) -> None:
        with httpx.Client(timeout=300) as client:
            while not self._over.wait(0.1):
                began = time.monotonic()
                with suppress(httpx.HTTPError):
                    client.get(f"{self._server.address}/healthz")
                self.longest = max(self.longest, time.monotonic() - began)
                self.peak = max(self.peak, self._server.rss())

    def end(self) -> dict[str, Any]:
        self._over.set()
        self.join()
        return {"peak_rss_mib": self.peak, "longest_health_s": round(self.longest, 2)}


def key_of(database: str, folder: Path, limits: KeyLimits = GENEROUS) -> str:
    """A new key in the accounts' database."""
    engine = open_accounts(database, folder)
    try:
        with writing(engine) as connection:
            organisation = make_organisation(connection, f"load {time.monotonic_ns()}")
            return make_key(connection, organisation, "load", (*USUAL, "admin"), limits=limits)[1]
    finally:
        engine.dispose()


@contextmanager
def served(database: str, reference: str, policy: bool = False, set_threads: bool = False) -> Iterator[Server]:
    """`charter serve` in a process of its own, keys required; with `set_threads` it chooses its threads and allocator
    itself, as it does for people."""
    words = [f"load={reference}", "--port", "0", "--json", "--device", "cpu"]
    words += [] if policy else ["--no-policy"]  # both are measured
    command = [sys.executable, "-m", "charter", "serve", *words, "--database", database]
    environment = {**os.environ, "CHARTER_LAUNCHED": "0" if set_threads else "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield Server(process, json.loads(process.stdout.readline())["address"], "load")
        finally:
            process.kill()


def settled(server: Server) -> dict[str, Any]:
    """The figures once nothing is under way, or after a minute."""
    end = time.monotonic() + 60
    while (found := server.figures())["busy"] or found["waiting"]:
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return found
