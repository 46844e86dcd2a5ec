"""`charter arena status`, `export` and `person` over a database and over a configuration."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, select

from charter.ground.text.ballot import Ballot
from charter_service.people import work
from charter_service.people.collection import Collection, Pace, Task
from charter_service.people.export import open_people
from charter_service.people.tables import PEOPLE, TOKENS, VOTES
from charter_service.people.workers import come_back, invite, join, open_session
from charter_service.web.database import reading, writing

Charter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A database with a person, a simulated one and a vote of each; nobody holds it open."""
    place = tmp_path / "people.sqlite"
    engine = open_people(str(place))
    rules = Collection(("one", "two"), {"helpful": Task(gold_share=0, repeat_share=0)}, Pace(fastest=0))
    with writing(engine) as c:
        for name, simulated in (("Ann", False), ("sim", True)):
            person, _ = join(c, invite(c, "worker", simulated=simulated), name)
            open_session(c, person.id)
            turn = work.ask(c, rules, person, work.begin(c, rules, person, "helpful"), 1, "hello")
            work.deliver(c, turn, ("first", "second"))
            nonce = work.own_turn(c, person, turn).nonce
            work.vote(c, rules, person, turn, work.Vote(nonce, Ballot("a", 3)))
    engine.dispose()
    return place


def counted(place: Path, table) -> int:
    engine: Engine = open_people(str(place))
    with reading(engine) as c:
        count = len(c.execute(select(table)).all())
    engine.dispose()
    return count


def test_status_in_a_table_and_in_json(charter: Charter, people: Path) -> None:
    code, out, _ = charter("arena", "status", people)
    assert code == 0 and "Ann" in out and "helpful" in out and "simulated" in out
    code, out, _ = charter("arena", "status", people, "--json")
    status = json.loads(out)
    assert code == 0 and [p["name"] for p in status["people"]] == ["Ann", "sim"]
    assert {(t["axis"], t["source"], t["votes"]) for t in status["progress"]["tasks"]} == {
        ("helpful", "human", 1),
        ("helpful", "simulated", 1),
    }
    assert status["people"][0]["left"]["of"] == 1


def test_a_configuration_names_the_database(charter: Charter, people: Path, tmp_path: Path) -> None:
    config = tmp_path / "arena.yaml"
    config.write_text(
        "{name: x, database: people.sqlite, models: [{name: one, model: 'random:tiny'}], tasks: {helpful: {}}}"
    )
    code, out, _ = charter("arena", "status", config, "--json")
    assert code == 0 and len(json.loads(out)["people"]) == 2


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nothing.sqlite", "there is no database"),
        ("nothing.yaml", "there is no configuration"),
        ("sqlite:///nothing.sqlite", "there is no database"),
        ("mysql://x/y", "expected a database of SQLite or PostgreSQL"),
        ("notes.txt", "file is not a database"),
        ("foreign.sqlite", "is a database of another kind"),
        ("empty.sqlite", "holds no collection"),
    ],
)
def test_places_without_a_collection(charter: Charter, place: str, words: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign.sqlite") as other:
        other.execute("CREATE TABLE recipes (dish TEXT)")
    other.close()
    (tmp_path / "empty.sqlite").touch()
    (tmp_path / "notes.txt").write_text("no tables, but text that is long enough to be looked at. " * 20)
    for command in (("status",), ("export", "--out", "x"), ("person", "Ann", "--lock")):
        code, _, err = charter("arena", command[0], place, *command[1:])
        assert code == 1 and words in err and err.count("\n") == 1
    assert not (tmp_path / "nothing.sqlite").exists()


def test_exports_hold_people_or_simulated_raters(charter: Charter, people: Path, tmp_path: Path) -> None:
    code, out, _ = charter("arena", "export", people, "--out", "votes")
    assert code == 0 and "1 vote, 0 unsure" in out and "left out: 1 by simulated raters" in out
    code, out, _ = charter("arena", "export", people, "--out", "votes")
    assert code == 0 and "already there, and equal" in out
    code, _, err = charter("arena", "export", people, "--out", "votes", "--source", "simulated")
    assert code == 1 and "is another export" in err
    code, _, err = charter("arena", "export", people, "--out", "x", "--what", "judgments")
    assert code == 1 and "no review by people" in err
    code, _, err = charter("arena", "export", people, "--out", "x", "--what", "judgments", "--axis", "helpful")
    assert code == 1 and "are for comparisons" in err
    code, _, err = charter("arena", "export", people, "--out", "x", "--axis", "honest")
    assert code == 1 and "(1 by simulated raters, 1 on another axis)" in err and not (tmp_path / "x").exists()


def test_what_is_kept_of_a_person_is_handed_out(charter: Charter, people: Path, tmp_path: Path) -> None:
    code, out, _ = charter("arena", "person", people, "ann", "--export", "ann.json")
    assert code == 0 and "1 conversation, 1 vote, 0 reviews" in out
    data = json.loads((tmp_path / "ann.json").read_text())
    assert data["person"]["name"] == "Ann" and data["turns"][0]["prompt"] == "hello"
    assert "model_a" not in str(data)
    assert stat.S_IMODE((tmp_path / "ann.json").stat().st_mode) == 0o600


def test_a_person_is_locked_out_and_let_in(charter: Charter, people: Path) -> None:
    code, out, _ = charter("arena", "person", people, "Ann", "--lock")
    assert code == 0 and "Ann is disabled" in out and counted(people, TOKENS) == 3  # two keys, sim's session
    assert "Ann (locked)" in charter("arena", "status", people)[1]
    code, out, _ = charter("arena", "person", people, "Ann", "--unlock")
    assert code == 0 and "enabled again" in out and counted(people, VOTES) == 2


def test_who_lost_the_key_gets_another(charter: Charter, people: Path) -> None:
    code, out, _ = charter("arena", "person", people, "Ann", "--new-key")
    assert code == 0 and "Ann can sign in at /enter with the key " in out
    with reading(open_people(str(people))) as connection:
        assert come_back(connection, out.split()[-1]).name == "Ann"


def test_forgetting_asks_first(charter: Charter, people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])

    def confirm(text: str) -> bool:
        assert "Delete Ann with 1 conversation, 1 vote" in text
        return next(answers)

    monkeypatch.setattr("typer.confirm", confirm)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    code, _, err = charter("arena", "person", people, "Ann", "--forget")
    assert code == 1 and err.endswith("confirm with --yes\n") and err.count("\n") == 1
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert charter("arena", "person", people, "Ann", "--forget") == (1, "nothing was deleted\n", "")
    assert counted(people, PEOPLE) == 2
    assert charter("arena", "person", people, "Ann", "--forget")[0] == 0
    assert counted(people, PEOPLE) == 1 and counted(people, VOTES) == 1
    assert charter("arena", "person", people, "sim", "--forget", "--yes")[0] == 0
    assert counted(people, PEOPLE) == 0 and counted(people, VOTES) == 0


def test_one_thing_at_a_time_of_somebody_who_is_there(charter: Charter, people: Path) -> None:
    for options in ((), ("--forget", "--lock"), ("--export", "x.json", "--unlock")):
        code, _, err = charter("arena", "person", people, "Ann", *options)
        assert code == 1 and "give one of" in err
    code, _, err = charter("arena", "person", people, "Eve", "--lock")
    assert code == 1 and "nobody called 'Eve'" in err
