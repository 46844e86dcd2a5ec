"""What one person, a stranger or a broken server could do to the others: each of these once worked, or must never."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from company import Person, Upstream, browse, chat, file_of, until
from sqlalchemy import func, insert, select, update
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from charter_service.chat import markdown, talk
from charter_service.chat import replies as module
from charter_service.chat.app import ROUTES
from charter_service.chat.branches import branch, chat_of, list_chats
from charter_service.chat.client import Api
from charter_service.chat.markdown import Writing, render
from charter_service.chat.portable import import_file
from charter_service.people.tables import CHATS, MESSAGES, SHARES
from charter_service.people.workers import Person as Row
from charter_service.people.workers import find_person
from charter_service.web.database import reading, writing
from charter_service.web.entrance import Limiter
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import new_id

USUAL_END: list[dict[str, Any]] = [
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"},
]


class Odd(Upstream):
    """A server whose events, models and standing a test chooses, however wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.answers: dict[str, Response] = {}

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        if not self.events:
            async for event in super()._events(body):
                yield event
        for value in self.events:
            yield f"data: {json.dumps(value)}\n\n"

    async def _models(self, request: Request) -> Response:
        return self.answers.get("models") or await super()._models(request)

    async def _standing(self, request: Request) -> Response:
        return self.answers.get("standing") or await super()._standing(request)

    async def _limits(self, request: Request) -> Response:
        return self.answers.get("limits") or await super()._limits(request)


@pytest.fixture
def upstream() -> Odd:
    return Odd()


@pytest.fixture
def ann(tmp_path: Path, upstream: Odd) -> Iterator[Person]:
    with chat(file_of(tmp_path), upstream) as (home, service):
        yield Person(home, service, "ann", "admin")


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "content_block_delta", "delta": {"text": text}} for text in texts]


def talked(person: Person, text: str = "Hello") -> dict[str, str]:
    sent = person.begin(text)
    person.finished(sent["reply"])
    return sent


def held(upstream: Upstream) -> threading.Event:
    """Holds all words back."""
    upstream.gate = threading.Event()
    upstream.gate.set()
    return upstream.gate


# A server that answers nonsense


@pytest.mark.parametrize("odd", ["\ud800 half", "\x00 nothing", "a \udfff"])
def test_letters_that_no_database_keeps_stop_nobodys_reply(ann: Person, upstream: Odd, odd: str) -> None:
    upstream.events = [*said("before ", odd, " after"), *USUAL_END]
    row = ann.finished(ann.begin("Hello")["reply"])
    assert row.state == "done" and row.text.startswith("before ") and row.text.endswith(" after")
    assert "before" in ann.page(f"/m/{row.id}")


def test_a_letter_whose_halves_come_apart_is_whole(ann: Person, upstream: Odd) -> None:
    upstream.events = [*said("so \ud83d", "\ude00 it is"), *USUAL_END]
    assert ann.finished(ann.begin("Hello")["reply"]).text == "so 😀 it is"


@pytest.mark.parametrize("tokens", [10**30, -5, "many", [1], 1e400, None])
def test_counts_that_are_none_end_the_reply_all_the_same(ann: Person, upstream: Odd, tokens: Any) -> None:
    usage = {"input_tokens": tokens, "output_tokens": tokens}
    upstream.events = [{"type": "message_start", "message": {"usage": usage}}, *said("fine"), *USUAL_END]
    row = ann.finished(ann.begin("Hello")["reply"])
    assert (row.state, row.text) == ("done", "fine") and 0 <= row.output_tokens < 2**31


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message_start", "message": "x"},
        {"type": "message_start", "message": {"usage": "x"}},
        {"type": "content_block_delta", "delta": "x"},
        {"type": "content_block_delta", "delta": {"text": {"a": 1}}},
        {"type": "message_delta", "delta": "x", "usage": []},
        {"type": "message_delta", "delta": {"stop_details": "x"}},
        {"type": ["x"]},
        {},
    ],
)
def test_events_of_another_form_are_passed_over(ann: Person, upstream: Odd, event: dict[str, Any]) -> None:
    upstream.events = [event, *said("fine"), *USUAL_END]
    row = ann.finished(ann.begin("Hello")["reply"])
    assert row.state == "done" and row.text.endswith("fine")


