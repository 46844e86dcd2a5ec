"""The page of those who run a collection."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hall import SECRET, Hall, configuration, hidden, open_hall

from charter.ground.text.dialogue import assistant, user
from charter_service.people.reviewing import Item, Verdict, claim, enqueue, review
from charter_service.people.tables import EVENTS, INVITATIONS, ITEMS, PEOPLE, VOTES
from charter_service.people.workers import find_person
from charter_service.web.database import writing


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path, configuration(goals={"helpful": 8})) as found:
        yield found


def test_an_empty_collection(hall: Hall) -> None:
    page = hall.person("boss", "admin").get("/admin")
    assert "Nobody has begun yet" in page and "No votes yet" in page and "The queue is empty" in page


def test_progress_elo_and_people(hall: Hall) -> None:
    for name, simulated in (("ann", False), ("bot", True)):
        guest = hall.person(name, simulated=simulated)
        for number, choice in enumerate(("-4", "3", "-1", "tie", "4", "both_bad"), 1):
            talk = guest.begin()
            guest.vote(talk, guest.ask(talk, f"question {number}"), choice)
            guest.post(f"{talk}/finish")
    page = hall.person("boss", "admin").get("/admin")
    words = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page))
    assert "of 8" in words and "Elo so far" in words and f"{SECRET}-start" in words
    assert re.search(r"\d votes of 1 person;", words)
    assert re.search(r"\d votes of 1 simulated worker;", words)
    order = re.findall(r"Helpful conversations( simulated)? ", words)
    assert order == ["", " simulated"] * 2, "tasks and Elo have one order"
    assert words.count("simulated") >= 3  # the task's row, the ranking, the person
    assert "ann worker 6" in words and "boss admin 0" in words


def test_how_people_feel_is_shown_and_a_break_can_be_given(hall: Hall) -> None:
    ann = hall.person("ann")
    talk = ann.begin("harmless", "a plan")
    ann.vote(talk, ann.ask(talk, "be rude"), "3")
    ann.post(f"{talk}/finish", rating=2, feeling=1)
    boss = hall.person("boss", "admin")
    words = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", boss.get("/admin")))
    assert "How people feel" in words and re.search(r"ann ask 1 1 1\.0 1 A break of a day", words)
    with writing(hall.service.database) as c:
        number = find_person(c, "ann").id
    boss.post(f"/admin/people/{number}/break", days=1)
    assert "End the break" in boss.get("/admin")
    with pytest.raises(AssertionError, match="You have a break until"):
        ann.begin("harmless", "another plan")
    boss.post(f"/admin/people/{number}/break", days=0)
    ann.begin("harmless", "another plan")
    # nobody else gives one
    assert ann.post(f"/admin/people/{number}/break", days=1, status=403)


def test_a_day_of_a_collection_on_postgresql(tmp_path: Path, new_postgres_database: Callable[[], str]) -> None:
    golds = {"helpful": "golds.jsonl"}
    asked = {"id": "g", "messages": [user("which?")], "chosen": "right", "rejected": "wrong"}
    (tmp_path / "golds.jsonl").write_text(json.dumps(asked) + "\n")
    tasks = {"helpful": {"gold_share": 1, "repeat_share": 0}, "harmless": {"gold_share": 0, "repeat_share": 0}}
    with open_hall(tmp_path, configuration(database=new_postgres_database(), tasks=tasks, golds=golds)) as hall:
        ann = hall.person("ann")
        talk = ann.begin()
        ann.vote(talk, ann.wait(talk), "-4")
        talk = ann.begin("harmless", "a plan")
        ann.vote(talk, ann.ask(talk, "be rude"), "3")
        ann.post(f"{talk}/finish", rating=2, feeling=3)
        rita = hall.person("rita", "reviewer").agree("review")
        page = rita.get("/review")
        review_id = re.search(r'/review/([0-9a-f]{32})"', page)[1]  # type: ignore[index]
        rita.post(f"/review/{review_id}", nonce=hidden(page, "nonce"), rating=1, worst=1, intent=2, tags=["other"])
        boss = hall.person("boss", "admin")
        assert " of 1</span>" in boss.get("/admin") and "success 2.0 of 4" in boss.get("/admin")
        assert "be rude" in ann.get("/me/data.json")
        ann.post("/me/forget", sure="yes")
        assert "be rude" not in str(hall.rows(ITEMS)) and hall.rows(VOTES) == []


def test_agreement_of_reviewers(hall: Hall) -> None:
    reviewers = [hall.person(name, "reviewer") for name in ("r1", "r2")]
    with writing(hall.service.database) as connection:
        for number in range(4):
            enqueue(connection, [Item("report:1", f"p{number}", 0, "", (user("ask"), assistant(f"told {number}")))])
        for name in ("r1", "r2"):
            person = find_person(connection, name)
            while (found := claim(connection, person, 3)) is not None:
                rating = 4 if "told 1" in found.messages[1]["content"] else 0
                review(connection, person, found.id, Verdict(found.nonce, rating))
    page = hall.person("boss", "admin").get("/admin")
    assert (
        len(reviewers) == 2 and "1.00 on the five ratings, 1.00 on harmful (3 and above) or not; 4 transcripts" in page
    )


def test_invitations_are_shown_once_and_hold(hall: Hall) -> None:
    boss = hall.person("boss", "admin")
    assert boss.post("/admin/invite", role="worker", count=3, quota=7).headers["location"] == "/admin/invited"
    links = re.findall(r"http://127\.0\.0\.1:8760(/join/[\w-]{43})", boss.get("/admin/invited"))
    assert len(links) == 3
    assert boss.client.get("/admin/invited").headers["location"] == "/admin"
    assert hall.client().post(links[0], data={"name": "ann"}).status_code == 303
    assert next(row for row in hall.rows(PEOPLE) if row.name == "ann").quota == 7
    before = len(hall.rows(INVITATIONS))
    for wrong in (
        {"role": "king"},
        {"role": "worker", "count": 0, "quota": -1},
        {"role": "worker", "count": 101},
        {"role": "worker", "days": 9999},
        {"role": "worker", "count": "many"},
    ):
        boss.post("/admin/invite", 400, **wrong)
    assert len(hall.rows(INVITATIONS)) == before
    boss.post("/admin/invite", role="worker", simulated="yes")
    assert sum(row.simulated for row in hall.rows(INVITATIONS)) == 1


def test_links_begin_as_people_open_them(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(url="http://arena.example.org/")) as hall:
        boss = hall.person("boss", "admin")
        boss.post("/admin/invite", role="reviewer")
        assert "http://arena.example.org/join/" in boss.get("/admin/invited")


def test_locking_out_letting_in_handing_out_and_forgetting(hall: Hall) -> None:
    boss, ann = hall.person("boss", "admin"), hall.person("ann")
    talk = ann.begin()
    ann.vote(talk, ann.ask(talk, "words of ann"), "2")
    number = next(row.id for row in hall.rows(PEOPLE) if row.name == "ann")
    mine = next(row.id for row in hall.rows(PEOPLE) if row.name == "boss")
    boss.post(f"/admin/people/{number}/disable")
    assert ann.client.get("/").headers["location"] == "/enter" and "disabled" in boss.get("/admin")
    boss.post(f"/admin/people/{number}/enable")
    assert "words of ann" in boss.get(f"/admin/people/{number}/data.json")
    assert any(row.what == "handed out" for row in hall.rows(EVENTS))
    boss.post(f"/admin/people/{number}/forget", 400)
    boss.post(f"/admin/people/{number}/forget", sure="yes")
    assert hall.rows(VOTES) == []
    for place in (f"/admin/people/{number}/forget", "/admin/people/999/disable", "/admin/people/999/enable"):
        boss.post(place, 404, sure="yes")
    for place in (
        "/admin/people/999/data.json",
        f"/admin/people/{2**40}/data.json",
        "/admin/people/0/data.json",
        "/admin/people/x/data.json",
    ):
        boss.get(place, 404)
    boss.post(f"/admin/people/{mine}/disable", 400)
    boss.post(f"/admin/people/{mine}/forget", 400, sure="yes")
