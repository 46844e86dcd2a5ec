"""A chat and an API server as processes of their own, somebody who sends hostile texts to them, and somebody else whose
waits are measured meanwhile. A test and a benchmark use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from charter_service.chat.markdown import LONGEST_RENDERED, MOST_MARKS

PATIENCE = 120.0
PAUSE = 0.05  # seconds between two looks of the other person
TESTS = Path(__file__).parents[2]
_API = """
import sys, time
from pathlib import Path
from lobby import configuration, open_hall, watching
config = configuration(policy={"state": "on"}, engine={"slots": 2})
with open_hall(Path(sys.argv[1]), config, watching("poison")) as hall:
    print('{"address": "%s", "admin": "%s", "key": "%s", "other": "%s"}' % (
        hall.url, hall.key("house", ("admin",)), hall.key("hostile"), hall.key("other")), flush=True)
    time.sleep(3600)
"""


def long(piece: str, most: int = LONGEST_RENDERED) -> str:
    """A piece again and again."""
    return (piece * (most // len(piece) + 1))[:most]


def _fenced(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```\n\n"


def _chat_of(reply: str, title: str = "x") -> str:
    """An export of a chat whose reply is hostile, in ChatGPT's form."""
    words = {"q": ("user", "Hello"), "a": ("assistant", reply)}
    mapping = {
        id: {"parent": "q" if id == "a" else None, "message": {"author": {"role": role}, "content": {"parts": [text]}}}
        for id, (role, text) in words.items()
    }
    return json.dumps([{"title": title, "current_node": "a", "mapping": mapping}])


