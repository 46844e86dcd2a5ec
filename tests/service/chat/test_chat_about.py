"""What people can read of the models: facts, the policy in force and constitutions, whatever the server says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Person, Upstream, chat, file_of, words_of

FACTS = {
    "state": "deprecated",
    "retires": "2027-01-01",
    "successor": "large",
    "knowledge_cutoff": "2025-06-30",
    "card": "https://models.example.org/card.html",
    "constitutions": ["abc", "unknown"],
}


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def ann(tmp_path: Path, upstream: Upstream) -> Iterator[Person]:
    with chat(file_of(tmp_path), upstream) as (home, service):
        yield Person(home, service, "ann")


def look(ann: Person) -> None:
    """What the service does by itself every few seconds, with a client of its own."""
    asyncio.run(_look(ann))


async def _look(ann: Person) -> None:
    api = type(ann.service.api)(ann.service.api.url)
    ann.service.models, ann.service.rules = await api.models(), await api.rules()
    await api.close()


def test_facts_of_a_model_stand_on_its_page(ann: Person, upstream: Upstream) -> None:
    upstream.facts = FACTS
    look(ann)
    page = words_of(ann.page("/models"))
    for words in (
        "2 048 tokens of prompt and reply together",
        "512 tokens",
        "until 2025-06-30",
        "deprecated and ends on 2027-01-01",
        "Use large instead",
        "https://models.example.org/card.html",
        "Our constitution",
    ):
        assert words in page, words
    facts = ann.client.get("/models", headers={"accept": "application/json"}).json()["models"][0]
    assert facts["window"] == 2048 and facts["constitutions"] == [{"digest": "abc", "name": "Our constitution"}]
    assert "small (deprecated, ends 2027-01-01)" in ann.page("/")


def test_the_policy_and_a_constitution_can_be_read(ann: Person) -> None:
    assert "Our policy, version 3" in ann.page("/policy") and "spotting one" in ann.page("/policy")
    page = ann.page("/constitution/abc")
    assert "Is it unkind?" in page and "Which is kinder?" in page
    assert ann.client.get("/constitution/other").status_code == 404


@pytest.mark.parametrize(
    ("rules", "said"),
    [(None, "doesn't say which policy"), ({"policy": None, "constitutions": []}, "enforces no policy")],
)
def test_a_server_without_a_policy_is_said_to_be_one(ann: Person, upstream: Upstream, rules: Any, said: str) -> None:
    upstream.rules = rules
    look(ann)
    assert said in ann.page("/policy").replace("&#39;", "'")


HOSTILE: list[Any] = [
    [],
    {"policy": [1], "constitutions": {"a": 1}},
    {"policy": {"categories": [1, {"title": {"a": []}}], "high_risk": "x"}, "constitutions": [7, {}]},
    {"policy": {"name": "\ud800<script>", "categories": None}, "constitutions": [{"digest": "abc"}]},
]


@pytest.mark.parametrize("rules", HOSTILE)
def test_no_answer_of_a_server_breaks_the_pages(ann: Person, upstream: Upstream, rules: Any) -> None:
    upstream.rules = rules
    upstream.facts = {"card": "javascript:alert(1)", "constitutions": 5, "state": ["x"], "retires": {}}
    look(ann)
    for place in ("/models", "/policy", "/", "/limits"):
        page = ann.page(place)
        assert "javascript:" not in page and "<script>" not in page
    assert ann.client.get("/constitution/abc").status_code in (200, 404)
