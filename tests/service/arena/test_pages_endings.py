"""How conversations end: stopped, skipped, finished, and when all that was asked of a person is given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hall import Hall, open_hall

from charter_service.people.tables import CONVERSATIONS


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path) as found:
        yield found


@pytest.mark.parametrize("how", ["stop", "skip"])
def test_stopping_and_skipping_at_any_time(hall: Hall, how: str) -> None:
    ann = hall.person()
    talk = ann.begin()
    ann.ask(talk)
    ann.post(f"{talk}/{how}")
    ann.post(f"{talk}/{how}")
    assert hall.rows(CONVERSATIONS)[0].state == ("stopped" if how == "stop" else "skipped")
    assert ("counts" in ann.get(talk)) and "Another one" in ann.get(talk)


def test_a_quota_that_is_reached_is_thanked_for(hall: Hall) -> None:
    ann = hall.person(quota=1)
    talk = ann.begin()
    ann.vote(talk, ann.ask(talk), "2")
    assert "thank you: you have given all" in ann.post(f"{talk}/ask", 403, number=2, text="more").text.lower()
    ann.post(f"{talk}/finish")
    assert "Done" in ann.get("/") and "Another one" not in ann.get("/")
    assert "Another one" not in ann.get(talk)
    for task in ("helpful", "honest"):  # agreed to, and not
        page = ann.get(f"/task/{task}")
        assert "You have made the one choice that was asked of you" in page
        assert "I have read this" not in page and "/begin" not in page


def test_a_quota_that_is_reached_elsewhere_lets_an_open_conversation_end(hall: Hall) -> None:
    ann = hall.person(quota=2)
    talk, other = ann.begin(), ann.begin("honest")
    ann.vote(talk, ann.ask(talk), "2")
    ann.vote(other, ann.ask(other), "2")
    page = ann.get(talk)
    assert "all 2 choices that were asked of you" in page and 'name="text"' not in page
    assert "Continue your open" in ann.get("/task/helpful") and "Finish the conversation" in page


def test_skipping_asks_first_where_something_was_chosen(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    assert "Drop" not in ann.get(talk) and "Skip ends here and drops it" in ann.get(talk)
    for number, words in ((1, "drops your one choice here"), (2, "drops your 2 choices here")):
        ann.vote(talk, ann.ask(talk, f"message {number}", number), "2")
        page = ann.get(talk)
        assert words in page and page.index("<details") < page.index(f"{talk}/skip")
    for task in ("helpful", "honest", "harmless"):
        assert "<strong>Skip</strong> ends it and drops all of that" in ann.get(f"/task/{task}")
    ann.post(f"{talk}/skip")
    assert "Skipped" in ann.get(talk) and "Skip ends here" not in ann.get(talk)


def test_nothing_is_chosen_by_the_names_of_the_replies(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    ann.ask(talk)
    page = ann.get(talk)
    assert "<kbd>N</kbd> both bad" in page and "<kbd>B</kbd>" not in page and 'title="N"' in page
