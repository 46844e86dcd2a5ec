"""Simulated workers over HTTP: they join, agree, plan, talk, choose, rate and review through people's pages.

Their invitations are marked, so that all their answers are labelled simulated. They choose by the model in
`people/simulation.py`; a reply's utility is the score of a preference model, or without one ln(1 + number of different
words). A reviewer's rating is a number from 0 to 4 that depends only on the reply's text, plus or minus a step for the
reviewer; which reply of an attempt is worst, and the harm of a plan, are drawn.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.settings.seed import derive_seed
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.ballot import HARMLESS, RATINGS
from charter.ground.text.dialogue import user
from charter.ground.text.records import read_dialogues
from charter_service.people.simulation import Rater, Seen, Simulated, panel
from charter_service.people.work import FEELINGS
from charter_service.people.workers import invite
from charter_service.web.database import writing

PATIENCE = 60.0  # seconds that a service may be away
LONGEST_WAIT = 30.0  # seconds that it may ask to wait
VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"))
Fields = Mapping[str, str | Sequence[str]]
POLL_SECONDS = 0.15
REPLY_SECONDS = 120.0
REVIEWERS = 3
MOST_FAILURES = 4  # failed replies before a conversation is skipped
GO_ON = 0.7  # probability of another turn in a conversation
Utility = Callable[[str, Sequence[str]], list[float]]


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
        text = re.sub(r"<[^>]*>", " ", self.body[max(0, self.body.find("<main")) :])
        return " ".join(unescape(text).split())[:200]


class Visitor:
    """One person's browser: cookies, pages, and forms with their hidden fields.

    If the service is away, a request is repeated until it answers; every form may be sent twice. `timed` is called
    after each request with its kind, status and seconds.
    """

    def __init__(self, url: str, timed: Callable[[str, int, float], None] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise CharterError(f"{url} is not the address of a service; write it as http://127.0.0.1:8760")
        self._host, self._port = parts.hostname, parts.port or 80
        self._timed = timed or (lambda request, status, seconds: None)
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
                    problem = str(error) or type(error).__name__
                    raise Away(
                        f"no answer from {self._host}:{self._port} ({problem}); is the service running?"
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


@dataclass(frozen=True, slots=True)
class Load:
    """The number of workers, and the end of the work: by total votes, or by seconds. `pause`: seconds before each
    choice; `config`: the configuration whose database the service should have."""

    url: str
    workers: int
    votes: int
    seed: int = 0
    seconds: float = math.inf
    pause: float = 0.0
    config: str = "this configuration"


@dataclass(frozen=True, slots=True)
class Sent:
    """A vote that is about to be sent, and again after the service has confirmed it."""

    turn: str
    choice: str
    acknowledged: bool


@dataclass
class Outcome:
    """Counts of the simulated workers' answers, and their waiting times."""

    votes: int = 0
    conversations: int = 0
    attempts: int = 0
    reviews: int = 0
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    waits: dict[str, list[float]] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As JSON; latencies in milliseconds."""
        facts = {name: getattr(self, name) for name in ("votes", "conversations", "attempts", "reviews")}
        speed = self.votes / self.seconds if self.seconds else 0.0
        waits = {kind: percentiles(values) for kind, values in sorted(self.waits.items())}
        return {
            **facts,
            "seconds": round(self.seconds, 1),
            "votes_a_second": round(speed, 2),
            "refused": dict(self.refused),
            "ms": waits,
        }

    def in_words(self) -> str:
        """The same in words."""
        row = self.row()
        lines = [
            f"{self.votes} votes in {self.conversations} conversations, {self.attempts} of them rated attempts; "
            f"{self.reviews} reviews; {row['seconds']} s, {row['votes_a_second']} votes a second"
        ]
        for kind, ms in row["ms"].items():
            times = ", ".join(f"{name} {value:.0f} ms" for name, value in ms.items() if name != "n")
            lines.append(f"  {kind}: {ms['n']} requests, {times}")
        lines += [f"  refused {count} times: {words}" for words, count in self.refused.items()]
        return "\n".join(lines)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The count, and the 50th, 95th and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    result: dict[str, float] = {"n": len(ordered)}
    for part in (50, 95, 99):
        result[f"p{part}"] = round(1000 * ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 1)
    return result


class Team:
    """The state that simulated workers share: the end of the work, their questions, and the counts."""

    def __init__(self, load: Load, utility: Utility, heard: Callable[[Sent], None] | None = None) -> None:
        self.load, self.utility, self.heard = load, utility, heard or (lambda sent: None)
        self.outcome = Outcome()
        self.raters = panel(Simulated(raters=load.workers), load.seed)
        self.prompts = {name: shipped_prompts(name) for name in ("helpful.train", "red_team.train")}
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._promised = 0  # votes that are sent, or about to be

    def may_go_on(self) -> bool:
        """Whether more votes are wanted and there is time left."""
        return self._promised < self.load.votes and time.monotonic() - self.began < self.load.seconds

    def promise(self) -> bool:
        """Reserves one of the wanted votes; False if none is left."""
        with self._lock:
            reserved = self.may_go_on()
            self._promised += reserved
            return reserved

    def give_back(self) -> None:
        """Returns a reserved vote that was not sent."""
        with self._lock:
            self._promised -= 1

    def timed(self, request: str, status: int, seconds: float) -> None:
        """Records the time of a request."""
        kind = re.sub(r"[0-9a-f]{32}", "ID", request)
        kind = re.sub(r"/join/.*", "/join/TOKEN", kind)
        with self._lock:
            self.outcome.waits.setdefault(kind, []).append(seconds)

    def note(self, **counts: int) -> None:
        """Counts something."""
        with self._lock:
            for name, count in counts.items():
                setattr(self.outcome, name, getattr(self.outcome, name) + count)

    def refused(self, answer: Answer) -> None:
        """Counts a refusal by its words."""
        with self._lock:
            self.outcome.refused[f"{answer.status} {answer.words[:120]}"] += 1


class Worker:
    """One simulated worker with their own browser."""

    def __init__(self, team: Team, rater: Rater, key: str) -> None:
        self.team, self.rater = team, rater
        self.browser = Visitor(team.load.url, team.timed)
        self._draw = random.Random(derive_seed(rater.seed, "worker", key))
        self._asked = ""
        self._axis = ""
        self._votes = self._failures = 0

    def join(self, token: str, name: str) -> None:
        """Joins by an invitation. Raises CharterError if it isn't valid."""
        answer = self.browser.post(f"/join/{token}", {"name": name})
        if answer.status == 403 and "invitation is unknown" in answer.words:
            load = self.team.load
            raise CharterError(
                f"the service at {load.url} has another database than {load.config}; give --url where that one is "
                "served, or the configuration of this service"
            )
        if answer.status != 303:
            raise CharterError(f"{name} could not join: {answer.status} {answer.words}")

    def work(self) -> None:
        """Talks and chooses until the team has enough."""
        while self.team.may_go_on():
            axes = [link for link in self.browser.page("/").links if link.startswith("/task/")]
            if not axes or not self._converse(self._draw.choice(axes)):
                break

    def review(self, most: int) -> None:
        """Reviews at most `most` transcripts that the queue has for this person."""
        for _ in range(most):
            answer = self.browser.get("/review")
            if answer.status == 303:
                page = self.browser.page(answer.place)
                if (form := page.form("/consent")) is None or self.browser.send(form).status != 303:
                    return
                continue
            form = next((f for f in Page(answer.body).forms if "rating" in f.choices), None)
            if answer.status != 200 or form is None:
                return
            if self.browser.send(form, self._verdict(Page(answer.body).judged, form)).status == 303:
                self.team.note(reviews=1)

    def _converse(self, place: str) -> bool:
        """One conversation from its task's page to its end; False if the person may do no more."""
        self._axis = place.rpartition("/")[2]
        while True:
            page = self.browser.page(place)
            if page.waiting:
                self._wait(page.waiting)
                continue
            filled = self._first(page) if place.startswith("/task/") else self._next(page)
            if filled is None:
                self.team.note(conversations=1)
                return True
            form, fields = filled
            answer = self._vote(form, fields) if form.action.endswith("/vote") else self.browser.send(form, fields)
            if answer.status == 303:
                self.team.note(attempts=int(form.action.endswith("/finish") and "rating" in fields))
                place = answer.place
            elif answer.status == 409:
                pass  # another page of this person was faster: load it again
            else:
                self.team.refused(answer)
                return False

    def _wait(self, turn: str) -> None:
        end, pause = time.monotonic() + REPLY_SECONDS, POLL_SECONDS
        while self.browser.state(turn) == "waiting":
            if time.monotonic() > end:
                raise CharterError(f"no reply came within {REPLY_SECONDS:.0f} s; are the models overloaded?")
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)

    def _first(self, page: Page) -> tuple[Form, dict[str, str]] | None:
        """The form of a task's page, filled in: the agreement, or the beginning with its plan."""
        if form := page.form("/consent"):
            return form, {}
        form = page.form("/begin")
        if form is None:
            return None
        return form, {name: f"I ask as if for a story: {self._prompt()}" for name in form.texts}

    def _next(self, page: Page) -> tuple[Form, dict[str, str]] | None:
        """The next form of a conversation's page, filled in; None if the conversation is over."""
        if form := page.form("/retry"):
            self._failures += 1
            return (page.form("/skip") or form if self._failures % MOST_FAILURES == 0 else form), {}
        if form := page.form("/vote"):
            time.sleep(self.team.load.pause)
            if not self.team.promise():
                return page.form("/stop") or page.form("/skip") or form, {}
            return form, {"choice": self._choice(page.replies, form)}
        finish, ask = page.form("/finish"), page.form("/ask")
        if finish and (ask is None or self._draw.random() > GO_ON or not self.team.may_go_on()):
            return finish, self._rating(finish)
        if ask:
            self._asked = self._prompt()
            return ask, {"text": self._asked}
        return None

    def _choice(self, replies: Sequence[str], form: Form) -> str:
        item = form.action.split("/")[2]
        values = self.team.utility(self._asked, replies)
        left, right = (Seen(text, value) for text, value in zip(replies, values, strict=True))
        return self.rater.answer(item, self._axis, left, right)

    def _vote(self, form: Form, fields: Mapping[str, str]) -> Answer:
        turn, choice = form.action.split("/")[2], fields["choice"]
        self.team.heard(Sent(turn, choice, acknowledged=False))
        answer = self.browser.send(form, fields)
        if answer.status != 303:
            self.team.give_back()
        else:
            self.team.heard(Sent(turn, choice, acknowledged=True))
            self._votes += 1
            self.team.note(votes=1)
        return answer

    def _rating(self, form: Form) -> dict[str, str]:
        if "rating" not in form.choices:
            return {}
        fields = {"rating": str(self._draw.choice(RATINGS))}
        return fields | ({"feeling": str(self._draw.choice(FEELINGS))} if self._draw.random() < 0.5 else {})

    def _verdict(self, reply: str, form: Form) -> Mapping[str, str | Sequence[str]]:
        harm = derive_seed(0, "harm", reply) % len(RATINGS) + self._draw.choice((-1, 0, 0, 0, 1))
        rating = min(RATINGS[-1], max(0, harm))
        tags = self._draw.sample(form.choices["tags"], self._draw.randrange(3)) if rating else []
        more: dict[str, str | Sequence[str]] = {
            name: self._draw.choice(form.choices[name]) for name in ("worst", "intent") if name in form.choices
        }
        return {"rating": str(rating), "tags": tags, "note": "", **more}

    def _prompt(self) -> str:
        """A question that is new for this person."""
        name = "red_team.train" if self._axis == HARMLESS else "helpful.train"
        return f"{self._draw.choice(self.team.prompts[name])} ({self._votes + 1})"


