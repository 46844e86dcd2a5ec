"""What is said of an address or a method that isn't served: what was likely meant, in the shape of the program's API."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from lobby import Said, open_hall

VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with (
        open_hall(tmp_path_factory.mktemp("hall"), said=Said("Hi")) as hall,
        httpx2.Client(base_url=hall.url, trust_env=False) as found,
    ):
        yield found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/v1/messages", "the base URL has one /v1 too many: Anthropic's clients take it without"),
        ("/chat/completions", "did you mean /v1/chat/completions? OpenAI's programs take a base URL that ends in /v1"),
        ("/completions", "did you mean /v1/completions? OpenAI's programs"),
        ("/models/toy-2", "did you mean /v1/models/toy-2? OpenAI's programs"),
        ("/v1/responses", "this part of the API is not offered; /docs lists all addresses"),
        ("/v1/skills/skill_1", "this part of the API is not offered"),
        ("/v1/message", "did you mean /v1/messages? /docs lists all addresses"),
        ("/v1/embedding", "there is no /v1/embedding here; /docs lists all addresses"),
        ("/nothere", "there is no /nothere here; /docs lists all addresses"),
    ],
)
def test_an_address_that_is_not_served_is_told_with_what_was_meant(client: httpx2.Client, path: str, said: str) -> None:
    answer = client.post(path, headers=VERSION, json={})
    assert answer.status_code == 404
    found = answer.json()
    assert found["type"] == "error" and found["error"]["type"] == "not_found_error"
    message = found["error"]["message"]
    assert message.startswith(f"there is no {path} here; ") and said in message


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/chat/completion"])
def test_a_program_of_the_other_shape_is_answered_in_its_own(client: httpx2.Client, path: str) -> None:
    answer = client.post(path, headers={"authorization": "Bearer x"}, json={})
    assert answer.status_code == 404
    found = answer.json()
    assert set(found) == {"error"} and found["error"].pop("message").startswith(f"there is no {path} here; ")
    assert found["error"] == {"type": "not_found_error", "param": None, "code": None}


def test_a_method_that_is_not_served_is_told_with_those_that_are(client: httpx2.Client) -> None:
    answer = client.get("/v1/messages", headers=VERSION)
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert answer.json()["error"] == {
        "type": "invalid_request_error",
        "message": "GET is not allowed on /v1/messages; POST is",
    }
    answer = client.put("/v1/messages/batches", headers=VERSION)
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, POST"
    assert "on /v1/messages/batches; GET, POST is" in answer.json()["error"]["message"]
