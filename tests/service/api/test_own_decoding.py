"""The model's own decoding is the default of every shape of the API, and a request that names any part of one names all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, OTHER, Hall, Said, configuration, open_hall

import toys
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import save_policy
from charter.ground.model.generation import UNKNOWN, Decoding
from charter.ground.settings.execution import Execution
from charter_service.api.model_request import ModelRequest
from charter_service.api.opening import open_service
from charter_service.api.upstream import UpstreamBackend

HELLO = [{"role": "user", "content": "Hello there"}]
SHAPES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"messages": HELLO, "max_tokens": 12},
    "/v1/complete": {"prompt": "\n\nHuman: Hello\n\nAssistant:", "max_tokens_to_sample": 12},
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 12},
    "/v1/completions": {"prompt": "Hello there", "max_tokens": 12},
}
OWN = Decoding(0.2, 0.9, 5, known=True)


def post(hall: Hall, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(
        hall.url + path,
        headers={"x-api-key": hall.key(), "anthropic-version": "2023-06-01"},
        json={"model": MODEL} | SHAPES[path] | body,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text_of(answer: dict[str, Any]) -> str:
    if "completion" in answer:
        return str(answer["completion"])
    if "content" in answer:
        # no block at all if the first token ends the reply
        return "".join(block["text"] for block in answer["content"])
    (choice,) = answer["choices"]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A model that says it is sampled greedily, and one that says nothing."""
    folder = tmp_path_factory.mktemp("hall")
    model = toys.model(3)
    model.generation = {"do_sample": False, "num_beams": 3}
    save_policy(model, toys.tokenizer(), folder / "own")
    with open_hall(folder, checkpoints={"policy": folder / "own"}) as hall:
        yield hall


@pytest.mark.parametrize("path", SHAPES)
def test_a_request_that_names_nothing_gets_the_models_own_decoding(hall: Hall, path: str) -> None:
    own = {text_of(post(hall, path)) for _ in range(3)}
    assert own == {text_of(post(hall, path, temperature=0))}, "it says that it is greedy"
    assert len({text_of(post(hall, path, temperature=1)) for _ in range(6)}) > 1
    assert len({text_of(post(hall, path, model=OTHER)) for _ in range(6)}) > 1, "of this model none is known: T 1"


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, (0.2, 0.9, 5)),
        ({"temperature": None, "top_p": None, "top_k": None}, (0.2, 0.9, 5)),
        ({"temperature": 1}, (1.0, 1.0, 0)),
        ({"temperature": 0.7, "top_p": 0.5}, (0.7, 0.5, 0)),
        ({"top_p": 0.5}, (1.0, 0.5, 0)),
        ({"top_k": 7}, (1.0, 1.0, 7)),
    ],
)
def test_a_request_names_a_decoding_as_a_whole(
    tmp_path: Path, path: str, named: dict[str, Any], expected: tuple[float, float, int]
) -> None:
    said = Said("Hi.")
    said.decoding = OWN
    with open_hall(tmp_path, said=said) as hall:
        post(hall, path, **named)
    (asked,) = said.asked
    found = asked.sampling
    assert (found.temperature, found.top_p, found.top_k) == expected
    assert asked.own_decoding == (expected == (0.2, 0.9, 5))


def test_the_registry_says_how_a_model_is_sampled_and_what_its_weights_are_of(hall: Hall) -> None:
    facts = [one.facts(date(2026, 1, 1)) for one in hall.service.registry.served]
    assert [f["decoding"] for f in facts] == [{"temperature": 0.0}, None]
    page = httpx.get(hall.url + "/", timeout=30).text
    assert "temperature 0.0, unless a request sets others" in page


def test_fields_that_are_not_applied_are_said_when_a_model_is_opened(tmp_path: Path) -> None:
    model = toys.model(3)
    model.generation = {"temperature": 0.5, "num_beams": 3}
    save_policy(model, toys.tokenizer(), tmp_path / "own")
    notes: list[str] = []
    telling = type("Telling", (), {"note": staticmethod(notes.append)})()
    config = configuration(models=[{"id": MODEL, "source": "own"}])
    service = open_service(config, tmp_path, {MODEL: toys.policy(tmp_path / "own")}, Execution(), telling)
    service.close()
    assert f"{MODEL} ignores num_beams 3 of its generation_config.json" in notes


def test_a_server_behind_is_left_its_own_default() -> None:
    backend = UpstreamBackend.__new__(UpstreamBackend)
    backend._model = "there"
    how = Sampling(0.5, 3, 0.8, 9)
    assert backend.decoding is UNKNOWN
    named = backend._request(ModelRequest("here", "text", how))[1]
    assert (named["temperature"], named["top_p"], named["top_k"]) == (0.5, 0.8, 3)
    left = backend._request(ModelRequest("here", "text", how, own_decoding=True))[1]
    assert left.keys().isdisjoint({"temperature", "top_p", "top_k"}) and left["max_tokens"] == 9
