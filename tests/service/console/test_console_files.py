"""The screens of files and retention, and of tools: what organisations store, how long, and how often tools failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from lobby import Hall, configuration, open_hall, until

from charter_service.accounts.keys import find_caller
from charter_service.accounts.tables import USAGE
from charter_service.web.audit import Wanted, search_acts
from charter_service.web.database import reading, writing


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(files={"file_mib": 1, "quota_mib": 1}, tools={"calculator": True})
    with open_hall(tmp_path_factory.mktemp("hall"), config) as opened:
        yield opened


def page(hall: Hall, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    key = hall.key("house", ("admin",))
    return httpx.request(method, f"{hall.url}/admin/{path}", headers={"x-api-key": key}, **more)


def upload(hall: Hall, key: str, content: bytes) -> int:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    file = {"file": ("a.txt", content, "text/plain")}
    return httpx.post(f"{hall.url}/v1/files", files=file, headers=headers).status_code


def test_what_an_organisation_stores_and_what_was_refused(hall: Hall) -> None:
    key = hall.key("acme")
    assert page(hall, "files").json()["organisations"] == []
    assert upload(hall, key, b"x" * 600_000) == 200 and upload(hall, key, b"x" * 600_000) == 403
    (row,) = page(hall, "files").json()["organisations"]
    assert (row["name"], row["files"], row["bytes"]) == ("acme", 1, 600_000) and row["refused"] == {"quota": 1}
    kept = {one["name"]: one["value"] for one in page(hall, "files").json()["keep"]}
    assert kept["usage_days"] == 400 and kept["requests_days"] == 30 and kept["files_days"] == 0


def test_a_sweep_begins_at_once_and_is_an_act(hall: Hall) -> None:
    assert page(hall, "files").json()["swept"] is None
    counts = dict.fromkeys(("requests", "refused", "input_tokens", "cached_tokens", "output_tokens"), 1)
    with writing(hall.service.database) as c:
        c.execute(USAGE.insert().values(key="key_anonymous", day="2001-01-01", model="m", **counts))
    assert page(hall, "files/sweep", "POST", json={}).json() == {"begun": True}
    until(lambda: page(hall, "files").json()["swept"])
    assert page(hall, "files").json()["removed"]["usage"] == 1 and hall.rows(USAGE) == []
    with reading(hall.service.database) as c:
        assert [row.act.what for row in search_acts(c, Wanted(what="retention.sweep"))[0]] == ["retention.sweep"]


def test_calls_of_tools_by_day_and_organisation(hall: Hall) -> None:
    secrets = [hall.key(name) for name in ("acme", "other")]
    with reading(hall.service.database) as c:
        mine, other = (find_caller(c, secret).key for secret in secrets)
    for key, tool, failed in ((mine, "calculator", False), (mine, "calculator", True), (other, "=gone", True)):
        hall.service.meter.record_tool(key, tool, failed, time.time())
    rows = {one["name"]: one for one in page(hall, "tools").json()["tools"]}
    assert rows["calculator"]["type"] and (rows["calculator"]["calls"], rows["calculator"]["failures"]) == (2, 1)
    assert rows["=gone"]["type"] is None and rows["=gone"]["failures"] == 1
    only = page(hall, "tools?organisation=other").json()["tools"]
    assert {one["name"]: one["calls"] for one in only} == {"=gone": 1, "calculator": 0}
    assert "'=gone" in page(hall, "tools?format=csv").text, "no formula"
    assert page(hall, "tools?organisation=nobody").status_code == 404
