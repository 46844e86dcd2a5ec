"""What `same_faces.py` needs of commands, servers and sites: it runs them, and writes what they say without what chance
or the clock decides.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

MOST_PAGES, TRIES, END_SECONDS = 600, 20, 90
TODAY = date.today()
# Days near today, by their first ten letters; dates that are names of versions are none.
DAYS = frozenset(str(TODAY + timedelta(days)) for days in range(-45, 401)) - {"2026-10-21"}
# Patterns of what chance or the clock decides, and what is written instead.
KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?", "TIME"),
        (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "TIME"),
        (r"\b(?<![.:\d])\d\d:\d\d(:\d\d)?\b(?![.:\d])", "CLOCK"),
        (r"\bsk-charter-[\w-]{43}", "KEY"),
        (r'name="csrf" value="[^"]*"', 'name="csrf" value="PROOF"'),
        (r"/(join|s)/[\w-]{43}", r"/\1/TOKEN"),
        (r"/shares/[0-9a-f]{64}", "/shares/DIGEST"),
        (r'<code id="key">[^<]*', '<code id="key">KEY'),
        (r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "ID"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
        (r"\b(key|req|org|case|flag|grant|file|msgbatch)_[0-9a-f]{6,16}(?![0-9A-Za-z_])", r"\1_ID"),
        # links of a chain over rows, and digests of ids: no digest of content stands after these
        (r"(\"(?:chain|tip|user|conversation)\": \"|\b\d+:)(?:[\d.]+:|SECONDS:)?[0-9a-f]{64}\b", r"\1DIGEST"),
        (r"(?m)(?<=,)[0-9a-f]{64}(?=\r?$)", "DIGEST"),
        # the last letters of a key
        (r"…[\w-]{4}(?=</(?:option|span)>)", "…TAIL"),
        (r"\"hint\": \"[\w-]{4}\"", '"hint": "TAIL"'),
        (r"(?m)^(key_ID +\w+ +\w+ +)[\w-]{4} ", r"\1TAIL "),
        # buckets are filled up all the time
        (r"(?m)^(\S*ratelimit-\S*remaining\S*: )\d{4,}$", r"\1N"),
        (r"(?m)^(\S*ratelimit-reset\S*: )\S+$", r"\1N"),
        # milliseconds of a request
        (
            r"(>(?:\d{3}|blocked)</span></td>)<td class=\"n\">[\d\s–]+</td><td class=\"n\">[\d\s]+</td>",
            r"\1<td>N</td><td>N</td>",
        ),
        (r"(after|;) \d[\d\s]* ms(?=[;.<])", r"\1 N ms"),
        (r"(\"(?:first_)?milliseconds\": )\d+", r"\1N"),
        (r"(?<=\.(?:css|svg))\?[0-9a-f]{10}|(?<=\.js)\?[0-9a-f]{10}", "?DIGEST"),
        (r"(127\.0\.0\.1|localhost):\d{4,5}\b", r"\1:PORT"),
        (r"\b1[789]\d{8}(\.\d+)?\b", "SECONDS"),
        (r"(?m)( [1-5]\d\d) \d+ ms$", r"\1 N ms"),
        # how long a vote took, and which of two replies stood left
        (r"(\"seconds\":|\bhuman +\d+) +\d+\.\d+", r"\1 N"),
        (r"<td>\d+ s</td>", "<td>N s</td>"),
        (r"\"shown_left\": \"[ab]\"", '"shown_left": "EITHER"'),
    )
)
# Figures of a machine, in the form of Prometheus: the names stay. Also how often a batch was asked whether it ended.
MEASURED = re.compile(
    r"(?m)^((?:python|process)_\w+"
    r"|\w*(?:_seconds(?:_sum|_bucket)?|_bytes|_created|_stalls_total|slow_steps_total)"
    r'|charter_responses_total(?=\{path="/v1/messages/batches/\{batch\}",status="200"\}))(\{.*\})? \S+$'
)
PASSING_HEADERS = frozenset({"date", "content-length"})


def normal(text: str) -> str:
    """A text without what chance or the clock decides."""
    for pattern, kind in KINDS:
        text = pattern.sub(kind, text)
    return re.sub(r"(?<![\w-])\d{4}-\d\d-\d\d(?!\d)", lambda day: "DAY" if day[0] in DAYS else day[0], text)


def pretty(text: str) -> str:
    """JSON on several lines, after a word on how it was written; other text as it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict | list):
        return text
    compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    form = {compact: "compact", json.dumps(value): "spaced"}.get(text, "another form")
    return f"JSON, {form}:\n{json.dumps(value, indent=1, ensure_ascii=False)}"


