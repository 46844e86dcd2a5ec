"""The chat beside Open WebUI: start, memory, the first text of a reply, lists of chats under load.

    python -m venv DIR && DIR/bin/pip install open-webui       in an environment of its own: 250 packages
    python benchmarks/open_webui.py DIR/bin/open-webui

Both run as people run them, on SQLite, on loopback, without a network, before the same script of a model's server. Each
reply is asked for by a signed-in person. Through Charter it is stored and sent as rendered HTML; through Open WebUI it is
the plain stream of /api/chat/completions, which stores nothing: its pages store a chat by another request at the end.
Lists and chats are what the pages of each load: HTML here, JSON there. Titles, tags and follow-ups are switched off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any, Protocol

import httpx2
import psutil
from chat_load import JSON, Log, Person, Process, free_port, wait_for
from side import machine, print_table

CHATS = 50
PAUSE = 0.12  # seconds between two pages: one person
PLAIN = {
    "ENABLE_OLLAMA_API": "False",
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_TITLE_GENERATION": "False",
    "ENABLE_TAGS_GENERATION": "False",
    "ENABLE_FOLLOW_UP_GENERATION": "False",
    "ENABLE_AUTOCOMPLETE_GENERATION": "False",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "OPENAI_API_KEYS": "none",
    "WEBUI_SECRET_KEY": "only-for-this-run",
}


class Product(Protocol):
    """What is asked of both: one signed-in person."""

    async def enter(self) -> None:
        """Signs in."""

    async def first_text(self, question: str) -> float:
        """Seconds from a question, sent in a new chat, to the first text of its reply; reads it to its end."""

    async def load_list(self) -> None:
        """The list of chats."""

    async def load_chat(self) -> None:
        """One chat."""


class Charter:
    """The pages of `charter up`."""

    def __init__(self, home: str) -> None:
        self.person = Person(home, "solo", Log())
        self.chat = ""

    async def enter(self) -> None:
        """Joins."""
        await self.person.join()

    async def first_text(self, question: str) -> float:
        """Sends the form, and follows the events."""
        page = await self.person.client.get("/")
        csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
        assert csrf
        fields = {"csrf": csrf[1], "text": question, "client": os.urandom(8).hex()}
        began, seen = time.monotonic(), 0.0
        sent = (await self.person.client.post("/c", data=fields, headers=JSON)).json()
        self.chat = sent["chat"]
        place = f"/m/{sent['reply']}/events"
        async with self.person.client.stream("GET", place, headers={"accept": "text/event-stream"}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: block") and not seen:
                    seen = time.monotonic() - began
                if line.startswith("event: state"):
                    break
        return seen

    async def load_list(self) -> None:
        """The page with the list."""
        (await self.person.client.get("/")).raise_for_status()

    async def load_chat(self) -> None:
        """The page of a chat."""
        (await self.person.client.get(f"/c/{self.chat}")).raise_for_status()


class OpenWebui:
    """The API that the pages of Open WebUI use."""

    def __init__(self, home: str) -> None:
        self.client = httpx2.AsyncClient(base_url=home, timeout=60, trust_env=False)
        self.chat = ""

    async def enter(self) -> None:
        """Signs up; the first one is the administrator."""
        who = {"name": "solo", "email": "solo@example.org", "password": "a-long-Password-1"}
        answer = (await self.client.post("/api/v1/auths/signup", json=who)).raise_for_status()
        self.client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        (await self.client.get("/api/models")).raise_for_status()

    async def first_text(self, question: str) -> float:
        """Streams a completion, then stores the chat as the page does."""
        turns = [{"role": "user", "content": question}]
        body = {"model": "script", "messages": turns, "stream": True}
        began, seen, text = time.monotonic(), 0.0, ""
        async with self.client.stream("POST", "/api/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:]).get("choices")
                    piece = choices[0]["delta"].get("content", "") if choices else ""
                    if piece and not seen:
                        seen = time.monotonic() - began
                    text += piece
        said = [{"id": str(n), **turn} for n, turn in enumerate([*turns, {"role": "assistant", "content": text}])]
        chat = {"title": question, "models": ["script"], "messages": said}
        stored = (await self.client.post("/api/v1/chats/new", json={"chat": chat})).raise_for_status()
        self.chat = stored.json()["id"]
        return seen

    async def load_list(self) -> None:
        """The list of chats."""
        (await self.client.get("/api/v1/chats/?page=1")).raise_for_status()

    async def load_chat(self) -> None:
        """One chat."""
        (await self.client.get(f"/api/v1/chats/{self.chat}")).raise_for_status()


def memory(process: subprocess.Popen[bytes]) -> float:
    """MiB of a process and its children."""
    one = psutil.Process(process.pid)
    return float(sum(each.memory_info().rss for each in (one, *one.children(recursive=True))) / 2**20)


async def measure(product: Product, rounds: int, streams: int) -> dict[str, float]:
    """Milliseconds of one product, p50 and p95."""
    await product.enter()
    alone = [await product.first_text(f"question {n}") for n in range(CHATS)][-rounds:]
    kinds: dict[str, Any] = {"list": product.load_list, "chat": product.load_chat}
    figures = percentiles("first text, one stream", alone)
    for name, load in kinds.items():
        figures |= percentiles(f"{name}, idle", [await timed(load()) for _ in range(rounds)])
    busy = [asyncio.create_task(product.first_text(f"busy {n}")) for n in range(streams)]
    await asyncio.sleep(0.5)
    for name, load in kinds.items():
        figures |= percentiles(f"{name}, {streams} streams", [await timed(load()) for _ in range(rounds)])
    figures |= percentiles(f"first text, {streams} streams", list(await asyncio.gather(*busy)))
    return figures


async def timed(load: Any) -> float:
    await asyncio.sleep(PAUSE)
    began = time.monotonic()
    await load
    return time.monotonic() - began


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    cut = quantiles(seconds, n=100)
    return {f"{name}, p50 ms": 1000 * cut[49], f"{name}, p95 ms": 1000 * cut[94]}


@contextmanager
def running(
    command: list[str], home: str, health: str, folder: Path, env: dict[str, str]
) -> Iterator[dict[str, float]]:
    """A product that runs meanwhile: seconds to its start, and its memory once it is idle."""
    folder.mkdir()
    began = time.monotonic()
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **env})
    try:
        while True:
            try:
                if httpx2.get(home + health, timeout=5, trust_env=False).status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            if time.monotonic() - began > 300 or process.poll() is not None:
                raise SystemExit(f"{command[0]} did not start:\n{(folder / 'log.txt').read_text()[-2000:]}")
            time.sleep(0.1)
        ready = time.monotonic() - began
        time.sleep(5)
        yield {"seconds to start": ready, "idle memory, MiB": memory(process)}
    finally:
        process.terminate()
        process.wait(60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("open_webui", type=Path, help="its command")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--streams", type=int, default=4, help="a person of Charter has four at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, api_port = Path(name), free_port()
        api = f"http://127.0.0.1:{api_port}"
        (folder / "server").mkdir()
        script = Process(
            [sys.executable, str(Path(__file__).with_name("chat_load.py")), "--serve", str(api_port)],
            f"{api}/v1/models",
            folder / "server",
        )
        script.start()
        sides: dict[str, dict[str, float]] = {}
        try:
            wait_for(script)
            port = free_port()
            home = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "charter", "up", "--api", api, "--port", str(port), "--sign-up"]
            with running(command, home, "/health", folder / "charter", {}) as start:
                sides["Charter"] = start | asyncio.run(measure(Charter(home), options.rounds, options.streams))
            port = free_port()
            home = f"http://127.0.0.1:{port}"
            command = [str(options.open_webui.absolute()), "serve", "--host", "127.0.0.1", "--port", str(port)]
            env = PLAIN | {"OPENAI_API_BASE_URLS": f"{api}/v1", "DATA_DIR": str(folder / "data")}
            with running(command, home, "/health", folder / "peer", env) as start:
                peer = OpenWebui(home)
                sides["Open WebUI"] = start | asyncio.run(measure(peer, options.rounds, options.streams))
        finally:
            script.kill()
    ours, theirs = sides["Charter"], sides["Open WebUI"]
    print(json.dumps(machine(2)))
    rows = [[key, f"{ours[key]:.1f}", f"{theirs[key]:.1f}", f"{theirs[key] / ours[key]:.1f}"] for key in ours]
    print_table([["", "Charter", "Open WebUI", "Open WebUI / Charter"], *rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
