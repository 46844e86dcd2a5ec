"""Whatever somebody imports, shares, opens, seeks or sends, another person's pages and requests are answered meanwhile.

Before code was coloured elsewhere, one imported reply took all others 19 to 90 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from company import Upstream, served
from neighbours import REPLIES, VERSION, Guest, Watch, api_process, chat_process, hostile_requests

# far beyond what is aimed at, a second on a quiet machine: this one may be busy
LONGEST_WAIT = 10.0
REQUESTS = tuple(hostile_requests({"key": "", "admin": ""}))


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Guest, Guest]]:
    """Somebody hostile and somebody else, at a chat in a process of its own."""
    with served(Upstream().app) as api, chat_process(api, tmp_path_factory.mktemp("chat")) as joining:
        hostile = Guest(joining, "ann")
        other = Guest(hostile.invite(), "bob")
        yield hostile, other
        for one in (hostile, other):
            one.client.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with api_process(tmp_path_factory.mktemp("api")) as facts:
        yield facts


def check(watch: Watch, kind: str) -> None:
    assert not watch.failures, (kind, watch.failures[:3])
    assert max(watch.waits) < LONGEST_WAIT, kind


@pytest.fixture(scope="module")
def small(guests: tuple[Guest, Guest]) -> str:
    """A small chat of the other person's, with some code."""
    return guests[1].bring_in("Short.\n\n```python\nreturn 1\n```")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", REPLIES)
def test_a_hostile_reply_that_is_imported_opened_and_shared_holds_up_nobody(
    guests: tuple[Guest, Guest], small: str, kind: str
) -> None:
    hostile, other = guests
    watch = Watch(lambda: other.client.get(f"/c/{small}").status_code)
    with watch.watching():
        id = hostile.bring_in(REPLIES[kind])
        assert hostile.page(f"/c/{id}").status_code == 200
        with httpx.Client(base_url=hostile.home, timeout=120) as stranger:
            assert stranger.get(hostile.share(id)).status_code == 200
        assert hostile.send(f"/c/{id}/delete").status_code == 200
    check(watch, kind)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "query",
    [
        " ".join(["a OR b"] * 1000),
        '"' * 1000,
        "NEAR(a b, 9) AND NOT (c* OR ^d)" * 30,
        "%" * 200,
        "_%\\" * 60,
        "\u0301" * 200,
        "a" * 200,
        "* " * 100,
    ],
)
def test_no_search_or_title_holds_up_anybody(guests: tuple[Guest, Guest], small: str, query: str) -> None:
    hostile, other = guests
    watch = Watch(lambda: other.client.get(f"/c/{small}").status_code)
    with watch.watching():
        id = hostile.bring_in("Short.", title=query * 100)
        hostile.send(f"/c/{id}", title=query * 500)
        assert hostile.page("/search", q=query).status_code == 200
        assert hostile.page(f"/c/{id}/export.md").status_code == 200
        assert hostile.send(f"/c/{id}/delete").status_code == 200
    check(watch, query[:20])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", REQUESTS)
def test_no_request_to_the_api_holds_up_others(api: dict[str, str], kind: str) -> None:
    theirs = {"x-api-key": api["other"], **VERSION}
    with (
        httpx.Client(base_url=api["address"], timeout=120, headers=theirs) as other,
        httpx.Client(base_url=api["address"], timeout=120) as hostile,
    ):
        watch = Watch(lambda: other.get("/v1/models").status_code)
        with watch.watching():
            answer = hostile_requests(api)[kind](hostile)
    assert answer.status_code < 500 or answer.status_code == 529, answer.text[:300]
    check(watch, kind)


@pytest.mark.timeout(300)
def test_long_headers_are_read_or_refused(guests: tuple[Guest, Guest], small: str) -> None:
    hostile, other = guests
    watch = Watch(lambda: other.client.get(f"/c/{small}").status_code)
    cookies = "; ".join(f'a{number}="\\{number}' for number in range(3000))
    with watch.watching():
        for headers in (
            {"accept": ",".join(["text/html;q=0.5"] * 1000)},
            {"accept-language": ",".join(["a-b;q=0.123"] * 1300)},
            {"cookie": cookies},
        ):
            assert httpx.get(f"{hostile.home}/enter", headers=headers, timeout=120).status_code == 200
        # the rest of what is too long is not read, so that the answer may be lost
        with suppress(httpx.TransportError):
            long = {"x-long": "a" * 200_000}
            assert httpx.get(f"{hostile.home}/enter", headers=long, timeout=120).status_code == 400
    check(watch, "headers")
