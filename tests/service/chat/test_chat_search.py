"""Search finds the newest messages with all words, of one's own chats alone, however many there are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import Connection, Engine, select

from charter_service.chat import searching
from charter_service.chat.branches import DONE, Message
from charter_service.chat.searching import LOOKED, MOST, matcher, search, snippet
from charter_service.chat.tree import copy, remove, restore
from charter_service.people.export import open_people
from charter_service.people.tables import MESSAGES
from charter_service.people.words import WORD, plain_word
from charter_service.people.workers import Person, invite, join
from charter_service.web.database import reading, writing

VOCABULARY = ("the", "then", "fox", "Füchse", "fuchs", "übel", "a", "an", "and", "zebra", "x1", "тест")


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    opened = open_people(database)
    yield opened
    opened.dispose()


def joined(connection: Connection, name: str) -> Person:
    return join(connection, invite(connection, "member"), name)[0]


def told(connection: Connection, person: Person, *texts: str) -> str:
    """A chat of these messages. Returns its id."""
    line = [Message("", "", "", "user", "person", DONE, text, "m", "", "", "", 0, 0, 0, "", 0.0) for text in texts]
    return copy(connection, person, "?", "m", line)


def right(texts: list[tuple[int, str]], query: str) -> list[int]:
    """What a search has to find: serials of the newest texts with all words."""
    words = [plain_word(word) for word in WORD.findall(query)]
    hits = []
    for serial, text in texts:
        own = {plain_word(word) for word in WORD.findall(text)}
        if set(words[:-1]) <= own and any(word.startswith(words[-1]) for word in own):
            hits.append(serial)
    return sorted(hits, reverse=True)[:MOST]


@pytest.mark.parametrize(("newest", "few"), [(1000, 5000), (20, 30)], ids=["usual", "small"])
def test_all_words_the_newest_first_of_ones_own_alone(
    engine: Engine, newest: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "NEWEST", newest)
    monkeypatch.setattr(searching, "FEW", few)
    chance = random.Random(3)
    with writing(engine) as c:
        people = [joined(c, "ann"), joined(c, "bob")]
        own: dict[int, list[tuple[int, str]]] = {one.id: [] for one in people}
        for n in range(24):
            texts = [" ".join(chance.choices(VOCABULARY, k=1 + n % 4)) for _ in range(20)]
            chat = told(c, people[n % 2], *texts)
            serials = c.execute(select(MESSAGES.c.serial).where(MESSAGES.c.chat == chat).order_by(MESSAGES.c.number))
            rows = list(zip(serials.scalars(), texts, strict=True))
            if n in (20, 21):
                remove(c, people[n % 2], chat)
            else:
                own[people[n % 2].id] += rows
    queries = [*VOCABULARY, "t", "f", "th fox", "the f", "fox a", "zebra t", "ubel fuch", "the fox zebra", "missing"]
    with reading(engine) as c:
        ids = {row.id: row.serial for row in c.execute(select(MESSAGES.c.id, MESSAGES.c.serial))}
        for person in people:
            for query in queries:
                hits = [ids[hit.message] for hit in search(c, person, query)]
                assert hits == right(own[person.id], query), (person.name, query)


def test_a_deleted_chat_is_found_again_once_it_is_restored(engine: Engine) -> None:
    with writing(engine) as c:
        ann = joined(c, "ann")
        chat = told(c, ann, *(f"zebra {n}" for n in range(MOST + 1)))
        told(c, ann, "zebra of another chat")
        remove(c, ann, chat)
        assert len(search(c, ann, "zebra")) == 1
        restore(c, ann, chat)
        assert len(search(c, ann, "zebra")) == MOST


def test_snippets_look_at_a_bounded_part_of_what_is_found(engine: Engine) -> None:
    with writing(engine) as c:
        ann = joined(c, "ann")
        told(c, ann, "filling " * (LOOKED // 20) + "Zebra at the end")
        (hit,) = search(c, ann, "zebra")
        assert "<mark>Zebra</mark> at the end" in hit.marked and not hit.marked.endswith("…")
        told(c, ann, "filling " * (LOOKED // 8) + "Zebra at the end")  # half of LOOKED is for the other one
        far, near = search(c, ann, "zebra")
        assert far.marked.startswith("filling") and far.marked.endswith("…") and "<mark>" not in far.marked
        assert "<mark>Zebra</mark>" in near.marked


def test_a_snippet_marks_whole_words_and_the_beginning_of_the_last() -> None:
    meant = matcher(["Straße", "fu"])
    text = "<b> straße strassen FÜCHSE fu afu </b>"
    assert snippet(text, meant) == (
        "&lt;b&gt; <mark>straße</mark> strassen <mark>FÜCHSE</mark> <mark>fu</mark> afu &lt;/b&gt;"
    )
    far = snippet("x " * 200 + "fu" + " y" * 200, meant)
    assert far.startswith("…") and far.endswith("…") and far.count("<mark>") == 1


def test_an_index_reads_from_the_newest_message_on(engine: Engine) -> None:
    with writing(engine) as c:
        ann = joined(c, "ann")
        told(c, ann, *(f"word {n}" for n in range(120)))
        numbers = [int(hit.marked.split()[-1]) for hit in search(c, ann, "word")]
    assert numbers[0] == 119 and len(numbers) == MOST and all(a > b for a, b in pairwise(numbers))