@dataclass
class Part:
    """A part of the faces: where its texts are written, the folder where commands run, and the tested tree."""

    out: Path
    cwd: Path
    tree: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        told = {"PYTHONPATH": str(self.tree / "src"), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
        self.environment = {**os.environ, **told, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}

    def charter(self, *words: str, check: bool = True) -> str:
        """What a command prints: standard output, then standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "charter", *words],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (words, done.stderr)
        ended = f"exit code {done.returncode}\n" if done.returncode else ""
        return done.stdout + done.stderr + ended

    def say(self, *words: str) -> None:
        """Writes what a command prints."""
        self.write(f"charter {' '.join(words)}.txt", self.charter(*words, check=False))

    def clean(self, text: str) -> str:
        """A text without chance, clock and places of this machine."""
        return normal(text.replace(str(self.cwd), "FOLDER").replace(str(self.tree), "TREE"))

    def write(self, name: str, text: str) -> None:
        """Writes a text; one of the same name is added to the file."""
        with (self.out / re.sub(r"[^\w.?=&-]", "_", self.clean(name))[:150]).open("a", encoding="utf-8") as file:
            file.write(self.clean(text).rstrip("\n") + "\n")

    def record(self, name: str, status: int, headers: Mapping[str, str], body: str) -> None:
        """Writes an answer of a server."""
        kept = sorted((k.lower(), v) for k, v in headers.items() if k.lower() not in PASSING_HEADERS)
        lines = [str(status), *(f"{key}: {value}" for key, value in kept), "", pretty(body)]
        self.write(name, "\n".join(lines))

    def below(self, folder: str) -> Part:
        """The same part, with a folder of its own for what is written."""
        (self.out / folder).mkdir(exist_ok=True)
        return Part(self.out / folder, self.cwd, self.tree)

    @contextmanager
    def running(self, *words: str) -> Iterator[dict[str, Any]]:
        """A server on a free port, and the line of JSON that it prints once it listens; its log is written."""
        command = [sys.executable, "-m", "charter", *words, "--port", "0", "--json"]
        log = self.cwd / "server.log"
        with log.open("w") as told:
            process = subprocess.Popen(
                command, cwd=self.cwd, env=self.environment, stdout=subprocess.PIPE, stderr=told, text=True
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield json.loads(line)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self.write("log.txt", "\n".join(sorted({self.clean(logged(line)) for line in log.read_text().splitlines()})))


def logged(line: str) -> str:
    """A line of a log; of one in JSON what it says but durations."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    return json.dumps({key: "N" if key == "ms" or key.endswith("_ms") else value for key, value in said.items()})


class Page(HTMLParser):
    """The links of a page, and its forms: action, id, and fields that a browser would send."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[tuple[str, str, dict[str, str]]] = []
        self._loose: list[tuple[str, str, str]] = []
        self._in_form, self._plain, self._area, self._choice = False, False, "", ""
        self.feed(page)
        for form, name, value in self._loose:
            for _, of, fields in self.forms:
                if of == form:
                    fields[name] = value

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a link, a form or a field."""
        values = {name: value or "" for name, value in attrs}
        name, value = values.get("name", ""), values.get("value", "")
        if tag in ("a", "link", "script", "img") and (place := values.get("href") or values.get("src")):
            self.links.append(place)
        elif tag == "form":
            self.forms.append((values.get("action", ""), values.get("id", ""), {}))
            self._in_form = True
        elif tag == "input" and name:
            if values.get("type") not in ("checkbox", "radio", "file") or "checked" in values:
                self._field(values.get("form", ""), name, value)
        elif tag == "textarea" and name:
            self._area = name
            self._field(values.get("form", ""), name, "")
        elif tag == "select":
            self._choice = name
        elif tag == "option" and self._in_form and self._choice:
            self._plain = "value" not in values
            if chosen := "selected" in values or self._choice not in self.forms[-1][2]:
                self._field("", self._choice, value)
            self._plain = self._plain and chosen

    def handle_data(self, data: str) -> None:
        """Takes in the text of a field of several lines, or of a choice whose value is its text."""
        if self._plain:
            self.forms[-1][2][self._choice] = data.strip()
        elif self._area and self._in_form:
            self.forms[-1][2][self._area] = self.forms[-1][2].get(self._area, "") + data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        """Ends a form or a field of several lines."""
        self._in_form = self._in_form and tag != "form"
        self._plain = False
        self._area = "" if tag == "textarea" else self._area

    def _field(self, form: str, name: str, value: str) -> None:
        if form:
            self._loose.append((form, name, value))
        elif self._in_form and name:
            self.forms[-1][2][name] = value


class Site:
    """Somebody with a browser at a site; every answer is written."""

    def __init__(self, home: str, part: Part, **headers: str) -> None:
        self.client = httpx.Client(base_url=home, follow_redirects=True, timeout=180, headers=headers)
        self.home, self.part = urlsplit(home).netloc, part

    def get(self, place: str) -> httpx.Response:
        """A page, as soon as the site gives it."""
        for _ in range(TRIES):
            answer = self.client.get(place)
            if answer.status_code != 429:
                break
            time.sleep(float(answer.headers.get("retry-after", 1)))
        return answer

    def send(self, place: str, action: str, **fields: str) -> httpx.Response:
        """Fills the form of a page whose action ends so, sends it, and writes the answer."""
        page = self.get(place)
        forms = [(target, kept) for target, _, kept in Page(page.text).forms if target.endswith(action)]
        assert forms, f"no form to {action} on {place}: {page.status_code} {page.text[:500]}"
        target, kept = forms[0]
        form: dict[str, Any] = {**kept, **fields}
        # only a form with files is sent in parts
        parts = {"files": {key: (None, value) for key, value in form.items()}}
        sent: dict[str, Any] = parts if f'action="{target}" class="composer"' in page.text else {"data": form}
        answer = self.client.post(urljoin(str(page.url), target), headers={"origin": f"http://{self.home}"}, **sent)
        self.note(f"sent {urlsplit(target).path}", answer)
        return answer

    def crawl(self, *starts: str, query: str = "") -> list[str]:
        """Writes every page of this site that links lead to; the first of those that differ only by an id.

        Returns their places. `query` is added to each.
        """
        waiting, seen = deque(starts), dict[str, str]()
        while waiting and len(seen) < MOST_PAGES:
            place = urldefrag(urljoin(str(self.client.base_url), waiting.popleft())).url
            parts = urlsplit(place)
            name = self.part.clean(parts._replace(scheme="", netloc="").geturl())
            if parts.netloc != self.home or name in seen or re.search("/leave|/events", parts.path):
                continue
            seen[name] = place
            answer = self.get(place + query)
            self.note(name, answer)
            if "html" in answer.headers.get("content-type", "") and not query:
                waiting.extend(urljoin(str(answer.url), link) for link in Page(answer.text).links)
        return list(seen.values())

    def note(self, name: str, answer: httpx.Response) -> None:
        """Writes an answer with the steps that led to it."""
        led = "".join(f"{one.status_code} to {one.headers.get('location')}\n" for one in answer.history)
        kind = answer.headers.get("content-type", "")
        text = MEASURED.sub(r"\1\2 N", answer.text) if name.startswith("/metrics") else answer.text
        plain = kind.startswith(("text", "application/json", "application/x-ndjson", "image/svg"))
        if led:
            self.part.write(name, led)
        self.part.record(name, answer.status_code, answer.headers, text if plain else f"{len(answer.content)} bytes")