def test_a_reply_without_an_end_ends(ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_TEXT", 1000)
    upstream.events = said(*["word " * 20] * 200)
    row = ann.finished(ann.begin("Hello")["reply"])
    assert row.stop == "max_tokens" and 1000 <= len(row.text) <= 1200


def test_a_server_that_breaks_at_every_word_is_given_up(
    ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    upstream.words, upstream.breaks = lambda _: "one two three four five.", [2] + [1] * 1000
    row = ann.finished(ann.begin("Hello")["reply"])
    assert row.state == "failed"


@pytest.mark.parametrize(
    "answer",
    [
        JSONResponse({"data": 5}),
        JSONResponse({"data": [{"id": "x", "max_tokens": "many", "charter": [1]}]}),
        JSONResponse([]),
        Response("<html>hello</html>", media_type="text/html"),
        RedirectResponse("http://127.0.0.1:1/"),
    ],
)
def test_a_server_without_sense_takes_no_models_away(ann: Person, upstream: Odd, answer: Response) -> None:
    upstream.answers["models"] = answer
    asyncio.run(_look_again(ann))
    assert ann.service.models and ann.page("/")
    talked(ann)


async def _look_again(ann: Person) -> None:
    api, ann.service.api = ann.service.api, Api(ann.service.api.url)
    await ann.service.look()
    await ann.service.api.close()
    ann.service.api = api


@pytest.mark.parametrize("answer", [{}, {"level": "throttled"}, {"level": 5, "message": None}])
def test_ones_own_page_works_whatever_the_server_says_of_ones_standing(
    ann: Person, upstream: Odd, answer: dict[str, Any]
) -> None:
    upstream.answers["standing"] = JSONResponse(answer)
    assert "Delete everything" in ann.page("/me")


# Stopping, deleting, suspending


def test_stopping_twice_ends_the_reply_for_those_who_follow(
    ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(upstream)
    sent = ann.begin("Hello")
    until(lambda: upstream.bodies)
    real = module.Replies._end

    def slow(*told: Any) -> None:
        time.sleep(0.3)
        real(*told)

    monkeypatch.setattr(module.Replies, "_end", slow)
    ann.send(f"/m/{sent['reply']}/stop")
    ann.send(f"/m/{sent['reply']}/stop")
    assert ann.finished(sent["reply"]).state == "stopped"
    until(lambda: ann.service.replies.text_of(sent["reply"]) is None)


def test_a_stop_that_comes_with_the_beginning_stops(
    ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(upstream)
    replies, start = ann.service.replies, module.Replies._start

    def both(self: module.Replies, reply: str) -> None:
        start(self, reply)
        self._stop(reply)

    monkeypatch.setattr(module.Replies, "_start", both)
    sent = ann.begin("Hello")
    assert ann.finished(sent["reply"]).state == "stopped"
    until(lambda: replies.text_of(sent["reply"]) is None)


def test_what_is_deleted_is_written_no_further(ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = held(upstream)
    sent = ann.begin("Hello")
    until(lambda: upstream.bodies)
    with writing(ann.service.database) as c:
        c.execute(update(CHATS).where(CHATS.c.id == sent["chat"]).values(deleted=1.0))
    ann.service.replies._purge_now()
    until(lambda: ann.service.replies.text_of(sent["reply"]) is None)
    gate.clear()


def test_a_suspended_persons_reply_ends_with_its_events(ann: Person, upstream: Odd) -> None:
    gate = held(upstream)
    bob = Person(ann.home, ann.service, "bob")
    sent = bob.begin("Hello")
    until(lambda: upstream.bodies)
    ann.send("/people/2/lock", out="yes")
    assert bob.finished(sent["reply"]).state == "stopped"
    gate.clear()


def test_many_at_once_are_no_more_than_four_replies(ann: Person, upstream: Odd) -> None:
    gate = held(upstream)
    csrf, codes = ann.csrf, list[int]()

    def ask(number: int) -> None:
        with httpx.Client(base_url=ann.home, cookies=ann.client.cookies, timeout=20) as client:
            form = {"csrf": csrf, "text": f"Question {number}"}
            codes.append(client.post("/c", data=form, headers={"accept": "application/json"}).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    gate.clear()
    assert sorted(codes) == [201] * 4 + [429] * 12


def test_event_streams_of_a_person_are_few(ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = held(upstream)
    sent = ann.begin("Hello")
    opened, codes = list[Any](), list[int]()
    for _ in range(24):
        request = ann.client.build_request("GET", f"/m/{sent['reply']}/events")
        opened.append(ann.client.send(request, stream=True))
        codes.append(opened[-1].status_code)
    for answer in opened:
        answer.close()
    gate.clear()
    assert codes.count(200) <= 20 and codes.count(429) >= 4
    ann.finished(sent["reply"])
    until(lambda: not ann.service.streams)


# What one person can cost the others


def test_a_search_bomb_is_none(ann: Person) -> None:
    _grow(ann, ["a " * 400_000])
    assert ann.client.get("/search?q=a").status_code == 200  # the index's own snippet would take hours


def test_a_snippet_shows_the_words_and_marks_them(ann: Person) -> None:
    talked(ann, "x " * 500 + "the Élan <vital> of \x02foxes\x03 " + "y " * 500)
    page = ann.page("/search?q=elan+fox")
    assert "<mark>Élan</mark> &lt;vital&gt; of" in page and "<mark>foxes</mark>" in page


@pytest.mark.parametrize(
    "text",
    [
        "\\(" * 500_000,
        "\\(x" * 300_000,
        "$$ a\n" * 200_000,
        "\\[ a\n" * 200_000,
        "[" * 1_000_000,
        "a\n\n" * 300_000,
        "```rst\n" + ":a" * 30_000 + "\n```",
        "$$a$$ " * 100_000,
    ],
    ids=range(8),
)
@pytest.mark.timeout(40)  # these took minutes
def test_no_text_takes_long_to_show(text: str) -> None:
    assert render(text)
    assert render(text[:100_000])


def test_a_long_block_is_not_rendered_at_each_word(ann: Person, upstream: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = markdown._split, list[int]()

    def counted(text: str) -> tuple[list[int], list[str]]:
        sizes.append(len(text))
        return real(text)

    monkeypatch.setattr(markdown, "_split", counted)
    upstream.events = [*said("```python\n", *["x = f(1) + g(2)\n"] * 1500), *USUAL_END]
    sent = ann.begin("Hello")
    with ann.client.stream("GET", f"/m/{sent['reply']}/events") as answer:
        for _ in answer.iter_bytes():
            pass
    row = ann.finished(sent["reply"])
    assert row.text.count("\n") == 1501 and sum(sizes) < 100 * len(row.text)


@pytest.mark.parametrize("text", ["1. one\n\n1. two", "1. one\n\n2. two\n\n3. three", "- a\n\n+ b"])
def test_a_list_with_empty_lines_stays_one_while_it_is_written(text: str) -> None:
    grown = Writing()
    for letter in text:
        grown.write(letter)
    assert grown.blocks == render(text)


@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r", "\r\n"])
def test_line_ends_that_are_none_leave_the_blocks_whole(odd: str) -> None:
    text, grown = f"one{odd}a\n\ntwo{odd}b\n\n- three{odd}c\n\nfour", Writing()
    for letter in text:
        grown.write(letter)
    assert "".join(grown.blocks) == "".join(render(text))


def test_an_edited_reply_is_not_gone_on_with(ann: Person) -> None:
    """A person could put any text into a model's mouth, and let it be rendered again at each word."""
    sent = talked(ann)
    answer = ann.client.post(
        f"/m/{sent['reply']}/edit", data={"csrf": ann.csrf, "text": "Mine"}, follow_redirects=False
    )
    assert answer.status_code == 303
    with reading(ann.service.database) as c:
        mine = c.execute(select(MESSAGES.c.id).where(MESSAGES.c.author == "edited")).scalar_one()
    for reply in (mine, sent["reply"]):
        assert ann.send(f"/m/{reply}/continue").status_code == 400


def test_drafts_are_not_read_for_each_page(ann: Person) -> None:
    sent = talked(ann)
    ann.send(f"/c/{sent['chat']}/draft", text="x" * 1000)
    with reading(ann.service.database) as c:
        person = _ann(ann)
        assert [one.draft for one in list_chats(c, person)] == [""]
        assert chat_of(c, person, sent["chat"]).draft == "x" * 1000


def _ann(ann: Person) -> Row:
    with reading(ann.service.database) as c:
        return find_person(c, "ann")


def _grow(ann: Person, texts: list[str]) -> str:
    """A chat of one long branch."""
    with writing(ann.service.database) as c:
        now, rows, parent, id = time.time(), list[dict[str, Any]](), "", new_id()
        chat = {"id": id, "person": 1, "title": "long", "titled": True, "model": "small", "leaf": ""}
        flags = {"draft": "", "pinned": False, "archived": False, "created": now, "touched": now}
        c.execute(insert(CHATS).values(**chat, **flags))
        empty = dict.fromkeys(("model", "request", "stop", "reason", "thumb"), "")
        counts = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens"), 0)
        for number, text in enumerate(texts, 1):
            role = "user" if number % 2 else "assistant"
            facts = {"role": role, "author": "person", "state": "done", "text": text, "created": now}
            rows.append({**empty, **counts, **facts, "id": new_id(), "chat": id, "number": number})
            rows[-1]["parent"], parent = parent, rows[-1]["id"]
        c.execute(insert(MESSAGES), rows)
        c.execute(update(CHATS).where(CHATS.c.id == id).values(leaf=parent))
    return id


def test_a_page_of_giant_messages_is_not_giant(ann: Person) -> None:
    id = _grow(ann, ["x" * 900_000] * 12)
    page = ann.page(f"/c/{id}")
    assert len(page) < 8_000_000 and "earlier messages" in page
    with reading(ann.service.database) as c:
        leaf = chat_of(c, _ann(ann), id).leaf
    assert ann.send(f"/m/{leaf}/fork").status_code == 413
    assert ann.send(f"/c/{id}/share").status_code == 413


def test_a_deep_chat_is_shown_up_and_down(ann: Person) -> None:
    id = _grow(ann, ["word"] * 10_000)
    assert "earlier messages" in ann.page(f"/c/{id}")
    ann.page(f"/c/{id}?most=99999999")
    with reading(ann.service.database) as c:
        root = c.execute(select(MESSAGES.c.id).where(MESSAGES.c.chat == id, MESSAGES.c.number == 1)).scalar_one()
    # it once read the whole chat at each step down: half a minute, in which nobody else could write
    assert ann.send(f"/m/{root}/show").status_code == 200


def test_every_message_of_a_long_chat_can_be_reached(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "MOST_SHOWN", 60)
    id = _grow(ann, [f"Message {number}." for number in range(200)])
    place, seen = f"/c/{id}", set[str]()
    while place:
        page = ann.page(place)
        shown = re.findall(r"Message \d+\.", one_section(page))
        assert len(set(shown)) <= 60
        seen.update(shown)
        found = re.search(r'href="(\?[^"#]*)#[^"]*">[\d,]+ earlier messages', page)
        place = f"/c/{id}{unescape(found[1])}" if found else ""
    assert seen == {f"Message {number}." for number in range(200)}


def test_a_search_leads_to_a_message_far_back_and_on_from_there(ann: Person) -> None:
    id = _grow(ann, [f"Message {number}." for number in range(200)])
    with reading(ann.service.database) as c:
        ids = c.execute(select(MESSAGES.c.id).where(MESSAGES.c.chat == id).order_by(MESSAGES.c.number)).scalars().all()
    answer = ann.send(f"/m/{ids[20]}/show")
    assert str(answer.url).endswith(f"?to={ids[30]}#m-{ids[20]}") and f'id="m-{ids[20]}"' in answer.text
    later = re.search(r'href="(\?to=\w+)#m-(\w+)">Later messages', answer.text)
    assert later and later[2] == ids[31] and f'id="m-{ids[31]}"' in ann.page(f"/c/{id}{later[1]}")
    near = ann.send(f"/m/{ids[190]}/show")
    assert str(near.url).endswith(f"/c/{id}#m-{ids[190]}") and "Later messages" not in near.text
    assert ann.client.get(f"/c/{id}?to=nothing").status_code == 404
    other = _grow(ann, ["Another chat"])
    assert ann.client.get(f"/c/{other}?to={ids[0]}").status_code == 404


def one_section(page: str) -> str:
    """The messages of a page."""
    return page.partition('aria-label="Messages"')[2].partition("</section>")[0]


# Imports


@pytest.mark.parametrize(
    "chat",
    [
        {"title": "a", "chat_messages": [{"sender": "human", "text": "half \ud800"}]},
        {"title": "a\x00b", "chat_messages": [{"sender": "human", "text": "nothing \x00"}]},
        {"mapping": {"b": {"message": {"author": "x", "content": {"parts": ["x"]}}}}, "current_node": "b"},
        {"mapping": {"b": {"message": {"author": {"role": "user"}, "content": ["x"]}}}, "current_node": "b"},
        {"mapping": {"b": {"message": {"author": {"role": "user"}, "content": {"parts": 5}}}}, "current_node": "b"},
        {"form": "charter-chat-1", "messages": [{"id": [1]}], "leaf": 4},
    ],
)
def test_an_odd_file_is_taken_in_or_refused(ann: Person, chat: dict[str, Any]) -> None:
    answer = ann.send("/me/import", text=json.dumps([chat]))
    assert answer.status_code in (200, 400)


def test_an_import_of_many_messages_is_refused(ann: Person) -> None:
    one = {"name": "x", "chat_messages": [{"sender": "human", "text": "a"}] * 5000}
    files = ann.service.files
    with pytest.raises(Refusal, match="messages"), files.taking(_ann(ann)) as intake:
        import_file(files, intake, json.dumps([one] * 50), "small")
    with files.taking(_ann(ann)) as intake:
        assert import_file(files, intake, json.dumps([one] * 4), "small") == 4
    with reading(ann.service.database) as c:
        assert c.execute(select(func.count()).select_from(MESSAGES)).scalar_one() == 20_000


def test_an_imported_chat_that_begins_with_a_reply_begins_with_its_first_question(ann: Person) -> None:
    rows = [{"sender": "assistant", "text": "Welcome"}, {"sender": "human", "text": "Hi"}]
    files = ann.service.files
    with files.taking(_ann(ann)) as intake:
        import_file(files, intake, json.dumps([{"name": "x", "chat_messages": rows}]), "small")
    with reading(ann.service.database) as c:
        leaf = list_chats(c, _ann(ann))[0].leaf
        assert [one.role for one in branch(c, leaf)] == ["user"]


# Forms and addresses


def test_a_stranger_sends_no_giant_forms(ann: Person) -> None:
    stranger = browse(ann.home)
    assert stranger.post("/c", data={"text": "x" * 300_000}).status_code == 413
    assert stranger.post("/c", data={"text": "kept"}).status_code == 401
    assert ann.send("/c", text="x" * 300_000).status_code == 200


@pytest.mark.parametrize("place", ["/people/²/lock", "/people/9999999999999999999999/lock"])
def test_a_number_that_is_none_is_nobody(ann: Person, place: str) -> None:
    assert ann.send(place, out="yes").status_code == 404


def test_nothing_in_an_address_is_an_error_of_ours(database: str, upstream: Odd) -> None:
    with chat(database, upstream) as (home, service):
        ann = Person(home, service, "ann", "admin")
        sent = talked(ann)
        for place in ("/m/%00", "/c/%00", "/c/a%00b/export.md", "/s/%00", "/search?q=a%00", "/c/%ff", "/join/%00"):
            assert ann.client.get(place).status_code in (200, 403, 404), place
        assert ann.send(f"/c/{sent['chat']}", title="a\x00b").status_code == 200
        assert ann.send(f"/c/{sent['chat']}/draft", text="a\x00b").status_code == 200
        for text in ("a\x00", "a\ufffe", "\u202e<b>", "\r\r\n"):
            ann.send(f"/m/{sent['reply']}/edit", text=text)
        assert ann.page(f"/c/{sent['chat']}")


# One person against another


def _snapshot(ann: Person) -> list[Any]:
    with reading(ann.service.database) as c:
        return [c.execute(select(table).order_by(*table.primary_key)).all() for table in (CHATS, MESSAGES, SHARES)]


def test_no_route_shows_or_changes_what_is_anothers(ann: Person, upstream: Odd) -> None:
    sent, gone = talked(ann, "Zwetschge"), talked(ann, "Zwetschge gone")
    upstream.words = lambda _: "Zwetschge again"
    ann.send(f"/c/{sent['chat']}/share")
    ann.send(f"/c/{gone['chat']}/delete")
    with reading(ann.service.database) as c:
        share = c.execute(select(SHARES.c.digest)).scalar_one()
    bob = Person(ann.home, ann.service, "bob")
    mine = talked(bob, "Mine")
    before, csrf = _snapshot(ann), bob.csrf
    ids = [*sent.values(), *gone.values(), share, "1", "", "x" * 500]
    form = {"csrf": csrf, "text": "x", "title": "x", "thumb": "up", "sure": "yes", "parent": sent["reply"]}
    for method, path, _ in ROUTES:
        for id in ids if "{id}" in path else []:
            bob.service.by_person, bob.service.by_address.rate = Limiter(1e9, 1e9), 1e9
            answer = bob.client.request(method, path.replace("{id}", id), data=form if method == "POST" else None)
            assert answer.status_code in (403, 404, 405), (path, id, answer.status_code)
            assert "Zwetschge" not in answer.text
    crossed = bob.send(f"/c/{mine['chat']}/messages", parent=sent["reply"], text="x")
    assert crossed.status_code == 404
    for place in ("/", "/archived", "/me", "/me/data.json", "/search?q=Zwetschge"):
        assert sent["chat"] not in bob.page(place)
    assert _snapshot(ann) == before


def test_a_session_that_ended_opens_nothing(ann: Person) -> None:
    sent, cookies = talked(ann), dict(ann.client.cookies)
    csrf = ann.csrf
    ann.send("/leave")
    with httpx.Client(base_url=ann.home, cookies=cookies) as old:
        for method, path, _ in ROUTES:
            if path.startswith(("/enter", "/join", "/s/")):
                continue
            for id in (sent["chat"], sent["reply"]):
                answer = old.request(
                    method, path.replace("{id}", id), data={"csrf": csrf} if method == "POST" else None
                )
                assert answer.status_code in (303, 401), path
                assert answer.headers.get("location", "/enter") == "/enter"


def test_every_form_needs_its_pages_proof(ann: Person) -> None:
    talked(ann)
    before = _snapshot(ann)
    for method, path, _ in ROUTES:
        if method == "POST" and not path.startswith(("/enter", "/join", "/s/")):
            for proof in ({}, {"csrf": ""}, {"csrf": "é"}, {"csrf": "0" * 64}):
                ann.service.by_person = Limiter(1e9, 1e9)
                assert ann.client.post(path.replace("{id}", "x"), data={**proof, "sure": "yes"}).status_code == 403
            headers = {"content-type": "text/plain"}
            assert ann.client.post(path.replace("{id}", "x"), content="a=b", headers=headers).status_code == 415
    assert _snapshot(ann) == before


def test_every_page_says_that_nothing_is_kept_in_a_cache(ann: Person) -> None:
    sent = talked(ann)
    for place in (
        "/",
        f"/c/{sent['chat']}",
        f"/m/{sent['reply']}",
        f"/m/{sent['reply']}/events",
        "/me/data.json",
        "/x",
    ):
        headers = ann.client.get(place).headers
        assert "no-store" in headers["cache-control"] and headers["x-content-type-options"] == "nosniff", place


def test_a_locked_database_is_waited_for(ann: Person, upstream: Odd) -> None:
    gate = held(upstream)
    sent = ann.begin("Hello")
    until(lambda: upstream.bodies)
    with writing(ann.service.database):
        gate.clear()
        until(lambda: (ann.service.replies.text_of(sent["reply"]) or "").endswith("That is all."))
        time.sleep(1.0)
        assert ann.message(sent["reply"]).state == "running"
    assert ann.finished(sent["reply"]).text == upstream.words("Hello")


@pytest.mark.parametrize("odd", ["\r", "\r\n", "\n\n", "\u2028", "\n\ndata: x\n\n", "\nevent: state\n\n", "&#13;&#10;"])
def test_no_text_ends_an_event_early(ann: Person, upstream: Odd, odd: str) -> None:
    gate = held(upstream)
    upstream.words = lambda _: f"one `{odd}` two"
    sent = ann.begin("Hello")
    until(lambda: upstream.bodies)
    kinds = list[str]()
    with ann.client.stream("GET", f"/m/{sent['reply']}/events") as answer:
        gate.clear()
        for line in re.split(r"\r\n|\r|\n", "".join(answer.iter_text())):
            assert line.partition(":")[0] in ("", "event", "data", "id", "retry"), line
            kinds += [line] if line.startswith("event:") else []
    assert kinds.count("event: state") == 1 and kinds[-1] == "event: state"


def test_names_of_models_and_reasons_are_text(ann: Person, upstream: Odd) -> None:
    evil = '"><img src=x onerror=alert(1)>'
    data = [{"id": evil, "display_name": evil}, {"id": "b", "display_name": "b"}]
    upstream.answers["models"] = JSONResponse({"data": data})
    upstream.answers["limits"] = JSONResponse({"limits": [{"title": evil, "words": evil}, 5]})
    upstream.answers["standing"] = JSONResponse({"level": "x", "message": evil})
    ann.service.limits = []
    asyncio.run(_look_again(ann))
    upstream.refusal = evil
    sent = ann.begin(evil, model=evil)
    ann.finished(sent["reply"])
    ann.send(f"/c/{sent['chat']}/share")
    for place in ("/", f"/c/{sent['chat']}", "/me", "/limits", "/search?q=onerror", f"/c/{sent['chat']}/shared"):
        assert "<img" not in ann.page(place), place
    name = ann.client.get(f"/c/{sent['chat']}/export.md").headers["content-disposition"]
    assert name == 'attachment; filename="img-src-x-onerror-alert-1.md"'
