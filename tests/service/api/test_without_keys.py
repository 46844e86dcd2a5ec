"""A server without keys answers programs on its own machine, and no page that a browser there has from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from lobby import MODEL, Hall, configuration, open_hall


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(authenticate=False)
    with open_hall(tmp_path_factory.mktemp("hall"), config) as hall:
        yield hall


def ask(hall: Hall, **more: str) -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"anthropic-version": "2023-06-01", **more}
    return httpx.post(f"{hall.url}/v1/messages", headers=headers, json=body, timeout=30)


def test_a_program_here_needs_no_key(hall: Hall) -> None:
    assert ask(hall).status_code == 200
    assert ask(hall, host="localhost:8000").status_code == 200
    assert ask(hall, origin="http://localhost:3000").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {"host": "rebound.example"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://[bad"},
        {"x-forwarded-for": "203.0.113.7"},
        {"x-forwarded-host": "charter.example"},
        {"x-forwarded-proto": "https"},
        {"x-real-ip": "203.0.113.7"},
        {"true-client-ip": "203.0.113.7"},
        {"cf-connecting-ip": "203.0.113.7"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_a_page_from_elsewhere_is_refused(hall: Hall, header: dict[str, str]) -> None:
    answer = ask(hall, **header)
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"
    assert "127.0.0.1" in answer.json()["error"]["message"]
    assert httpx.get(f"{hall.url}/metrics", headers=header).status_code == 403


def test_what_a_browser_says_of_pages_here_changes_nothing(hall: Hall) -> None:
    for site in ("same-origin", "none"):
        assert httpx.get(f"{hall.url}/metrics", headers={"sec-fetch-site": site}).status_code == 200
