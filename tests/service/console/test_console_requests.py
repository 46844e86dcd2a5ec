"""Requests, usage, feedback and the workbench on the admin pages."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, OTHER, Hall, Said, configuration, open_hall, until, watching
from test_admin_pages import Admin, ask, program

from charter_service.accounts.tables import REQUESTS, USAGE
from charter_service.api.snippets import code_of


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True})
    said = Said("Hello", " there")
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching("poison"), said=said) as found:
        yield found


def listed(hall: Hall, query: str = "") -> list[dict[str, Any]]:
    answer = httpx.get(f"{hall.url}/admin/requests?{query}", headers=program(hall), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["requests"]  # type: ignore[no-any-return]


def test_every_request_leaves_a_row_without_its_text(hall: Hall) -> None:
    key = hall.key("rows", limits={"requests_per_minute": 3})
    first, stopped = ask(hall, key, "hello"), ask(hall, key, "poison")
    body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "tea"}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    streamed = httpx.post(f"{hall.url}/v1/messages", json=body, headers=headers, timeout=30)
    limited = httpx.post(f"{hall.url}/v1/messages", json=body, headers=headers, timeout=30)
    assert limited.status_code == 429
    rows = until(lambda: len(found := listed(hall, "organisation=rows")) == 4 and found)
    assert [row["id"] for row in rows] == [
        limited.headers["request-id"],
        streamed.headers["request-id"],
        stopped,
        first,
    ]
    last, stream, refused, plain = rows
    assert last["status"] == 429 and last["output_tokens"] == 0 and last["first_milliseconds"] is None
    assert refused["refused"] and refused["status"] == 200 and not plain["refused"]
    assert (plain["model"], plain["surface"], plain["output_tokens"]) == (MODEL, "messages", 3)
    assert 0 <= stream["first_milliseconds"] <= stream["milliseconds"]
    assert set(plain) == {column.name for column in REQUESTS.columns} - {"number"} | {"organisation_name"}
    assert [row["id"] for row in listed(hall, "organisation=rows&refused=yes")] == [stopped]
    assert [row["id"] for row in listed(hall, "organisation=rows&status=wrong")] == [last["id"]]
    assert [row["id"] for row in listed(hall, f"request={first}")] == [first]
    assert httpx.get(f"{hall.url}/admin/requests?status=nine", headers=program(hall)).status_code == 400


def test_a_request_of_many_prompts_is_one_row(hall: Hall) -> None:
    key = hall.key("many")
    body = {"model": MODEL, "max_tokens": 9, "prompt": ["one", "two two"]}
    answer = httpx.post(f"{hall.url}/v1/completions", json=body, headers={"x-api-key": key}, timeout=30)
    assert answer.status_code == 200, answer.text
    (row,) = until(lambda: listed(hall, "organisation=many"))
    assert (row["output_tokens"], row["input_tokens"]) == (6, 4 + 5)
    assert sum(one.requests for one in hall.rows(USAGE) if one.key == row["key"]) == 2


def test_three_clicks_from_a_request_to_the_audit_log(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("clicks")
    stopped = ask(hall, key, "poison")
    page = admin.get("/admin/requests?organisation=clicks").text
    assert f'href="/admin/requests/{stopped}"' in page
    one = admin.get(f"/admin/requests/{stopped}").text
    assert "block" in one and "Verdicts" in one
    (case,) = re.findall(r'href="(/admin/queue/[^"]+)"', one)
    admin.send(case, case, verdict="upheld", note="rats")
    (audit,) = re.findall(r'href="(/admin/audit\?whose=[^"]+)"', admin.get(case).text)
    assert "case.close" in admin.get(audit).text


def test_an_unknown_request_is_said(hall: Hall) -> None:
    assert httpx.get(f"{hall.url}/admin/requests/req_none", headers=program(hall)).status_code == 404
    assert "No requests match" in Admin(hall).get("/admin/requests?request=req_none").text


def test_usage_of_one_key_and_model(hall: Hall) -> None:
    for _ in range(2):
        ask(hall, hall.key("sums"), "hello")
    headers = program(hall)
    shown = httpx.get(f"{hall.url}/admin/usage?organisation=sums", headers=headers).json()
    assert shown["total"]["requests"] == 2 and len(shown["largest"]) == 2 and shown["largest_are"] == "keys"
    key = shown["largest"][0]["id"]
    one = httpx.get(f"{hall.url}/admin/usage?organisation=sums&key={key}", headers=headers).json()
    assert one["total"]["requests"] == 1 and [row["key"] for row in one["rows"]] == [key]
    none = httpx.get(f"{hall.url}/admin/usage?organisation=sums&model=other", headers=headers).json()
    assert none["rows"] == [] and none["total"]["requests"] == 0
    everyone = httpx.get(f"{hall.url}/admin/usage", headers=headers).json()
    assert everyone["largest_are"] == "organisations" and everyone["total"]["requests"] >= 2
    assert httpx.get(f"{hall.url}/admin/usage?key=nobody", headers=headers).status_code == 404


def test_feedback_is_counted_shown_and_downloaded_as_text(hall: Hall) -> None:
    key, words = hall.key("thumbs"), '=HYPERLINK("x")<script>alert(1)</script>'
    for number in range(3):
        body = {"request_id": ask(hall, key, "hello"), "thumb": "down" if number else "up"}
        body |= {"words": words} if number == 2 else {}
        answer = httpx.post(f"{hall.url}/v1/feedback", json=body, headers={"x-api-key": key})
        assert answer.status_code == 200
    admin = Admin(hall)
    shown = admin.get("/admin/feedback?organisation=thumbs&format=json").json()
    assert shown["by_model"] == {MODEL: {"up": 1, "down": 2}} and len(shown["feedback"]) == 3
    page = admin.get("/admin/feedback?organisation=thumbs&words=yes").text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "feedback_export" in page
    table = admin.get("/admin/feedback?organisation=thumbs&words=yes&format=csv").text
    (line,) = csv.DictReader(io.StringIO(table))
    assert line["words"] == f"'{words}"
    assert "Nobody gave feedback" in admin.get("/admin/feedback?since=2001-01-01&until=2001-01-02").text


def test_the_workbench_asks_two_models_without_script(hall: Hall) -> None:
    admin = Admin(hall)
    fields = {"model": MODEL, "other": OTHER, "system": "Be brief.", "turn": "<i>hi</i>", "max_tokens": "7"}
    page = admin.send("/admin/workbench", "/admin/workbench", **fields).text
    assert page.count("Hello there") == 2 and "&lt;i&gt;hi" in page and "<i>hi" not in page
    assert "claude" not in page and page.count("curl ") == 2 and "client.completions.create" in page
    asked = hall.service.registry.served[0].backend.asked[-1]  # type: ignore[attr-defined]
    assert asked.sampling.max_tokens == 7 and [one["role"] for one in asked.prompt] == ["system", "user"]
    rows = until(lambda: len(found := [r for r in listed(hall) if r["surface"] == "workbench"]) >= 2 and found)
    assert {row["model"] for row in rows} == {MODEL, OTHER}


def test_the_workbench_streams_to_programs_and_obeys_the_policy(hall: Hall) -> None:
    headers = {**program(hall), "accept": "application/x-ndjson"}
    body = {"model": MODEL, "other": "toy-1", "turn": "poison", "temperature": 0.5}
    answer = httpx.post(f"{hall.url}/admin/workbench", json=body, headers=headers, timeout=30)
    events = [json.loads(line) for line in answer.text.splitlines()]
    ends = [event["end"] for event in events if "end" in event]
    assert [end["stop"] for end in ends] == ["refused", "refused"] and "stopped under" in ends[0]["reason"]
    fine = httpx.post(f"{hall.url}/admin/workbench", json={**body, "turn": "tea"}, headers=headers, timeout=30)
    pieces = [json.loads(line) for line in fine.text.splitlines()]
    assert "".join(one["text"] for one in pieces if one.get("side") == 0 and "text" in one) == "Hello there"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"turn": " "}, "write what to ask"),
        ({"turn": ["a", "", "b"]}, "turn 2 is empty"),
        ({"model": ""}, "choose one"),
        ({"temperature": "hot"}, "is not a number"),
        ({"temperature": "7"}, "temperature"),
        ({"max_tokens": "0"}, "max_tokens"),
        ({"turn": ["x"] * 41}, "at most 40"),
        ({"act": "burn"}, "act"),
    ],
)
def test_the_workbench_says_what_is_wrong(hall: Hall, change: dict[str, Any], words: str) -> None:
    body = {"model": MODEL, "turn": "tea", **change}
    answer = httpx.post(f"{hall.url}/admin/workbench", json=body, headers=program(hall), timeout=30)
    assert answer.status_code == 400 and words in answer.text


def test_code_says_any_text_and_ends_no_quote() -> None:
    nasty = 'it\'s $(rm -rf) "quoted" \\ ``` \n </script>'
    body = {"model": "m", "max_tokens": 5, "system": nasty, "messages": [{"role": "user", "content": nasty}]}
    curl, python, old, old_python = code_of("http://x", body)
    quoted = curl.text.partition("-d '")[2][:-1].replace("'\\''", "'")
    assert json.loads(quoted) == body
    assert json.loads(old.text.partition("-d '")[2][:-1].replace("'\\''", "'"))["prompt"].endswith("\n\nAssistant:")
    for code in (python.text, old_python.text):
        compile(code, "code", "exec")


def test_roles_without_the_right_get_nothing(hall: Hall, tmp_path: Path) -> None:
    """A key of another scope opens none of the new screens."""
    for path in ("requests", "usage", "feedback", "workbench", "runs", "policy/draft", "policy/versions"):
        answer = httpx.get(f"{hall.url}/admin/{path}", headers={"x-api-key": hall.key("low")})
        assert answer.status_code == 403, path
