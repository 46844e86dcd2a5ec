"""People chat through `charter up` while its process and the model's server are killed; nothing acknowledged may be lost.

    python benchmarks/chat_load.py                      two minutes, 40 people, 20 streams at a time, on SQLite
    python benchmarks/chat_load.py --seconds 1800 --people 200 --streams 50 --only postgresql

The pages run as people run them, in a process of their own, on loopback. The model's server is a script that writes
known words at a steady pace, so that every reply can be checked to the letter, in a process of its own too. Both are
killed with SIGKILL again and again and started anew. Each person notes every question that was acknowledged, and the
file that some of them carry. At the end the database must hold each of them once, unchanged, and a complete reply of the
known words to each. Exit code 1 where it doesn't. Beside that: the first text of a reply through the chat and from the server itself, in turn, and how long pages
take meanwhile. There is no peer that could be installed here: the figures are our own, but for that ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
import uvicorn
from private_postgres import NoPostgres, private_postgres
from side import machine, print_table
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from charter_service.people.export import open_people
from charter_service.people.tables import BLOBS, FILES, MESSAGES
from charter_service.web.database import reading

EVERY_FILE = 4  # each so manyth chat begins with a file
READY_SECONDS = 60.0
GOOD = ("acknowledged questions", "of them with a file")
JSON = {"accept": "application/json"}
SETTLE_SECONDS = 60.0


def words(question: str) -> str:
    """The reply to a question: 40 to 120 words that follow from it."""
    chance = random.Random(question)
    return " ".join(f"w{chance.randrange(1000)}" for _ in range(chance.randrange(40, 120)))


async def messages(request: Request) -> Response:
    """The Messages API, of which the chat needs a stream, also of a begun reply."""
    body = await request.json()
    turns = body["messages"]
    begun = turns[-1]["content"] if turns[-1]["role"] == "assistant" else ""
    question = [turn for turn in turns if turn["role"] == "user"][-1]["content"][-1]["text"]

    async def events() -> AsyncIterator[str]:
        yield 'data: {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}\n\n'
        for word in re.findall(r"\s*\S+", words(question)[len(begun) :]):
            yield f"data: {json.dumps({'type': 'content_block_delta', 'delta': {'text': word}})}\n\n"
            await asyncio.sleep(request.app.state.pace)
        yield 'data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}\n\n'
        yield 'data: {"type": "message_stop"}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream", headers={"request-id": "req_x"})


async def completions(request: Request) -> Response:
    """The same words in OpenAI's shape."""
    body = await request.json()
    text = words([turn for turn in body["messages"] if turn["role"] == "user"][-1]["content"])

    async def events() -> AsyncIterator[str]:
        for word in re.findall(r"\s*\S+", text):
            chunk = {"object": "chat.completion.chunk", "id": "x", "created": 0, "model": "script"}
            yield f"data: {json.dumps({**chunk, 'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n"
            await asyncio.sleep(request.app.state.pace)
        yield f"data: {json.dumps({**chunk, 'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def models(_: Request) -> Response:
    return JSONResponse({"data": [{"id": "script", "max_input_tokens": 100_000, "max_tokens": 1000}]})


