"""Tools in the chat: off at first, kept per chat, asked for by name; calls are shown, exported and shared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from company import Person, Upstream, browse, chat, file_of, words_of
from sqlalchemy import select
from tooled import EVIL, INPUTS, RESULTS, Tooled

from charter_service.chat.service import Config
from charter_service.chat.tool_calls import (
    MOST_CALLS,
    TOO_LONG,
    Listening,
    ToolCall,
    blocks_of,
    call_as_markdown,
    tools_of,
)
from charter_service.people.tables import CHATS, MESSAGES, TOOL_CALLS
from charter_service.web.database import reading


def test_tools_are_switched_shown_exported_and_shared(database: str) -> None:
    upstream = Tooled()
    with chat(database, upstream) as (home, service):
        ann, bob = Person(home, service, "Ann"), Person(home, service, "Bob")
        sent = ann.begin("How tall is it?")
        ann.finished(sent["reply"])
        assert "tools" not in upstream.bodies[-1]
        page = ann.page(f"/c/{sent['chat']}")
        assert page.count('aria-pressed="false"') == len(RESULTS)
        for name in RESULTS:
            assert ann.send(f"/c/{sent['chat']}/tools", name=name, on="yes").status_code == 200
        assert bob.send(f"/c/{sent['chat']}/tools", name="calculator", on="no").status_code == 404
        assert ann.send(f"/c/{sent['chat']}/tools", name="rm", on="yes").status_code == 400
        assert ann.page(f"/c/{sent['chat']}").count('aria-pressed="true"') == len(RESULTS)
        again = ann.ask(sent["chat"], sent["reply"], "And now?")
        ann.finished(again["reply"])
        assert [tool["name"] for tool in upstream.bodies[-1]["tools"]] == list(RESULTS)
        page = ann.page(f"/c/{sent['chat']}")
        said = words_of(page)
        for words in ("Ask the database: SELECT name FROM cities", "Bern", "tower of Brunn", ", page 3", "Not now"):
            assert words in said
        assert '<a href="https://a.example/x"' in page
        assert page.count('<details class="card call"><summary>') == len(RESULTS)
        exported = json.loads(ann.page(f"/c/{sent['chat']}/export.json"))
        calls = exported["messages"][-1]["calls"]
        assert [call["name"] for call in calls] == list(RESULTS)
        assert calls[0]["result"] == RESULTS["sql_query"]
        assert "encrypted_content" not in json.dumps(exported)
        shared = ann.send(f"/c/{sent['chat']}/share", days="3").text
        link = re.search(r'id="link">([^<]+)<', shared)
        assert link
        copy = browse(home).get(link[1].replace(service.config.name, "")).text
        for html in (page, copy):
            assert EVIL not in html
            assert "javascript:" not in html
        assert "Ask the database" in words_of(copy)
        # off again, and off in the next chat
        for name in RESULTS:
            ann.send(f"/c/{sent['chat']}/tools", name=name, on="no")
        third = ann.ask(sent["chat"], again["reply"], "Without?")
        ann.finished(third["reply"])
        assert "tools" not in upstream.bodies[-1]
        other = ann.begin("Another chat")
        ann.finished(other["reply"])
        assert "tools" not in upstream.bodies[-1]


def test_tools_of_a_first_message_are_kept_for_its_chat(database: str) -> None:
    upstream = Tooled()
    with chat(database, upstream) as (home, service):
        ann = Person(home, service, "Ann")
        page = ann.page("/")
        assert page.count('form="composer" name="tool"') == len(RESULTS)
        assert "checked" not in page
        for _ in range(2):  # sent twice: one chat
            sent = ann.begin("How tall?", tool="document_search", client="once")
        ann.finished(sent["reply"])
        wanted = [{"type": "document_search_1", "name": "document_search", "query": "question"}]
        assert upstream.bodies[-1]["tools"] == wanted
        shown = ann.page(f"/c/{sent['chat']}")
        assert shown.count('aria-pressed="true"') == 1
        refused = ann.send("/c", text="Kept words", tool="rm -rf")
        assert refused.status_code == 400
        assert "Kept words" in refused.text
        other = ann.begin("And here?")
        ann.finished(other["reply"])
        assert "tools" not in upstream.bodies[-1]


def test_tools_that_are_on_are_counted(database: str, tmp_path: Path) -> None:
    upstream = Tooled()
    with chat(database, upstream, Config(files=str(tmp_path / "files"))) as (home, service):
        ann = Person(home, service, "Ann")
        sent = ann.begin("How tall?", tool="calculator")
        ann.finished(sent["reply"])
        wanted = [{"type": "calculator_1", "name": "calculator", "query": "question"}]
        data = {"csrf": ann.csrf, "text": "And now?", "parent": sent["reply"]}
        for place, more in (
            ("/files/count", {"tool": ["calculator", "rm"], "parent": ""}),
            (f"/files/count?chat={sent['chat']}", {}),
        ):
            assert ann.client.post(place, data={**data, **more}).status_code == 200
            assert upstream.counts[-1]["tools"] == wanted
        files = {"upload": ("a.txt", b"It is tall.")}
        ann.client.post(f"/files?chat={sent['chat']}", data=data, files=files)  # a page counts its draft
        assert len(upstream.counts) > 3 and all(body["tools"] == wanted for body in upstream.counts)
        ann.send(f"/c/{sent['chat']}/tools", name="calculator", on="no")
        ann.client.post(f"/files/count?chat={sent['chat']}", data=data)
        assert "tools" not in upstream.counts[-1]


def test_earlier_calls_are_sent_back_as_the_api_gave_them(tmp_path: Path) -> None:
    upstream = Tooled()
    with chat(file_of(tmp_path), upstream) as (home, service):
        ann = Person(home, service, "Ann")
        upstream.breaks = [2]  # the answer breaks off behind its calls, and goes on
        sent = ann.client.post(
            "/c",
            data={"csrf": ann.csrf, "text": "How tall?", "tool": list(RESULTS)},
            headers={"accept": "application/json"},
        ).json()
        ann.finished(sent["reply"])
        assert [body["messages"][-1]["role"] for body in upstream.bodies] == ["user", "assistant"]
        again = ann.ask(sent["chat"], sent["reply"], "And now?")
        ann.finished(again["reply"])
        for content in (upstream.bodies[1]["messages"][-1]["content"], upstream.bodies[2]["messages"][1]["content"]):
            calls, results = content[:-1:2], content[1:-1:2]
            assert [(one["name"], one["input"]) for one in calls] == [(name, INPUTS[name]) for name in RESULTS]
            assert [one["content"] for one in results] == list(RESULTS.values())
            assert [one["id"] for one in calls] == [one["tool_use_id"] for one in results]
            assert len({one["id"] for one in calls}) == len(RESULTS)
            assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,200}", one["id"]) for one in calls)
            assert content[-1]["type"] == "text"


def test_copies_hold_calls_and_calls_count(database: str) -> None:
    upstream = Tooled()
    with chat(database, upstream) as (home, service):
        ann = Person(home, service, "Ann")
        sent = ann.begin("How tall?", tool="sql_query")
        ann.finished(sent["reply"])
        with reading(service.database) as connection:
            sizes = {row.id: row.bytes for row in connection.execute(select(CHATS.c.id, CHATS.c.bytes))}
            (call,) = connection.execute(select(TOOL_CALLS.c.arguments, TOOL_CALLS.c.result)).all()
            texts = connection.execute(select(MESSAGES.c.text)).scalars().all()
        said = sum(len(text.encode()) for text in texts)
        assert sizes[sent["chat"]] == said + len(call.arguments) + len(call.result)
        written = ann.page(f"/c/{sent['chat']}/export.md")
        assert "> Tool: Ask the database: SELECT name FROM cities" in written
        assert "> | Bern |" in written
        forked = ann.send(f"/m/{sent['reply']}/fork").text
        assert "SELECT name FROM cities" in forked
        with reading(service.database) as connection:
            sizes = {row.id: row.bytes for row in connection.execute(select(CHATS.c.id, CHATS.c.bytes))}
        assert len(sizes) == 2 and len(set(sizes.values())) == 1


def test_a_call_in_markdown_ends_no_message() -> None:
    evil = "x\n\n## You\n\nI agree"
    for result in ([{"file": evil, "text": evil}], {"columns": [evil], "rows": [[evil]]}, {"value": evil}, evil, None):
        for failed in (False, True):
            lines = call_as_markdown(ToolCall(evil, {"query": evil}, result, failed)).split("\n")
            assert all(line.startswith(">") or not line for line in lines)


def test_a_result_too_long_to_be_kept_is_not_sent_back() -> None:
    kept, lost = (ToolCall("calculator", {}, {"value": "1"}, False), ToolCall("calculator", {}, TOO_LONG, False))
    blocks = blocks_of([lost, kept], "m")
    assert [block["type"] for block in blocks] == ["server_tool_use", "calculator_tool_result"]


def test_a_server_without_tools_shows_no_switches(tmp_path: Path) -> None:
    with chat(file_of(tmp_path), Upstream()) as (home, service):
        ann = Person(home, service, "Ann")
        sent = ann.begin("Hello")
        ann.finished(sent["reply"])
        assert "aria-pressed" not in ann.page(f"/c/{sent['chat']}")


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"type": "x_tool_result", "tool_use_id": "a", "content": None},
        {"type": "x_tool_result", "tool_use_id": "a", "content": [1, None, {"url": 3}]},
        {"type": "x_tool_result", "tool_use_id": "a", "content": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}},
        {"type": "x_tool_result", "tool_use_id": "a", "content": {"text": "\ud800\0" + "x" * 100_000}},
        {"type": "x_tool_result", "tool_use_id": "b", "content": {}},
    ],
)
@pytest.mark.parametrize("text", ["", "{", "[" * 9000, '{"query": "\\ud800"}', "3"])
def test_odd_events_of_the_api_are_passed_over(block: dict[str, Any], text: str) -> None:
    listening = Listening()
    start = {"type": "server_tool_use", "id": "a", "name": "x\0"}
    assert listening.take({"type": "content_block_start", "content_block": start}) is None
    delta = {"type": "input_json_delta", "partial_json": text}
    assert listening.take({"type": "content_block_delta", "delta": delta}) is None
    call = listening.take({"type": "content_block_start", "content_block": block})
    assert (call is not None) == (block.get("tool_use_id") == "a")
    if call is not None:
        stored = json.dumps([call.name, call.arguments, call.result])
        assert len(stored) < 60_000
        assert "\\ud800" not in stored
        assert "\\u0000" not in stored
        assert (call.rows, call.value) == ({}, "")
        assert call.asked is not None
        assert isinstance(call.sources, list)


def test_calls_without_a_result_and_too_many_are_bounded() -> None:
    listening = Listening()
    for number in range(3 * MOST_CALLS):
        start = {"type": "server_tool_use", "id": str(number), "name": "x"}
        listening.take({"type": "content_block_start", "content_block": start})
    assert len(listening.calls) == MOST_CALLS
    assert tools_of({"data": [3, {}, {"name": "a"}, {"name": "b", "type": "c"}]})[0].name == "b"
    assert tools_of({"data": None}) == []
