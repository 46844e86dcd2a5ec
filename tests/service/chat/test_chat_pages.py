"""The pages of the chat, used without scripts: what a person does, and what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from company import Person, Upstream, browse, chat, file_of, words_of
from sqlalchemy import update

from charter_service.chat.service import Config
from charter_service.people.tables import SHARES
from charter_service.web.database import writing


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def ann(database: str, upstream: Upstream) -> Iterator[Person]:
    with chat(database, upstream, Config(name="Tea room", contact="ann@example.org")) as (home, service):
        yield Person(home, service, "ann", "admin")


def talked(ann: Person, text: str = "Hello") -> dict[str, str]:
    sent = ann.begin(text)
    ann.finished(sent["reply"])
    return sent


def test_a_chat_from_the_first_question_to_its_end(ann: Person) -> None:
    answer = ann.send("/c", text="How tall is Everest?")
    assert "/c/" in str(answer.url)
    sent = talked(ann, "Second chat")
    page = ann.page(f"/c/{sent['chat']}")
    assert "You said “Second chat”" in page and "<title>Second chat · Tea room</title>" in page
    assert "How tall is Everest?" in page  # in the list
    assert "It makes things up: check what matters" in page
    ann.send(f"/c/{sent['chat']}", title="  Renamed   chat ")
    ann.send(f"/c/{sent['chat']}", pinned="yes")
    page = ann.page("/")
    assert page.index("Renamed chat") < page.index("How tall is Everest?")
    ann.send(f"/c/{sent['chat']}", archived="yes")
    assert "Renamed chat" not in ann.page("/") and "Renamed chat" in ann.page("/archived")


def test_a_deleted_chat_comes_back(ann: Person) -> None:
    sent = talked(ann)
    page = ann.send(f"/c/{sent['chat']}/delete").text
    assert "you can bring it back" in page
    assert ann.client.get(f"/c/{sent['chat']}").status_code == 404
    ann.send(f"/c/{sent['chat']}/restore")
    assert "You said" in ann.page(f"/c/{sent['chat']}")


def test_edit_retry_versions_and_fork(ann: Person) -> None:
    sent = talked(ann)
    page = ann.send(f"/m/{sent['reply']}/retry").text
    assert "2 of 2" in page
    page = ann.send(f"/m/{sent['reply']}/edit", text="My own words").text
    assert "small, edited by you" in page and "3 of 3" in page
    page = ann.send(f"/m/{sent['question']}/edit", text="Goodbye").text
    assert "2 of 2" in page and "Goodbye" in page
    page = ann.send(f"/m/{sent['question']}/show").text
    assert "My own words" in page
    page = ann.send(f"/m/{sent['reply']}/fork").text
    assert "(copy)" in page


def test_search_finds_words_of_mine_alone(ann: Person) -> None:
    sent = talked(ann, "The quick brown fox")
    bob = Person(ann.home, ann.service, "bob")
    talked(bob, "A fox of bob's")
    page = ann.page("/search?q=quick+fo")
    assert "<mark>quick</mark>" in page and "bob" not in words_of(page)
    assert "Nothing has all these words" in ann.page("/search?q=zebra")
    hits = ann.client.get("/search?q=said", headers={"accept": "application/json"}).json()
    assert sent["reply"] in [hit["message"] for hit in hits]
    for odd in ('"', "' OR 1=1 --", "a* AND b", "NEAR(", "%", "\\", "fox)"):
        ann.page(f"/search?q={httpx.QueryParams({'q': odd})['q']}")
    ann.send(f"/c/{sent['chat']}/delete")
    assert "<mark>" not in ann.page("/search?q=quick")


def test_share_links_show_a_frozen_branch_until_they_end(ann: Person) -> None:
    sent = talked(ann)
    page = ann.send(f"/c/{sent['chat']}/share", days="3").text
    match = re.search(r'id="link">http://[^/]+(/s/[\w-]+)<', page)
    assert match
    reader = browse(ann.home)
    assert "You said “Hello”" in reader.get(match[1]).text
    second = ann.ask(sent["chat"], sent["reply"], "A secret")
    ann.finished(second["reply"])
    assert "A secret" not in reader.get(match[1]).text
    digest = re.search(r"/shares/(\w+)/end", ann.page("/me"))
    assert digest
    bob = Person(ann.home, ann.service, "bob")
    assert bob.send(f"/shares/{digest[1]}/end").status_code == 404
    assert reader.get(match[1]).status_code == 200
    ann.send(f"/shares/{digest[1]}/end")
    assert reader.get(match[1]).status_code == 404
    page = ann.send(f"/c/{sent['chat']}/share", days="3").text
    match = re.search(r'id="link">http://[^/]+(/s/[\w-]+)<', page)
    assert match
    with writing(ann.service.database) as c:
        c.execute(update(SHARES).values(expires=time.time() - 1))
    assert reader.get(match[1]).status_code == 404


def test_thumbs_reach_the_queue_with_words_only_if_they_are_given(ann: Person, upstream: Upstream) -> None:
    sent = talked(ann)
    ann.send(f"/m/{sent['reply']}/thumb", thumb="up")
    assert ann.message(sent["reply"]).thumb == "up"
    assert ann.send(f"/m/{sent['reply']}/thumb", thumb="up", content="yes").status_code == 400
    ann.send(f"/m/{sent['reply']}/thumb", thumb="down", words="Wrong", content="yes")
    (_, up), (_, down) = [one for one in upstream.told if one[0] == "feedback"]
    assert up == {"request_id": "req_1", "thumb": "up"}
    assert down["words"] == "Wrong" and down["content"]["messages"][0] == {"role": "user", "content": "Hello"}


def test_standing_and_appeal_are_the_persons_own(ann: Person, upstream: Upstream) -> None:
    Person(ann.home, ann.service, "bob")
    assert "In good standing" in ann.page("/me")
    upstream.standing |= {"level": "throttled", "message": "You were slowed down."}
    assert "you can send fewer" in ann.page("/me")
    ann.send("/me/appeal", words="It was a test")
    assert [one for one in upstream.told if one[0] != "standing"][-1] == (
        "appeals",
        {"words": "It was a test", "user_id": "chat-1"},
    )


def test_everything_can_be_taken_away_and_brought_back(ann: Person) -> None:
    sent = talked(ann)
    ann.send(f"/m/{sent['question']}/edit", text="Goodbye")
    markdown = ann.client.get(f"/c/{sent['chat']}/export.md")
    assert "## You\n\nGoodbye" in markdown.text and "attachment" in markdown.headers["content-disposition"]
    whole = ann.client.get("/me/data.json").json()
    assert len(whole["chats"]) == 1 and len(whole["chats"][0]["messages"]) == 4
    ann.send("/me/import", text=json.dumps({"chats": whole["chats"]}))
    assert len(ann.client.get("/me/data.json").json()["chats"]) == 2
    claude = [
        {
            "name": "From Claude",
            "chat_messages": [{"sender": "human", "text": "Hi"}, {"sender": "assistant", "text": "Yes"}],
        }
    ]
    ann.send("/me/import", text=json.dumps(claude))
    node: dict[str, Any] = {"author": {"role": "user"}, "content": {"parts": ["Hi there"]}}
    gpt = [
        {
            "title": "From GPT",
            "current_node": "b",
            "mapping": {"a": {"message": None}, "b": {"parent": "a", "message": node}},
        }
    ]
    ann.send("/me/import", text=json.dumps(gpt))
    page = ann.page("/")
    assert "From Claude" in page and "From GPT" in page
    for wrong in ("not json", "[]", '{"a": 1}', "[1, 2]"):
        assert ann.send("/me/import", text=wrong).status_code == 400


def test_forgetting_leaves_no_byte_behind(tmp_path: Path, upstream: Upstream) -> None:
    canary = "Zwetschgenkuchen"
    with chat(file_of(tmp_path), upstream) as (home, service):
        ann = Person(home, service, "ann")
        sent = talked(ann, f"A secret {canary}")
        ann.send(f"/c/{sent['chat']}/share")
        assert ann.send("/me/forget").status_code == 400  # not sure
        page = ann.send("/me/forget", sure="yes")
        assert "All your data here is deleted" in page.text
        with writing(service.database) as c:
            c.exec_driver_sql("INSERT INTO words_of_messages(words_of_messages) VALUES('optimize')")
    for file in tmp_path.iterdir():
        assert canary.encode() not in file.read_bytes(), file.name
        assert canary.lower().encode() not in file.read_bytes(), file.name


def test_forms_of_a_message_come_when_they_are_wanted(ann: Person) -> None:
    sent = talked(ann, "</template><b>Hello")
    page = ann.page(f"/c/{sent['chat']}")
    assert page.count("<textarea") == 2  # the composer's, and that of instructions
    assert "&lt;/template&gt;&lt;b&gt;Hello</template>" in page  # what Copy copies
    for form, field in (("edit", "text"), ("rate", "words")):
        unfolded = ann.page(f"/m/{sent['reply']}/{form}")
        assert f'name="{field}"' in unfolded and f"/c/{sent['chat']}#m-{sent['reply']}" in unfolded
        other = Person(ann.home, ann.service, f"bob {form}")
        assert other.client.get(f"/m/{sent['reply']}/{form}").status_code == 404
    ann.send(f"/m/{sent['reply']}/retry")
    assert 'aria-label="Earlier version">‹</button>' in ann.page(f"/c/{sent['chat']}")


def test_style_and_script_are_compressed_and_pages_are_not(ann: Person) -> None:
    style = ann.client.get("/static/chat.css")
    assert style.headers["content-encoding"] == "gzip" and "immutable" in style.headers["cache-control"]
    page = ann.client.get("/")
    assert "content-encoding" not in page.headers and page.headers["cache-control"] == "no-store"


def test_strangers_see_the_door_alone(ann: Person) -> None:
    stranger = browse(ann.home)
    assert stranger.get("/").headers["location"] == "/enter"
    assert stranger.get("/join", follow_redirects=True).status_code == 403  # invitations only
    for place in ("/c/x", "/me", "/me/data.json", "/people", "/search?q=a"):
        assert stranger.get(place).status_code in (303, 401)
    assert stranger.post("/c", data={"text": "Hi"}).status_code == 401
    member = Person(ann.home, ann.service, "bob")
    assert member.client.get("/people").status_code == 403
    assert "bob" in ann.page("/people")


def test_forms_from_elsewhere_change_nothing(ann: Person) -> None:
    sent = talked(ann)
    wrong = ann.client.post(f"/c/{sent['chat']}/delete", data={"csrf": "0" * 64})
    assert wrong.status_code == 403
    other = {"sec-fetch-site": "cross-site"}
    assert ann.client.post("/c", data={"csrf": ann.csrf, "text": "x"}, headers=other).status_code == 403
    ann.page(f"/c/{sent['chat']}")


def test_a_key_opens_another_browser_and_a_suspended_person_is_out(ann: Person) -> None:
    bob = Person(ann.home, ann.service, "bob")
    sent = talked(bob, "Bob's own")
    elsewhere = browse(ann.home, follow_redirects=True)
    assert "Bob&#39;s own" in elsewhere.post("/enter", data={"key": bob.key}).text
    assert elsewhere.get(f"/c/{sent['chat']}").status_code == 200
    ann.send("/people/2/lock", out="yes")
    assert elsewhere.get(f"/c/{sent['chat']}").status_code in (200, 401, 303)
    assert "Sign in" in elsewhere.get("/").text
    assert elsewhere.post("/enter", data={"key": bob.key}).status_code == 403


def test_open_sign_up_asks_for_a_name_alone(tmp_path: Path, upstream: Upstream) -> None:
    with chat(file_of(tmp_path), upstream, Config(sign_up=True)) as (home, _):
        browser = browse(home, follow_redirects=True)
        assert "/join" in browser.get("/enter").text
        assert 'id="key"' in browser.post("/join", data={"name": "cleo"}).text
        again = browse(home, follow_redirects=True).post("/join", data={"name": "Cleo"})
        assert again.status_code == 409 and "taken" in again.text


def test_texts_of_people_never_become_markup(ann: Person) -> None:
    evil = "</textarea><script>alert(1)</script><img src=x onerror=alert(1)>"
    sent = talked(ann, evil)
    for place in (f"/c/{sent['chat']}", "/", "/search?q=script", "/me", f"/c/{sent['chat']}/export.md"):
        page = ann.client.get(place)
        if "html" in page.headers["content-type"]:
            assert "<script>alert" not in page.text and "<img src=x" not in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]


def test_health_and_limits_are_open(ann: Person) -> None:
    assert httpx.get(f"{ann.home}/health").json() == {"status": "ok", "api": "ok"}
    page = httpx.get(f"{ann.home}/limits").text
    assert "It makes things up" in page
    assert "small" in httpx.get(f"{ann.home}/models").text