async def count_tokens(request: Request) -> Response:
    return JSONResponse({"input_tokens": len(await request.body()) // 4})


async def limits(_: Request) -> Response:
    return JSONResponse({"limits": []})


def serve_script(port: int, pace: float) -> None:
    """Serves the script until it is killed."""
    routes = [
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/limits", limits),
    ]
    app = Starlette(routes=routes)
    app.state.pace = pace
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


@dataclass
class Process:
    """A process that can be killed and started again."""

    command: list[str]
    address: str
    folder: Path
    running: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        log = (self.folder / "log.txt").open("ab")
        self.running = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)
        log.close()
        self.starts += 1

    def kill(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()

    def ready(self) -> bool:
        with suppress(httpx2.HTTPError):
            return httpx2.get(self.address, timeout=2, trust_env=False).status_code == 200
        return False


@dataclass
class Log:
    """What was acknowledged: the text of each question by its id, and the digest of its file; seconds of pages and of
    first texts."""

    questions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    pages: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(process: Process) -> None:
    """Waits until a process can be reached."""
    end = time.monotonic() + READY_SECONDS
    while not process.ready():
        if time.monotonic() > end:
            raise SystemExit(f"{process.address} did not start; see {process.folder / 'log.txt'}")
        time.sleep(0.1)


class Person:
    """Somebody who asks, follows the reply and comes back when the connection is lost."""

    def __init__(self, home: str, name: str, log: Log) -> None:
        self.name, self.log = name, log
        self.client = httpx2.AsyncClient(base_url=home, timeout=30, follow_redirects=True, trust_env=False)

    async def join(self) -> None:
        await self._again("POST", "/join", data={"name": self.name})

    async def chat(self, seconds: float, streams: asyncio.Semaphore) -> None:
        end, number, chance = time.monotonic() + seconds, 0, random.Random(self.name)
        while time.monotonic() < end:
            async with streams:
                chat, parent = "", ""
                for _ in range(chance.randrange(1, 4)):
                    number += 1
                    with_file = not chat and number % EVERY_FILE == 0
                    sent = await self._ask(f"{self.name} asks {number}", chat, parent, with_file)
                    chat, parent = sent["chat"], sent["reply"]
                    await self._follow(parent)
            await asyncio.sleep(chance.random())

    async def _ask(self, text: str, chat: str, parent: str, with_file: bool = False) -> dict[str, str]:
        page = await self._again("GET", f"/c/{chat}" if chat else "/")
        csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
        assert csrf, page.text[:300]
        fields = {"csrf": csrf[1], "text": text, "client": os.urandom(8).hex(), "parent": parent}
        content = words(text).encode()
        if with_file:
            upload = {"data": {"csrf": csrf[1]}, "files": {"upload": ("words.txt", content)}}
            answer = await self._again("POST", "/files", **upload, headers=JSON)
            fields["file"] = answer.json()["files"][0]["id"]
        place = f"/c/{chat}/messages" if chat else "/c"
        answer = await self._again("POST", place, data=fields, headers=JSON)
        sent: dict[str, str] = answer.json()
        self.log.questions[sent["question"]] = text
        if with_file:
            self.log.files[sent["question"]] = hashlib.sha256(content).hexdigest()
        return sent

    async def _follow(self, reply: str) -> None:
        """Follows a reply to its end, through lost connections."""
        began, known, seen = time.monotonic(), "", False
        while True:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": known} if known else {})
            try:
                async with self.client.stream("GET", f"/m/{reply}/events", headers=headers) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("id: "):
                            known = line.removeprefix("id: ")
                        if line.startswith("event: block") and not seen:
                            seen = True
                            self.log.first.append(time.monotonic() - began)
                        if line.startswith("event: state"):
                            return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.3)

    async def _again(self, method: str, place: str, **more: Any) -> httpx2.Response:
        """A request until it is answered; the chat may be away."""
        while True:
            began = time.monotonic()
            try:
                answer = await self.client.request(method, place, **more)
            except httpx2.HTTPError:
                await asyncio.sleep(0.2)
                continue
            if answer.status_code in (429, 503):
                await asyncio.sleep(1.0)
                continue
            if answer.status_code >= 400:
                self.log.refused.append(f"{method} {place}: {answer.status_code} {answer.text[:120]}")
            self.log.pages.append(time.monotonic() - began)
            return answer


async def disturb(processes: dict[str, tuple[Process, float]], end: float, chance: random.Random) -> None:
    """Kills each process about every so many seconds, and starts it again."""
    due = {name: time.monotonic() + every for name, (_, every) in processes.items() if every}
    while time.monotonic() < end and due:
        await asyncio.sleep(0.2)
        for name, (process, every) in processes.items():
            if name in due and time.monotonic() > due[name]:
                await asyncio.to_thread(process.kill)
                process.start()
                due[name] = time.monotonic() + every * chance.uniform(0.7, 1.3)


async def run(options: argparse.Namespace, pages: Process, script: Process) -> Log:
    """All people for the time that was asked for."""
    log, streams = Log(), asyncio.Semaphore(options.streams)
    people = [Person(pages.address, f"p{n}", log) for n in range(options.people)]
    for person in people:
        await person.join()
    end = time.monotonic() + options.seconds
    disturbed = {"pages": (pages, options.kill), "server": (script, 2.5 * options.kill)}
    killer = asyncio.create_task(disturb(disturbed, end, random.Random(options.seed)))
    await asyncio.gather(*(person.chat(options.seconds, streams) for person in people))
    await killer
    for person in people:
        await person.client.aclose()
    return log


def check(database: str, log: Log) -> dict[str, int]:
    """What became of each acknowledged question, once no reply is being written any more."""
    engine = open_people(database)
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        with reading(engine) as connection:
            rows = connection.execute(select(MESSAGES)).all()
            joined = FILES.join(BLOBS, BLOBS.c.id == FILES.c.blob)
            files = connection.execute(select(FILES.c.message, BLOBS.c.text).select_from(joined)).all()
        if not any(row.state == "running" for row in rows) or time.monotonic() > end:
            break
        time.sleep(0.5)
    engine.dispose()
    questions = {row.id: row.text for row in rows if row.role == "user"}
    replies: dict[str, list[Any]] = {}
    for row in rows:
        if row.role == "assistant":
            replies.setdefault(row.parent, []).append(row)
    stored: dict[str, tuple[str, ...]] = {}
    for row in files:
        stored[row.message] = (*stored.get(row.message, ()), hashlib.sha256(row.text.encode()).hexdigest())
    answered = [replies.get(id, []) for id in log.questions]
    return {
        "acknowledged questions": len(log.questions),
        "of them with a file": len(log.files),
        "lost": sum(id not in questions for id in log.questions),
        "changed": sum(questions.get(id) not in (None, text) for id, text in log.questions.items()),
        "doubled": len(questions) - len(set(questions.values())),
        "files lost or changed": sum(stored.get(id) != (sha256,) for id, sha256 in log.files.items()),
        "replies that are not complete": sum(not r or r[0].state != "done" for r in answered),
        "replies with other words": sum(
            bool(r) and r[0].state == "done" and r[0].text != words(text)
            for r, text in zip(answered, log.questions.values(), strict=True)
        ),
    }


async def overhead(home: str, api: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds to the first text through the chat and from the server itself, in turn, one stream at a time."""
    log = Log()
    person = Person(home, "solo", log)
    await person.join()
    direct = list[float]()
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        for number in range(rounds):
            sent = await person._ask(f"solo asks {number}", "", "")
            await person._follow(sent["reply"])
            block = [{"type": "text", "text": f"solo asks {number}"}]
            body = {"model": "script", "messages": [{"role": "user", "content": block}], "stream": True}
            began = time.monotonic()
            async with client.stream("POST", f"{api}/v1/messages", json=body) as answer:
                async for line in answer.aiter_lines():
                    if "content_block_delta" in line:
                        direct.append(time.monotonic() - began)
                        break
    await person.client.aclose()
    return log.first, direct


def percentile(values: list[float], p: int) -> str:
    return f"{1000 * quantiles(values, n=100)[p - 1]:.0f} ms" if len(values) > 1 else "-"


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'people.sqlite'}"
        return
    with private_postgres() as url:
        yield url.format(name="postgres")


def measure(kind: str, options: argparse.Namespace) -> bool:
    """One run on one kind of database; False where something was lost."""
    with tempfile.TemporaryDirectory() as name, databases(kind, Path(name)) as database:
        folder = Path(name)
        port, api_port = free_port(), free_port()
        api, home = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{port}"
        (folder / "server").mkdir()
        script = Process(
            [sys.executable, __file__, "--serve", str(api_port), "--pace", str(options.pace)],
            f"{api}/v1/models",
            folder / "server",
        )
        limits = ["--sign-ups", str(10 * options.people), "--sign-ups-of-one", str(10 * options.people)]
        files = ["--files", str(folder / "files")]
        command = ["up", "--api", api, "--port", str(port), "--sign-up", "--people", database, *limits, *files]
        pages = Process([sys.executable, "-m", "charter", *command], home, folder)
        pages.address = f"{home}/health"
        script.start()
        try:
            wait_for(script)
            pages.start()
            wait_for(pages)
            assert pages.running is not None
            idle = int(Path(f"/proc/{pages.running.pid}/statm").read_text().split()[1]) * 4096 / 2**20
            through, direct = asyncio.run(overhead(home, api, options.rounds))
            pages.address = home
            log = asyncio.run(run(options, pages, script))
            pages.address = f"{home}/health"
            wait_for(pages)
            came_to = check(database, log)
        finally:
            pages.kill()
            script.kill()
    bad = sum(count for name, count in came_to.items() if name not in GOOD) + len(log.refused)
    rows = [[name, str(count)] for name, count in came_to.items()]
    rows += [
        ["refusals that nobody expected", str(len(log.refused))],
        ["starts of the pages, of the server", f"{pages.starts}, {script.starts}"],
        ["pages, p50 and p95 (kills included)", f"{percentile(log.pages, 50)}, {percentile(log.pages, 95)}"],
        ["first text under load, p50 and p95", f"{percentile(log.first, 50)}, {percentile(log.first, 95)}"],
        ["first text alone, through the chat", f"{percentile(through, 50)}, {percentile(through, 95)}"],
        ["first text alone, from the server", f"{percentile(direct, 50)}, {percentile(direct, 95)}"],
        ["ratio of the medians", f"{quantiles(through, n=2)[0] / quantiles(direct, n=2)[0]:.1f}"],
        ["memory of the idle pages", f"{idle:.0f} MiB"],
    ]
    head = f"{kind}, {options.people} people, {options.streams} streams, {options.seconds:.0f} s"
    print_table([[head, ""], *rows])
    for words_of_refusal in log.refused[:5]:
        print(words_of_refusal)
    return not bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--kill", type=float, default=20, help="seconds between kills of the pages; 0: none")
    parser.add_argument("--rounds", type=int, default=20, help="of the first text alone")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between two words of a reply")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_script(options.serve, options.pace)
        return 0
    print(json.dumps(machine(1)))
    good = True
    for kind in ("sqlite", "postgresql"):
        if options.only in (None, kind):
            try:
                good = measure(kind, options) and good
            except NoPostgres as missing:
                print(f"postgresql: not run, {missing}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
