"""What a person sets for a chat: instructions, temperature, max tokens, the model; and how replies are tried again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from company import Person, Upstream, chat, file_of, words_of

from charter_service.chat.reply_options import LONGEST_INSTRUCTIONS
from charter_service.chat.service import Config, Service

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }}"


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def made(tmp_path: Path, upstream: Upstream) -> Iterator[tuple[str, Service]]:
    with chat(file_of(tmp_path), upstream, Config(system="The operator's.", longest=300)) as both:
        yield both


@pytest.fixture
def ann(made: tuple[str, Service]) -> Person:
    return Person(*made, "ann")


def last(upstream: Upstream) -> dict[str, Any]:
    """The last request, without its messages."""
    return {name: upstream.bodies[-1].get(name) for name in ("model", "system", "temperature", "max_tokens")}


def test_settings_are_sent_with_each_request_and_their_absence_too(ann: Person, upstream: Upstream) -> None:
    usual = {"model": "small", "system": "The operator's.", "temperature": None, "max_tokens": 300}
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    assert last(upstream) == usual
    own = {"instructions": "Answer in French.", "temperature": "0.25", "max_tokens": "40"}
    assert ann.send(f"/c/{sent['chat']}", **own).status_code == 200
    more = ann.ask(sent["chat"], sent["reply"], "And now?")
    ann.finished(more["reply"])
    assert last(upstream) == {
        "model": "small",
        "system": "The operator's.\n\nAnswer in French.",
        "temperature": 0.25,
        "max_tokens": 40,
    }
    page = ann.page(f"/c/{sent['chat']}")
    assert "Answer in French." in page and 'value="0.25"' in page and 'value="40"' in page
    assert "small, temperature 0.25" in words_of(page) and "small · 7 tokens" in words_of(page)
    ann.send(f"/c/{sent['chat']}", instructions="", temperature="", max_tokens="")
    again = ann.ask(sent["chat"], more["reply"], "And at last?")
    ann.finished(again["reply"])
    assert last(upstream) == usual


def test_a_new_chat_begins_with_settings_and_no_more_tokens_than_allowed(ann: Person, upstream: Upstream) -> None:
    sent = ann.begin("Hello", instructions="Be brief.", temperature="0,5", max_tokens="9999")
    ann.finished(sent["reply"])
    request = last(upstream)
    assert request["system"].endswith("Be brief.")
    assert request["temperature"] == 0.5 and request["max_tokens"] == 300
    assert upstream.bodies[-1].get("system_by") is None, "this server has no fields of ours"


def test_our_server_learns_that_instructions_are_a_persons(
    made: tuple[str, Service], ann: Person, upstream: Upstream
) -> None:
    made[1].models = [replace(model, facts={"decoding": None}) for model in made[1].models]
    for instructions, whose in (("", None), ("Be brief.", "user")):
        sent = ann.begin("Hello", instructions=instructions)
        ann.finished(sent["reply"])
        assert upstream.bodies[-1].get("system_by") == whose


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("temperature", "nan", 400),
        ("temperature", "1e9", 400),
        ("temperature", "-0.1", 400),
        ("temperature", "inf", 400),
        ("temperature", "warm", 400),
        ("temperature", "9" * 100, 400),
        ("max_tokens", "0", 400),
        ("max_tokens", "1.5", 400),
        ("max_tokens", "٣", 400),
        ("max_tokens", "9" * 20, 400),
        ("instructions", "x" * 100_000, 413),
    ],
)
def test_what_can_not_be_set_is_refused_and_changes_nothing(ann: Person, field: str, value: str, status: int) -> None:
    sent = ann.begin("Hello", instructions="Stay.")
    ann.finished(sent["reply"])
    answer = ann.send(f"/c/{sent['chat']}", **{"instructions": "Go.", field: value})
    assert answer.status_code == status, answer.text
    page = ann.page(f"/c/{sent['chat']}")
    assert "Stay." in page and "Go." not in page
    assert ann.send("/c", text="Hello", **{"instructions": "Go.", field: value}).status_code == status


def test_nobody_else_reads_or_changes_settings_and_a_form_from_elsewhere_does_nothing(
    ann: Person, made: tuple[str, Service]
) -> None:
    sent = ann.begin("Hello", instructions="My secret instructions.")
    ann.finished(sent["reply"])
    bob = Person(*made, "bob")
    for place in (f"/c/{sent['chat']}", f"/c/{sent['chat']}/export.json", f"/m/{sent['reply']}/appeal"):
        assert bob.client.get(place).status_code == 404
    assert bob.send(f"/c/{sent['chat']}", instructions="Bob's").status_code == 404
    assert bob.send(f"/m/{sent['reply']}/appeal", words="Bob's").status_code == 404
    for data in ({}, {"csrf": "0" * 64}, {"csrf": bob.csrf}):
        answer = ann.client.post(f"/c/{sent['chat']}", data={**data, "instructions": "Forged."})
        assert answer.status_code == 403
    assert "My secret instructions." in ann.page(f"/c/{sent['chat']}")


def test_a_page_of_another_tab_does_not_undo_settings_unseen(ann: Person) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    before = ann.page(f"/c/{sent['chat']}").partition('name="filled_from" value="')[2].partition('"')[0]
    first = {"instructions": "One.", "filled_from": before}
    assert ann.send(f"/c/{sent['chat']}", **first).status_code == 200
    assert ann.send(f"/c/{sent['chat']}", **first).status_code == 200  # the same form twice
    second = ann.send(f"/c/{sent['chat']}", instructions="Two.", filled_from=before)
    assert second.status_code == 409 and "reload" in second.text
    assert "One." in ann.page(f"/c/{sent['chat']}")


def test_settings_go_with_forks_and_exports_and_come_back_but_not_with_shares(ann: Person) -> None:
    own = {"instructions": "Rhyme.", "temperature": "0.5", "max_tokens": "77"}
    sent = ann.begin("Hello", **own)
    ann.finished(sent["reply"])
    ann.send(f"/m/{sent['reply']}/fork")
    exported = ann.page(f"/c/{sent['chat']}/export.json")
    facts = json.loads(exported)
    assert (facts["instructions"], facts["temperature"], facts["max_tokens"]) == ("Rhyme.", 0.5, 77)
    assert "Rhyme." in ann.page(f"/c/{sent['chat']}/export.md")
    ann.send("/me/import", text=exported)
    broken = {**facts, "temperature": float("nan"), "instructions": ["x"], "title": "Broken"}
    ann.send("/me/import", text=json.dumps(broken))
    chats = json.loads(ann.page("/me/data.json"))["chats"]
    assert sorted(str(one["instructions"]) for one in chats)[-3:] == ["Rhyme."] * 3
    assert [one["temperature"] for one in chats if one["title"] == "Broken"] == [None]
    shared = ann.send(f"/c/{sent['chat']}/share", days="1")
    token = shared.text.partition("/s/")[2].partition("<")[0]
    assert "Rhyme." not in ann.page(f"/s/{token}")


def test_instructions_are_text_in_every_page(ann: Person, upstream: Upstream) -> None:
    upstream.facts = {"state": "deprecated", "retires": NASTY}
    sent = ann.begin("Hello", instructions=NASTY)
    ann.finished(sent["reply"])
    page = ann.page(f"/c/{sent['chat']}")
    assert "<script>alert" not in page and "<img src=x" not in page and "&lt;script&gt;alert(1)" in page
    assert len(NASTY) < LONGEST_INSTRUCTIONS


def test_the_composer_switches_the_model_and_each_reply_names_its_own(ann: Person, upstream: Upstream) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    more = ann.ask(sent["chat"], sent["reply"], "And now?", model="large")
    ann.finished(more["reply"])
    assert upstream.bodies[-1]["model"] == "large"
    page = ann.page(f"/c/{sent['chat']}")
    assert page.count("<span data-by>small</span>") == page.count("<span data-by>large</span>") == 1
    assert '<option value="large" selected>' in page
    answer = ann.send(f"/c/{sent['chat']}/messages", parent=more["reply"], text="x", model="none")
    assert answer.status_code == 400 and "choose another" in answer.text
    ann.send(f"/c/{sent['chat']}/draft", text="half", model="small")  # the way without a script
    assert '<option value="small" selected>' in ann.page(f"/c/{sent['chat']}")


def test_a_greedy_model_is_tried_again_at_a_higher_temperature_and_says_so(
    made: tuple[str, Service], ann: Person, upstream: Upstream
) -> None:
    for decoding, heat in (({"temperature": 0.0}, 0.6), ({"temperature": 1.0}, None), (None, 0.6)):
        made[1].models = [replace(model, facts={"decoding": decoding}) for model in made[1].models]
        sent = ann.begin("Hello")
        ann.finished(sent["reply"])
        assert upstream.bodies[-1].get("temperature") == (0.2 if decoding is None else None)
        ann.send(f"/m/{sent['reply']}/retry")
        data = json.loads(ann.page(f"/c/{sent['chat']}/export.json"))
        again = ann.finished(data["leaf"])
        assert upstream.bodies[-1].get("temperature") == (heat or None)
        assert again.temperature == heat
        assert ("small, temperature 0.6" in words_of(ann.page(f"/c/{sent['chat']}"))) == bool(heat)
    own = ann.begin("Hello", temperature="0")  # a person's own choice stays
    ann.finished(own["reply"])
    ann.send(f"/m/{own['reply']}/retry")
    ann.finished(json.loads(ann.page(f"/c/{own['chat']}/export.json"))["leaf"])
    assert upstream.bodies[-1]["temperature"] == 0
