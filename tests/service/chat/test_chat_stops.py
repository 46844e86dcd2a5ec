"""Replies that the policy stopped: said once, with an appeal that reaches people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from company import Person, Upstream, chat, file_of, words_of
from sqlalchemy import update

from charter_service.chat.service import Service
from charter_service.people.places import CONSOLE, note_place
from charter_service.people.tables import PEOPLE
from charter_service.web.database import writing

WHY = "This request was stopped under “Fraud” (fraud) of our-policy version 3."
OBJECT = "Appeal on your own page."  # the policy's words on how to object


@pytest.fixture
def upstream() -> Upstream:
    double = Upstream()
    double.refusal = f"{WHY} {OBJECT}"
    return double


@pytest.fixture
def made(tmp_path: Path, upstream: Upstream) -> Iterator[tuple[str, Service]]:
    with chat(file_of(tmp_path), upstream) as both:
        yield both


@pytest.fixture
def ann(made: tuple[str, Service]) -> Person:
    return Person(*made, "ann")


def test_a_stop_is_said_once_without_words_on_what_the_page_does_not_show(ann: Person) -> None:
    sent = ann.begin("Hello")
    row = ann.finished(sent["reply"])
    assert row.state == "refused" and row.category == "fraud"
    whole = ann.page(f"/c/{sent['chat']}")
    page = words_of(re.sub(r"<template.*?</template>", "", whole, flags=re.DOTALL))  # what Copy copies
    assert page.count(WHY) == 1 and OBJECT not in page
    assert f"/m/{sent['reply']}/appeal" in whole and "report button" not in whole


def test_an_appeal_needs_words_reaches_people_once_and_is_noted(ann: Person, upstream: Upstream) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    place = f"/m/{sent['reply']}/appeal"
    assert "Why is this a mistake?" in ann.page(place)
    assert ann.send(place, words="  ").status_code == 400
    assert ann.client.post(place, data={"words": "forged"}).status_code == 403
    answer = ann.send(place, words="It was about a lawful thing.", content="yes")
    assert answer.status_code == 200 and "You appealed." in answer.text
    appeals = [body for kind, body in upstream.told if kind == "appeals"]
    assert len(appeals) == 1 and appeals[0]["words"] == "It was about a lawful thing."
    assert appeals[0]["request_id"] == "req_1" and appeals[0]["content"]["messages"][0]["content"] == "Hello"
    assert ann.send(place, words="Again").status_code == 409
    assert place not in ann.page(f"/c/{sent['chat']}")


def test_six_appeals_at_once_are_one_and_one_that_reached_nobody_can_be_sent_again(
    ann: Person, upstream: Upstream
) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    place, fields = f"/m/{sent['reply']}/appeal", {"words": "It was harmless.", "csrf": ann.csrf}
    upstream.deaf = True
    assert ann.client.post(place, data=fields).status_code >= 400
    upstream.deaf = False
    with ThreadPoolExecutor(6) as pool:
        codes = sorted(pool.map(lambda _: ann.client.post(place, data=fields).status_code, range(6)))
    assert codes == [200, *5 * [409]]
    assert [kind for kind, _ in upstream.told].count("appeals") == 1


@pytest.mark.parametrize(
    ("decided", "words"),
    [
        ("open", "People decide about it."),
        ("upheld", "a person agreed: the stop was a mistake"),
        ("dismissed", "A person read it, and the stop stands."),
    ],
)
def test_a_person_reads_what_became_of_an_appeal(ann: Person, upstream: Upstream, decided: str, words: str) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    ann.send(f"/m/{sent['reply']}/appeal", words="It was harmless.")
    assert "content" not in dict(upstream.told)["appeals"]  # not ticked
    upstream.decided = decided
    assert words in words_of(ann.page(f"/c/{sent['chat']}")) and words in ann.page(f"/m/{sent['reply']}")
    upstream.deaf = True  # a server that can't say it now
    assert "People decide about it." in words_of(ann.page(f"/c/{sent['chat']}"))


def test_what_was_not_stopped_and_what_nobody_decides_has_no_appeal(
    made: tuple[str, Service], ann: Person, upstream: Upstream
) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    upstream.refusal, reason = "", upstream.refusal
    other = ann.begin("Hello")
    ann.finished(other["reply"])
    assert ann.send(f"/m/{other['reply']}/appeal", words="why").status_code == 400
    made[1].rules = None  # a server that has no policy
    page = ann.page(f"/c/{sent['chat']}")
    assert f"/m/{sent['reply']}/appeal" not in page and reason in words_of(page)


def test_an_account_s_status_is_in_plain_words_and_not_said_to_one_person_alone(
    made: tuple[str, Service], ann: Person, upstream: Upstream
) -> None:
    assert "Account status" not in ann.page("/me")
    upstream.standing = {"level": "throttled", "of": "user", "message": "weigh 11.93", "appeal": ""}
    page = ann.page("/me")
    assert "you can send fewer for a while" in page and "11.93" not in page and "/me/appeal" in page
    upstream.standing = {"level": "good", "of": "user", "message": "", "appeal": ""}
    Person(*made, "bob")
    assert "In good standing." in ann.page("/me")


def test_a_reply_that_repeated_itself_says_so(ann: Person, upstream: Upstream) -> None:
    upstream.refusal, upstream.details = "", {"type": "repetition", "explanation": "x"}
    sent = ann.begin("Hello")
    assert ann.finished(sent["reply"]).stop == "repetition"
    assert "It began to repeat itself, and was stopped there." in ann.page(f"/c/{sent['chat']}")


def test_a_stopped_question_does_not_stop_what_is_asked_after_it(ann: Person, upstream: Upstream) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    upstream.refusal = ""
    later = ann.ask(sent["chat"], sent["reply"], "What is two and two?")
    assert ann.finished(later["reply"]).state == "done"
    assert [turn["content"][0]["text"] for turn in upstream.bodies[-1]["messages"]] == ["What is two and two?"]


def test_the_queue_of_appeals_is_linked_for_those_who_may_judge(tmp_path: Path, upstream: Upstream) -> None:
    with chat(file_of(tmp_path), upstream) as (home, service):
        note_place(service.database, CONSOLE, "http://127.0.0.1:8000")
        judge, other = Person(home, service, "ann"), Person(home, service, "bob")
        assert "/admin/queue" not in judge.page("/")
        with writing(service.database) as connection:
            connection.execute(update(PEOPLE).where(PEOPLE.c.name == "ann").values(console="reviewer"))
        assert '<a href="http://127.0.0.1:8000/admin/queue">Appeals and reports</a>' in judge.page("/")
        assert "/admin/queue" not in other.page("/")