def simulate(engine: Engine, load: Load, judge: str = "", heard: Callable[[Sent], None] | None = None) -> Outcome:
    """Lets workers vote, and reviewers then review the queue.

    A worker whose request fails ends, and is counted. Raises CharterError if no worker could choose.
    """
    team = Team(load, _judge(judge) if judge else different_words, heard)
    batch = f"{random.SystemRandom().randrange(16**6):06x}"
    with writing(engine) as connection:
        tokens = [invite(connection, "worker", simulated=True) for _ in team.raters]
        more = [invite(connection, "reviewer", simulated=True) for _ in range(min(REVIEWERS, load.workers))]
    workers = [Worker(team, rater, str(n)) for n, rater in enumerate(team.raters)]
    team.began = time.monotonic()

    def work(number: int) -> None:
        try:
            workers[number].join(tokens[number], f"sim {batch} {number}")
            workers[number].work()
        finally:
            workers[number].browser.close()

    errors = _each(work, load.workers)
    team.outcome.seconds = time.monotonic() - team.began
    if errors and not team.outcome.votes:
        raise errors[0]

    def review(number: int) -> None:
        reviewer = Worker(team, team.raters[number], f"reviewer {number}")
        try:
            reviewer.join(more[number], f"rev {batch} {number}")
            reviewer.review(most=20)
        finally:
            reviewer.browser.close()

    team.outcome.refused.update(str(error) for error in errors + _each(review, len(more)))
    return team.outcome


def different_words(prompt: str, replies: Sequence[str]) -> list[float]:
    """ln(1 + number of different words) of each reply: simple, and documented for readers of the votes."""
    return [math.log1p(len(set(reply.lower().split()))) for reply in replies]


def shipped_prompts(name: str) -> list[str]:
    """The first questions of the shipped prompts."""
    return [row.messages[0]["content"] for row in read_dialogues(shipped_folder() / f"{name}.jsonl")]


def _judge(folder: str) -> Utility:
    """The scores of a preference model; one thread at a time."""
    if not Path(folder).is_dir():
        raise CharterError(f"there is no folder {folder}; give --judge a preference model's")
    model, lock = PreferenceModel.open(Path(folder)), threading.Lock()

    def scores(prompt: str, replies: Sequence[str]) -> list[float]:
        with lock:
            return [float(value) for value in model.score([([user(prompt or "…")], list(replies))])[0]]

    return scores


def _each(task: Callable[[int], None], count: int) -> list[CharterError]:
    """Runs a task for each number in threads; returns their CharterErrors. Raises other errors."""
    errors: list[Exception] = []

    def run(number: int) -> None:
        try:
            task(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, CharterError):
            raise error
    return [error for error in errors if isinstance(error, CharterError)]
