"""Short words for what the tests of conduct do: an organisation with a key, verdicts, and a clock that is turned by
hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, func, select

from charter.ground.moderation.actions import Verdict
from charter_service.accounts.decisions import Entry
from charter_service.accounts.keys import Caller, find_caller, make_key
from charter_service.accounts.ladder import Ladder
from charter_service.accounts.organisations import make_organisation
from charter_service.api.conduct import Conduct
from charter_service.web.database import reading, writing

# a flag in a prompt weighs 1 without a policy; warned at 2, enhanced at 4, throttled at 6, suspended at 8
SHORT = Ladder(warned=2, enhanced=4, throttled=6, suspended=8, window_days=30, clean_days=10)
ALLOWED = Verdict("prompt", score=0.1, threshold=0.5, classifiers={"probe": "1"})


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def days(self, days: float) -> None:
        self.now += days * 86_400


Make = Callable[..., Conduct]


@contextmanager
def making(engine: Engine, ladder: Ladder, clock: Clock) -> Iterator[Make]:
    """Makes what servers hold, by this ladder where no other is named; each is closed in the end."""
    made: list[Conduct] = []

    def new(ladder: Ladder = ladder, **more: object) -> Conduct:
        made.append(Conduct(engine, ladder, clock=clock, **more))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for conduct in made:
        conduct.close()


def joined(engine: Engine, name: str = "acme") -> Caller:
    """A caller of a new organisation."""
    with writing(engine) as c:
        made = make_key(c, make_organisation(c, name), "first")
    with reading(engine) as c:
        return find_caller(c, made[1])


def found(action: str = "block", category: str = "weapons", side: str = "prompt") -> Verdict:
    """A verdict that something was found."""
    return Verdict(side, category, 0.9, 0.5, action, reason="no", classifiers={"probe": "1"})  # type: ignore[arg-type]


def entry(request: str = "req_1", organisation: str = "org_1", at: float = 1.5, **more: object) -> Entry:
    """A row of the log."""
    words = dict.fromkeys(("key", "model", "category", "policy", "classifiers"), "x") | {"user": ""}
    plain = {"side": "prompt", "action": "flag", "score": 0.25, "threshold": 0.5, "sensitivity": "standard"}
    return Entry(**{"request": request, "organisation": organisation, "at": at, **words, **plain, **more})  # type: ignore[arg-type]


def counted(engine: Engine, table, *where) -> int:
    """How many rows there are."""
    with reading(engine) as c:
        return c.execute(select(func.count()).select_from(table).where(*where)).scalar_one()


def at_once(tasks: Sequence[Callable[[], object]]) -> list[object]:
    """What each task returned or raised, all begun in one instant, each in a thread of its own."""
    start, made = threading.Barrier(len(tasks)), [None] * len(tasks)

    def run(number: int) -> None:
        start.wait()
        try:
            made[number] = tasks[number]()
        except Exception as error:
            made[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made
