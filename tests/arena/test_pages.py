"""Every page and form of the service, as a browser of each role meets them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hall import Hall, open_hall

from charter.ground.people.tables import CONVERSATIONS, VOTES


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path) as found:
        yield found


def test_a_worker_joins_agrees_talks_chooses_and_finishes(hall: Hall) -> None:
    ann = hall.person()
    assert "Helpful conversations" in ann.get("/")
    talk = ann.begin()
    turn = ann.ask(talk, "how are you?")
    page = ann.get(talk)
    assert "Reply A" in page and "Reply B" in page and "how are you?" in page
    assert ann.vote(talk, turn, "-4").headers["location"] == talk
    ann.post(f"{talk}/finish")
    assert "Thank you" in ann.get(talk)
    (vote,) = hall.rows(VOTES)
    assert vote.strength == 4 and hall.rows(CONVERSATIONS)[0].state == "finished"
