"""The load run of the benchmarks in short: the server is killed under load, and no vote is lost or doubled."""

import re
from pathlib import Path

import arena_load
import pytest
from arena_load import WRONG, Log, Options
from sqlalchemy import delete, insert, update

from charter_service.people.export import open_people
from charter_service.people.tables import TURNS, VOTES
from charter_service.web.database import writing


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_no_vote_is_lost_when_the_server_is_killed(database: str, tmp_path: Path) -> None:
    found = arena_load.run_load(database, tmp_path, Options(workers=20, seconds=10, kills=1))
    assert {name: found[name] for name in WRONG} == dict.fromkeys(WRONG, 0), found
    assert found["kills"] == 1 and found["acknowledged"] > 0, found
    assert found["stored"] == found["acknowledged"] + found["unacknowledged"]
    told = (tmp_path / "server.log").read_text("utf-8")
    assert failures(told) == []


def failures(told: str) -> list[str]:
    """The lines of a server's log that speak of an error: a traceback's last line, an answer of 500 or above."""
    words = re.compile(r"(GET|POST) \S+ 5\d\d \d+ ms$|^Traceback|^\S*(Error|Exception)\b")
    return [line for line in told.splitlines() if words.search(line)]


def test_slow_answers_are_no_failures() -> None:
    slow = "2026-01-01 00:00:00 GET /review 200 500 ms"
    failed = "2026-01-01 00:00:00 POST /review/5 500 3 ms"
    assert failures(f"{slow}\n{failed}\nTraceback (most recent call last):\nKeyError: 3") == [
        failed,
        "Traceback (most recent call last):",
        "KeyError: 3",
    ]


def test_the_check_sees_what_is_wrong(tmp_path: Path) -> None:
    """A lost, a changed and an invented vote are found, so that the run above proves something."""
    place = str(tmp_path / "people.sqlite")
    engine = open_people(place)
    with writing(engine) as c:
        c.exec_driver_sql(
            "INSERT INTO people (id, name, role, simulated, quota, disabled, created, console) VALUES (1, 'ann', 'worker', 1, 0, 0, 1.0, '')"
        )
        c.exec_driver_sql(
            "INSERT INTO conversations VALUES ('c', 1, 'helpful', 'chat', 'open', '', '', NULL, NULL, 1.0, NULL)"
        )
        for number, turn in enumerate("xyz", 1):
            row = {"id": turn, "conversation": "c", "number": number, "prompt": "p", "created": 1.0, "seed": 1}
            more = {"model_a": "m", "model_b": "n", "shown_left": "a", "state": "voted", "problem": "", "nonce": "n"}
            c.execute(insert(TURNS).values(**row, **more))
            vote = {"turn": turn, "person": 1, "outcome": "a", "strength": 3, "seconds": 1.0, "flags": ""}
            c.execute(insert(VOTES).values(**vote, created=1.0))
    log = Log({t: {"-3"} for t in "xyz"}, {t: {"-3"} for t in "xyz"})
    found = arena_load.check(engine, log)
    assert not any(found[name] for name in WRONG if name in found) and found["stored"] == 3
    with writing(engine) as c:
        c.execute(delete(VOTES).where(VOTES.c.turn == "x"))
        c.execute(update(VOTES).where(VOTES.c.turn == "y").values(strength=2))
    del log.sent["z"], log.acknowledged["z"]
    found = arena_load.check(engine, log)
    assert (found["lost"], found["changed"], found["of_nobody"], found["half"]) == (1, 1, 1, 1)
    engine.dispose()
