"""A program that uses the service like a browser: one person's cookies and pages, and forms with their hidden fields.

If the service is away, a request is repeated until it answers; every form may be sent twice.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

from charter.ground.artifact.errors import CharterError

PATIENCE = 60.0  # seconds that a service may be away
LONGEST_WAIT = 30.0  # seconds that it may ask to wait
VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)


class Away(CharterError):
    """The service can't be reached."""


@dataclass
class Form:
    """A form of a page: its address, its hidden fields, the values of its choices and the names of its text fields."""

    action: str
    hidden: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """The parts of a page that the program needs: forms, links, both replies, the reply to judge, the waiting turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.waiting: str | None = None
        self._texts: dict[str, list[str]] = {"reply": [], "judged": []}
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    @property
    def replies(self) -> list[str]:
        """The left and the right reply, if there are any."""
        return self._texts["reply"]

    @property
    def judged(self) -> str:
        """The reply that a reviewer judges."""
        return "".join(self._texts["judged"])

    def form(self, ending: str) -> Form | None:
        """The form whose address ends with `ending`."""
        return next((form for form in self.forms if form.action.endswith(ending)), None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects forms, links, fields and marked elements."""
        attributes = {name: value or "" for name, value in attrs}
        classes = attributes.get("class", "").split()
        if tag == "form":
            self.forms.append(Form(attributes.get("action", "")))
        elif tag == "a":
            self.links.append(attributes.get("href", ""))
        elif tag in ("input", "textarea") and self.forms and attributes.get("name"):
            self._field(self.forms[-1], tag, attributes)
        self.waiting = attributes.get("data-turn", self.waiting)
        if tag not in VOID:
            inside = self._open[-1][1] if self._open else ""
            mark = next((name for name in self._texts if name in classes), inside.removesuffix(" text"))
            if mark and "text" in classes:
                self._texts[mark].append("")
                mark += " text"
            self._open.append((tag, mark))

    def handle_endtag(self, tag: str) -> None:
        """Closes what is open, up to this tag."""
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Collects the text of marked elements."""
        mark = self._open[-1][1] if self._open else ""
        if mark.endswith(" text"):
            self._texts[mark.removesuffix(" text")][-1] += data

    @staticmethod
    def _field(form: Form, tag: str, attributes: Mapping[str, str]) -> None:
        name, kind = attributes["name"], attributes.get("type", "text")
        if tag == "input" and kind == "hidden":
            form.hidden[name] = attributes.get("value", "")
        elif kind in ("radio", "checkbox"):
            form.choices.setdefault(name, []).append(attributes.get("value", ""))
        else:
            form.texts.append(name)


@dataclass(frozen=True)
class Answer:
    """An answer of the service."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def place(self) -> str:
        """The address that it redirects to."""
        return self.headers.get("location", "")

    @property
    def words(self) -> str:
        """The beginning of its text, without the tags of a page."""
        said = re.sub(r"<[^>]*>", " ", self.body[max(0, self.body.find("<main")) :])
        return " ".join(unescape(said).split())[:200]


Fields = Mapping[str, str | Sequence[str]]


class Visitor:
    """One person's browser. `timed` is called after each request with its kind, status and seconds."""

    def __init__(self, url: str, timed: Callable[[str, int, float], None] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise CharterError(f"{url} is not the address of a service; write it as http://127.0.0.1:8760")
        self._host, self._port = parts.hostname, parts.port or 80
        self._timed = timed or (lambda what, status, seconds: None)
        self._connection: http.client.HTTPConnection | None = None
        self.cookies: dict[str, str] = {}

    def page(self, place: str) -> Page:
        """A page. Raises CharterError if it isn't there."""
        answer = self.get(place)
        if answer.status != 200:
            raise CharterError(f"{place.partition('?')[0][:60]} answered {answer.status}: {answer.words}")
        return Page(answer.body)

    def get(self, place: str) -> Answer:
        """The answer to a GET."""
        return self._ask("GET", place, None)

    def state(self, turn: str) -> str:
        """Whether a turn is waiting, ready, voted or failed."""
        answer = self.get(f"/turn/{turn}/state")
        if answer.status != 200:
            raise CharterError(f"a turn's state answered {answer.status}: {answer.words}")
        return str(json.loads(answer.body)["state"])

    def send(self, form: Form, fields: Fields | None = None) -> Answer:
        """Sends a form with its choices and texts."""
        return self.post(form.action, {**form.hidden, **(fields or {})})

    def post(self, place: str, fields: Fields) -> Answer:
        """Sends fields to a place."""
        return self._ask("POST", place, urlencode(fields, doseq=True))

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, place: str, body: str | None) -> Answer:
        """Repeats a request until the answer isn't "later". Raises Away if there is none for a long time."""
        end = time.monotonic() + PATIENCE
        while True:
            began = time.monotonic()
            try:
                answer = self._once(method, place, body)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if time.monotonic() > end:
                    said = str(error) or type(error).__name__
                    raise Away(
                        f"no answer from {self._host}:{self._port} ({said}); is the service running?"
                    ) from None
                time.sleep(0.1)
                continue
            self._timed(f"{method} {place}", answer.status, time.monotonic() - began)
            wait = float(answer.headers.get("retry-after", "0") or 0)
            if answer.status not in (429, 503) or wait > LONGEST_WAIT or time.monotonic() > end:
                return answer
            time.sleep(max(wait, 0.2))

    def _once(self, method: str, place: str, body: str | None) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, place, body, headers)
        response = self._connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                cookie, _, content = value.partition(";")[0].partition("=")
                self.cookies[cookie.strip()] = content.strip()
        if response.will_close:
            self.close()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, text)