MARKS = MOST_MARKS
# replies, each as long as a text that is rendered may be
REPLIES = {
    "a tab in easytrieve": _fenced("easytrieve", long("\t", 9900)),
    "mcschema": _fenced("mcschema", long("<!--", 90_000)),
    "xpp": _fenced("xpp", long("a\n ", 90_000)),
    "100,000 brackets": long("["),
    "brackets up to the limit": long("![[", MARKS),
    "headings up to the limit": long("#\n", MARKS * 2 // 3),
    "quotations": long("> a\n\n", MARKS),
    "a table of 5,000 columns": "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n|" + "b|" * 5000,
    "a table of 2,500 rows": "|a|b|\n|-|-|\n" + "|a|b|\n" * 2500,
    "10,000 formulas": long("\\(a\\) "),
    "formulas of 2,000 characters": ("\\[" + "a_b^c" * 390 + "\\]\n\n") * 48,
    "100 blocks of code": "".join(_fenced("python", long(f"f'{{{n}", 900)) for n in range(100)),
    "autolinks": long("<a@b.c>"),
    "10,000 definitions of links": "".join(f"[a{n}]: b\n" for n in range(6000)) + "[a1] " * 1000,
    "letters with marks": "a" + "\u0301" * 99_000,
    "bidirectional marks": long("\u202ea\u2066"),
}


@dataclass
class Watch:
    """The waits of somebody else, in seconds, and which answers were none."""

    look: Callable[[], int]
    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Looks every PAUSE seconds until the context is left, and once at least."""
        over = threading.Event()

        def look_on() -> None:
            while True:
                began = time.monotonic()
                try:
                    status = self.look()
                    # to be told that one looks too often is an answer
                    if status not in (200, 429):
                        self.failures.append(str(status))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.waits.append(time.monotonic() - began)
                if over.wait(PAUSE):
                    return

        thread = threading.Thread(target=look_on)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()


def patient(client: httpx.Client, method: str, place: str, **fields: Any) -> httpx.Response:
    """The answer to a request, asked again while it comes too soon; a form that led on to a page isn't sent twice."""
    answer = client.request(method, place, **fields)
    while answer.status_code == 429:
        time.sleep(1.0)
        if answer.history:
            method, place, fields = "GET", str(answer.url), {}
        answer = client.request(method, place, **fields)
    return answer


class Guest:
    """Somebody's browser at a chat that runs in another process."""

    def __init__(self, joining: str, name: str) -> None:
        self.home = joining.partition("/join/")[0]
        self.client = httpx.Client(base_url=self.home, timeout=PATIENCE, follow_redirects=True)
        answer = self.client.post(joining, data={"name": name})
        assert answer.status_code == 200, answer.text[:500]
        self.csrf = re.findall(r'name="csrf" value="(\w+)"', self.client.get("/").text)[0]

    def send(self, place: str, **fields: str) -> httpx.Response:
        """The page behind a form."""
        return patient(self.client, "POST", place, data={"csrf": self.csrf, **fields})

    def page(self, place: str, **query: str) -> httpx.Response:
        """A page."""
        return patient(self.client, "GET", place, params=query)

    def invite(self) -> str:
        """A link by which somebody joins."""
        return re.findall(r"http[^\"<\s]+/join/[\w-]{43}", self.send("/people/invite").text)[0]

    def bring_in(self, reply: str, title: str = "x") -> str:
        """The id of a chat that is imported, with a hostile reply in it."""
        before = self._chats()
        answer = self.send("/me/import", text=_chat_of(reply, title))
        assert answer.status_code == 200 and "The chats are imported" in answer.text, answer.text[:500]
        (id,) = self._chats() - before
        return id

    def share(self, id: str) -> str:
        """The address of a shared copy of a chat."""
        return re.findall(r"/s/[\w-]{43}", self.send(f"/c/{id}/share").text)[0]

    def _chats(self) -> set[str]:
        page = self.page("/")
        assert page.status_code == 200, page.text[:500]
        return set(re.findall(r'href="/c/([\w-]+)', page.text))


@contextmanager
def process(*command: str) -> Iterator[dict[str, Any]]:
    """A service as a process; gives what it printed once it could be reached."""
    places = [str(TESTS), str(TESTS / "service/api"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment) as one:
        try:
            assert one.stdout is not None
            yield json.loads(one.stdout.readline() or "{}")
        finally:
            one.kill()


@contextmanager
def chat_process(api: str, folder: Path) -> Iterator[str]:
    """A chat in front of a model's server; gives the link by which its first person joins."""
    command = ("-m", "charter", "chat", "serve", "--api", api, "--people", str(folder / "people.sqlite"))
    with process(*command, "--port", "0", "--json") as facts:
        yield str(facts["address"])


@contextmanager
def api_process(folder: Path) -> Iterator[dict[str, str]]:
    """An API server of toy models; gives its address, an admin key, and keys of two organisations."""
    with process("-c", _API, str(folder)) as facts:
        yield facts


def bomb(levels: int = 9) -> str:
    """A text of YAML whose aliases stand for nine times as many values at each level."""
    names = "abcdefghijklm"[:levels]
    lines = [f"{names[0]}: &{names[0]} [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in pairwise(names)]
    return "\n".join(lines)


def form(pattern: str) -> dict[str, Any]:
    """A request whose reply must match a pattern."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}
    schema["additionalProperties"] = False
    message = {"role": "user", "content": "Hello"}
    output = {"format": {"type": "json_schema", "schema": schema}}
    return {"model": "toy-2", "max_tokens": 40, "messages": [message], "output_config": output}


VERSION = {"anthropic-version": "2023-06-01"}


def hostile_requests(facts: dict[str, str]) -> dict[str, Callable[[httpx.Client], httpx.Response]]:
    """What somebody sends to the API server, by its kind."""
    mine, admin = {"x-api-key": facts["key"], **VERSION}, {"x-api-key": facts["admin"]}
    plain = {"model": "toy-2", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}

    def post(place: str, headers: dict[str, str], body: Any) -> Callable[[httpx.Client], httpx.Response]:
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        kind = {"content-type": "application/json"}
        return lambda client: client.post(place, content=content, headers={**headers, **kind})

    def says(text: str) -> dict[str, Any]:
        return {**plain, "messages": [{"role": "user", "content": text}]}

    draft, messages = "/admin/policy/draft", "/v1/messages"
    return {
        "aliases in a policy": post(draft, admin, {"act": "check", "text": bomb(), "seen": 0}),
        "lists in lists in a policy": post(draft, admin, {"act": "check", "text": "[" * 90_000, "seen": 0}),
        "50,000 keys in a policy": post(
            draft, admin, {"act": "check", "text": "".join(f"k{n}: 1\n" for n in range(10_000)), "seen": 0}
        ),
        "nested repetitions in a pattern": post(messages, mine, form("^(a+)+(b|c+)+$")),
        "a large repetition in a pattern": post(messages, mine, form("^((a{1,200}){1,200}){1,200}$")),
        "100,000 stop sequences": post(messages, mine, {**plain, "stop_sequences": ["a" * 9] * 100_000}),
        "JSON of depth 100,000": post(messages, mine, "[" * 100_000),
        "a number of a million digits": post(
            messages, mine, json.dumps(plain).replace('"max_tokens": 4', f'"max_tokens": {"1" * 10**6}')
        ),
        "backslashes": post(messages, mine, says("\\" * 100_000)),
        "letters and full stops": post(messages, mine, says("a. " * 33_000)),
        "a megabyte of entities": post(messages, mine, says("&#1;" * 250_000)),
        "a header of 16 KB with weights": lambda client: client.get(
            "/v1/models", headers={**mine, "accept": ",".join(["a/b;q=0.5"] * 1600)}
        ),
        "cookies": lambda client: client.get(
            "/admin/enter", headers={"cookie": "; ".join(f'a{n}="\\{n}' for n in range(2000))}
        ),
    }
