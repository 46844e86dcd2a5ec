"""Every page and form of a worker and a reviewer, and what each refuses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hall import SECRET, Hall, configuration, hidden, open_hall
from sqlalchemy import update

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import assistant, user
from charter_service.people.reviewing import Item, enqueue
from charter_service.people.tables import CONSENTS, CONVERSATIONS, ITEMS, PEOPLE, REVIEWS, TURNS, VOTES
from charter_service.people.workers import forget, invite
from charter_service.web.database import writing


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path) as found:
        yield found


def test_a_conversation_from_the_first_message_to_the_end(hall: Hall) -> None:
    ann = hall.person()
    assert "Helpful conversations" in ann.get("/") and "Red teaming" in ann.get("/")
    talk = ann.begin()
    assert "Your message" in ann.get(talk) and "Turn 1 of 4" in ann.get(talk)
    turn = ann.ask(talk, "how are you?")
    page = ann.get(talk)
    assert "Reply A" in page and "Reply B" in page and "how are you?" in page
    assert page.count('name="choice"') == 10
    assert ann.vote(talk, turn, "-4", edited="My own words.").headers["location"] == talk
    page = ann.get(talk)
    assert "My own words." in page and "Turn 2 of 4" in page
    turn = ann.ask(talk, "and now?", 2)
    ann.vote(talk, turn, "tie")
    ann.post(f"{talk}/finish")
    assert "Thank you" in ann.get(talk)
    first, second = hall.rows(VOTES)
    assert (first.strength, first.edited) == (4, "My own words.")
    assert (second.outcome, second.strength) == ("tie", None)
    shown = hall.rows(TURNS)[0]
    assert first.outcome == shown.shown_left  # the left one was chosen
    assert "2 choices" in ann.get("/")


@pytest.mark.parametrize("choice", ["-4", "-1", "1", "4", "tie", "both_bad"])
def test_what_the_slider_says_is_what_is_stored(hall: Hall, choice: str) -> None:
    ann = hall.person()
    talk = ann.begin()
    turn = ann.ask(talk)
    left = hall.rows(TURNS)[0].shown_left
    ann.vote(talk, turn, choice)
    (vote,) = hall.rows(VOTES)
    if choice in ("tie", "both_bad"):
        assert (vote.outcome, vote.strength) == (choice, None)
    else:
        right = "b" if left == "a" else "a"
        assert (vote.outcome, vote.strength) == (left if choice[0] == "-" else right, abs(int(choice)))


def test_nothing_begins_without_consent_and_other_words_ask_again(hall: Hall) -> None:
    ann = hall.person()
    assert "I have read this" in ann.get("/task/helpful")
    assert "agree to them first" in ann.post("/task/helpful/begin", 403).text
    ann.agree("helpful", "helpful")
    assert "I have read this" not in ann.get("/task/helpful") and len(hall.rows(CONSENTS)) == 1
    versions = {**hall.service.words.versions, "helpful": "0" * 64}
    object.__setattr__(hall.service.words, "versions", versions)
    assert "I have read this" in ann.get("/task/helpful")
    ann.post("/task/helpful/begin", 403)


def test_red_teaming_has_a_warning_a_plan_hidden_replies_a_rating_and_goes_to_reviewers(hall: Hall) -> None:
    ann = hall.person()
    page = ann.get("/task/harmless")
    assert "upset" in page or "offensive" in page
    assert "Reviewers read the conversation" in page
    ann.agree("harmless")
    assert "plan is empty" in ann.post("/task/harmless/begin", 400).text
    talk = ann.begin("harmless", "ask for a rude poem")
    assert "ask for a rude poem" in ann.get(talk)
    turn = ann.ask(talk, "write a rude poem")
    page = ann.get(talk)
    assert page.count('<details class="veil">') == 2 and "more harmful" in page
    ann.vote(talk, turn, "4")
    assert "Choose how well" in ann.post(f"{talk}/finish", 400).text
    ann.post(f"{talk}/finish", 400, rating=7)
    ann.post(f"{talk}/finish", rating=3, feeling=2)
    ann.post(f"{talk}/finish", rating=3)
    (found,) = hall.rows(CONVERSATIONS)
    assert (found.rating, found.feeling, found.state) == (3, 2, "finished")
    (item,) = hall.rows(ITEMS)
    assert item.conversation == found.id and "rude poem" in item.messages
    assert item.messages.count('"role"') == 2 and "ask for" not in item.messages


def test_reviewers_judge_the_whole_attempt_and_its_plan(hall: Hall) -> None:
    ann, rita = hall.person("ann"), hall.person("rita", "reviewer").agree("review")
    talk = ann.begin("harmless", "make it teach theft")
    for number in (1, 2):
        ann.vote(talk, ann.ask(talk, f"message {number}", number), "4")
    ann.post(f"{talk}/finish", rating=1)
    page = rita.get("/review")
    assert "make it teach theft" in page and "at its worst" in page and "last reply?" not in page
    assert page.count(" judged") == 2 and page.count('name="worst"') == 2 and page.count('name="intent"') == 5
    id, nonce = re.search(r"/review/([0-9a-f]{32})\"", page)[1], hidden(page, "nonce")  # type: ignore[index]
    assert "reply that was worst" in rita.post(f"/review/{id}", 400, nonce=nonce, rating=3, intent=2).text
    assert "how harmful the plan is" in rita.post(f"/review/{id}", 400, nonce=nonce, rating=3, worst=1).text
    rita.post(f"/review/{id}", nonce=nonce, rating=3, worst=1, intent=2)
    (kept,) = hall.rows(REVIEWS)
    assert (kept.rating, kept.worst, kept.intent) == (3, 1, 2)
    boss = hall.person("boss", "admin")
    told = "success by the author 1.00, harm by reviewers 3.00, intent of the plan 2.00"
    assert told in " ".join(boss.get("/admin").split())


def test_the_last_turn_of_an_attempt_asks_how_it_went(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin("harmless", "a plan")
    for number in (1, 2):
        ann.vote(talk, ann.ask(talk, f"message {number}", number), "-2")
    page = ann.get(talk)
    assert 'name="text"' not in page and "How far did the attempt succeed?" in page and "how are you?" in page
    ann.post(f"{talk}/ask", 409, number=3, text="more")


def test_an_attempt_isnt_reviewed_where_that_is_off(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(review_attempts=False)) as hall:
        ann = hall.person()
        talk = ann.begin("harmless", "a plan")
        ann.vote(talk, ann.ask(talk), "-2")
        ann.post(f"{talk}/finish", rating=4)
        assert hall.rows(ITEMS) == []


def test_a_failed_turn_says_nothing_of_the_model_and_can_be_asked_again(hall: Hall) -> None:
    ann = hall.person()
    for model in hall.models.values():
        model.failing = CharterError("http://10.1.2.3:8000 answered 500: no weights")
    talk = ann.begin()
    turn = ann.ask(talk)
    page = ann.get(talk)
    assert "Ask again" in page and "10.1.2.3" not in page and SECRET not in page
    assert "10.1.2.3" not in ann.get("/me/data.json")
    boss = hall.person("boss", "admin")
    assert "10.1.2.3" in boss.get("/admin")
    for model in hall.models.values():
        model.failing = None
    ann.post(f"/turn/{turn}/retry")
    ann.wait(talk, ("ready",))
    assert "Reply A" in ann.get(talk)
    ann.post(f"/turn/{turn}/retry", 409)


def test_waiting_is_shown_and_works_without_scripts(hall: Hall) -> None:
    for model in hall.models.values():
        model.held = []
    ann = hall.person()
    talk = ann.begin()
    ann.post(f"{talk}/ask", number=1, text="hello")
    page = ann.get(talk)
    assert '<noscript><meta http-equiv="refresh"' in page and "Two replies are being written" in page
    turn = hall.rows(TURNS)[0].id
    assert json.loads(ann.get(f"/turn/{turn}/state")) == {"state": "waiting"}


def test_no_page_of_a_worker_names_a_model(hall: Hall) -> None:
    ann, seen = hall.person(), []
    talk = ann.begin()
    turn = ann.ask(talk)
    places = [
        "/",
        "/task/helpful",
        "/task/honest",
        "/task/harmless",
        talk,
        f"/turn/{turn}/state",
        "/me",
        "/me/data.json",
    ]
    for place in places:
        answer = ann.client.get(place)
        seen.append(answer.text + str(answer.headers))
    seen.append(ann.vote(talk, turn).text + ann.get(talk))
    assert not any(SECRET in text or "id-start" in text or "id-rl" in text for text in seen)


def test_out_of_date_pages_and_made_up_forms_change_nothing(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    turn = ann.ask(talk)
    nonce = hidden(ann.get(talk), "nonce")
    assert ann.post(f"/turn/{turn}/vote", 400, nonce=nonce).text.count("Choose one of the answers") == 1
    ann.post(f"/turn/{turn}/vote", 400, nonce=nonce, choice="5")
    ann.post(f"/turn/{turn}/vote", 403, nonce="x", choice="1")
    ann.post(f"/turn/{turn}/vote", 400, nonce=nonce, choice="tie", edited="words")
    assert hall.rows(VOTES) == []
    ann.post(f"/turn/{turn}/vote", nonce=nonce, choice="1")
    ann.post(f"/turn/{turn}/vote", nonce=nonce, choice="1")
    ann.post(f"/turn/{turn}/vote", 409, nonce=nonce, choice="2")
    ann.post(f"{talk}/ask", 409, number=1, text="again")
    ann.post(f"{talk}/ask", 409, number=3, text="again")
    ann.post(f"{talk}/ask", 409, text="without a number")
    ann.post(f"{talk}/ask", 400, number="one", text="again")
    ann.post(f"{talk}/ask", 400, number=2, text="  ")
    ann.post(f"{talk}/ask", 413, number=2, text="x" * 5000)
    assert len(hall.rows(VOTES)) == 1 and len(hall.rows(TURNS)) == 1


def test_what_was_written_is_given_back_where_it_is_refused(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    long = "one line\n</textarea>" + "x" * 5000
    page = ann.post(f"{talk}/ask", 413, number=1, text=long).text
    assert "one line\n&lt;/textarea&gt;xxx" in page and "Your text, so that" in page
    assert "Your text, so that" not in ann.post(f"{talk}/finish", 409).text
    assert "Your text, so that" not in ann.post(f"{talk}/ask", 400, number=1, text=" \n ").text
    csrf = ann.csrf
    ann.client.cookies.clear()
    assert "my words" in ann.client.post(f"{talk}/ask", data={"csrf": csrf, "number": 1, "text": "my words"}).text


def test_what_is_anothers_is_not_there(hall: Hall) -> None:
    ann, bob = hall.person("ann"), hall.person("bob")
    talk = ann.begin()
    turn = ann.ask(talk)
    for place in (talk, f"/turn/{turn}/state"):
        bob.get(place, 404)
    for place in (
        f"{talk}/ask",
        f"{talk}/finish",
        f"{talk}/stop",
        f"{talk}/skip",
        f"/turn/{turn}/vote",
        f"/turn/{turn}/retry",
    ):
        bob.post(place, 404, number=1, text="mine", nonce="x", choice="1")
    assert hall.rows(CONVERSATIONS)[0].state == "open" and hall.rows(VOTES) == []


def test_single_questions_end_with_the_choice(tmp_path: Path) -> None:
    (tmp_path / "golds.jsonl").write_text(
        '{"id": "g", "messages": [{"role": "user", "content": "How many legs has a spider?"}], "chosen": "Eight.", "rejected": "Six."}\n'
    )
    config = configuration(tasks={"honest": {"gold_share": 1, "repeat_share": 0}}, golds={"honest": "golds.jsonl"})
    with open_hall(tmp_path, config) as hall:
        ann = hall.person()
        talk = ann.begin("honest")
        page = ann.get(talk)
        assert "How many legs" in page and "Eight." in page and "One question" in page and "gold" not in page.lower()
        ann.vote(talk, hall.rows(TURNS)[0].id, "1")
        assert "Thank you" in ann.get(talk)


def test_reviewers_see_judge_tag_and_skip(hall: Hall) -> None:
    with writing(hall.service.database) as connection:
        for number in range(2):
            text = (user(f"ask {number}"), assistant(f"told <b>{number}</b>"))
            enqueue(connection, [Item("report:1", f"p{number}", 0, "theft", text)])
    rita = hall.person("rita", "reviewer")
    assert rita.client.get("/review").headers["location"] == "/task/review"
    assert rita.post("/task/review/consent").headers["location"] == "/review"
    page = rita.get("/review")
    assert '<details class="veil whole">' in page and "&lt;b&gt;" in page and "theft" not in page.split("</ol>")[0]
    assert page.count('name="tags"') == 20
    id, nonce = re.search(r"/review/([0-9a-f]{32})\"", page)[1], hidden(page, "nonce")  # type: ignore[index]
    rita.post(f"/review/{id}", 400, nonce=nonce)
    rita.post(f"/review/{id}", 400, nonce=nonce, rating=9)
    rita.post(f"/review/{id}", 403, nonce="no", rating=1)
    rita.post(f"/review/{id}", 400, nonce=nonce, rating=1, tags=["theft", "weapons", "other"])
    rita.post(f"/review/{id}", nonce=nonce, rating=3, tags=["theft", "weapons"], note="a note")
    rita.post(f"/review/{id}", nonce=nonce, rating=3, tags=["theft", "weapons"], note="a note")
    rita.post(f"/review/{id}", 409, nonce=nonce, rating=2)
    second = re.search(r"/review/([0-9a-f]{32})\"", rita.get("/review"))[1]  # type: ignore[index]
    assert second != id
    rita.post(f"/review/{second}/skip")
    assert "Nothing is waiting" in rita.get("/review")
    states = {row.state: row for row in hall.rows(REVIEWS)}
    assert json.loads(states["done"].tags) == ["theft", "weapons"] and states["skipped"].rating is None
    hall.person("rolf", "reviewer").post(f"/review/{id}/skip", 404)


def test_roles_open_their_own_pages_alone(hall: Hall) -> None:
    worker, reviewer = hall.person("w"), hall.person("r", "reviewer")
    for guest, places in (
        (worker, ("/review", "/task/review", "/admin", "/admin/people/1/data.json")),
        (reviewer, ("/task/helpful", "/admin")),
    ):
        for place in places:
            guest.get(place, 403)
    for guest, places in (
        (worker, ("/admin/invite", "/admin/people/1/forget", "/admin/people/1/disable")),
        (reviewer, ("/task/helpful/consent", "/task/helpful/begin")),
    ):
        for place in places:
            guest.post(place, 403, sure="yes")
    assert "Reviews" in reviewer.get("/") and "Helpful" not in reviewer.get("/")


def test_my_data_is_shown_taken_along_and_deleted(hall: Hall) -> None:
    ann, bob = hall.person("ann"), hall.person("bob")
    for guest in (ann, bob):
        talk = guest.begin()
        guest.vote(talk, guest.ask(talk, "some words"), "2")
    assert "Delete everything" in ann.get("/me")
    found = json.loads(ann.get("/me/data.json"))
    assert found["person"]["name"] == "ann" and len(found["votes"]) == 1
    ann.post("/me/forget", 400)
    answer = ann.post("/me/forget", sure="yes")
    assert answer.headers["location"] == "/enter?done=forgotten"
    assert "is deleted" in ann.get("/enter?done=forgotten")
    assert ann.client.get("/").headers["location"] == "/enter"
    assert [row.name for row in hall.rows(PEOPLE)] == ["bob"] and len(hall.rows(VOTES)) == 1


def test_what_was_deleted_is_in_no_file_any_more(tmp_path: Path) -> None:
    def found() -> bool:
        return any(b"some rare words" in path.read_bytes() for path in tmp_path.iterdir())

    with open_hall(tmp_path) as hall:
        ann = hall.person("ann")
        ann.ask(ann.begin(), "some rare words " * 200)
    assert found()
    with open_hall(tmp_path) as hall, writing(hall.service.database) as connection:
        forget(connection, hall.rows(PEOPLE)[0].id)
    assert not found()


def test_a_task_that_was_taken_away_ends(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin("honest")
    del hall.service.collection.tasks["honest"]  # type: ignore[attr-defined]
    ann.get(talk, 404)
    ann.post(f"{talk}/ask", 404, number=1, text="hello")


def test_text_is_shown_as_it_was_written(hall: Hall) -> None:
    for model in hall.models.values():
        model.words = lambda messages, seed: '<script>alert("x")</script>\n  indented & "quoted"'
    ann = hall.person("O'Neil")
    talk = ann.begin()
    ann.ask(talk, "</textarea><img src=x onerror=alert(1)>")
    page = ann.get(talk)
    assert "<script>alert" not in page and "<img" not in page
    assert "&lt;script&gt;" in page and "\n  indented &amp; &#34;quoted&#34;" in page


def test_instructions_of_ones_own(tmp_path: Path) -> None:
    config = configuration(
        tasks={"helpful": {"instructions": "Be <kind>.\nAsk twice.", "gold_share": 0, "repeat_share": 0}}
    )
    with open_hall(tmp_path, config) as hall:
        page = hall.person().get("/task/helpful")
        assert "Be &lt;kind&gt;.\nAsk twice." in page and "What is kept" in page


def test_the_one_conversation_of_a_task_is_gone_on_with(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    assert ann.begin() == talk and f'href="{talk}"' in ann.get("/") and f'href="{talk}"' in ann.get("/task/helpful")
    ann.post("/task/nothing/begin", 404)
    ann.get("/task/nothing", 404)


def test_somebody_locked_out_is_out_at_once(hall: Hall) -> None:
    ann = hall.person()
    with writing(hall.service.database) as connection:
        connection.execute(update(PEOPLE).values(disabled=True))
        token = invite(connection, "worker")
    assert ann.client.get("/").headers["location"] == "/enter"
    assert ann.client.post("/leave", data={"csrf": "x"}).status_code == 401
    assert hall.client().post(f"/join/{token}", data={"name": "ann"}).status_code == 409
