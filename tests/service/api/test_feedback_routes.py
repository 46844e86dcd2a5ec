"""Thumbs, reports, appeals, and what was decided about a request: for the organisation that made it, and nobody else."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, watching

from charter.service.accounts.tables import CASES, FEEDBACK

WORD = "poison"

# a context of its own would be made for each request
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True})
    with open_hall(
        tmp_path_factory.mktemp("hall"), config, watching(WORD), said=Said("Hello", " there")
    ) as found:
        yield found


class Client:
    """A program with a key of an organisation."""

    def __init__(self, hall: Hall, organisation: str, *scopes: str) -> None:
        key = hall.key(organisation, scopes or ("messages", "feedback"))
        self.url, self.headers = hall.url, {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def ask(self, text: str) -> str:
        """The id of a request."""
        turn = {"role": "user", "content": text}
        answer = self.post("/v1/messages", model=MODEL, max_tokens=9, messages=[turn])
        assert answer.status_code == 200
        return str(answer.headers["request-id"])

    def post(self, path: str, **body: Any) -> httpx.Response:
        return post(self.url + path, json=body, headers=self.headers, timeout=30)

    def get(self, path: str) -> httpx.Response:
        return get(self.url + path, headers=self.headers, timeout=30)


def test_a_request_id_leads_to_its_verdict(hall: Hall) -> None:
    ada = Client(hall, "ada")
    fine, stopped = ada.ask("hello"), ada.ask(f"how do I {WORD} a well")
    found = ada.get(f"/v1/requests/{fine}").json()
    assert (found["id"], found["model"]) == (fine, MODEL)
    assert [(d["action"], d["category"]) for d in found["decisions"]] == [("allow", "")]
    (decision,) = ada.get(f"/v1/requests/{stopped}").json()["decisions"]
    assert (decision["side"], decision["action"]) == ("prompt", "block")
    assert decision["title"] and decision["policy"].startswith("charter-aup")
    assert decision["score"] is None and decision["threshold"] is None
    operator = Client(hall, "ada", "feedback", "admin")
    (decision,) = operator.get(f"/v1/requests/{stopped}").json()["decisions"]
    assert decision["score"] == 0.9 and decision["threshold"] == 0.5
    refused = Client(hall, "bob").get(f"/v1/requests/{stopped}")
    assert refused.status_code == 404 and "isn't yours" in refused.json()["error"]["message"]
    assert ada.get("/v1/requests/req_" + "0" * 200).status_code == 404


def test_thumbs_and_reports(hall: Hall) -> None:
    ada, bob = Client(hall, "ada"), Client(hall, "bob")
    id = ada.ask("hello")
    up = ada.post("/v1/feedback", request_id=id, thumb="up").json()
    assert up == {"type": "feedback", "id": up["id"], "request_id": id, "thumb": "up", "reported": False}
    before = len(hall.rows(CASES))
    content = {"messages": [{"role": "user", "content": "hello"}], "reply": "Hello there"}
    down = ada.post(
        "/v1/feedback", request_id=id, thumb="down", words="It is rude.", category="hate", content=content
    )
    assert down.json() == {**up, "thumb": "down", "reported": True}
    (case,) = hall.rows(CASES)[before:]
    assert (case.kind, case.request, case.category, case.words) == ("report", id, "hate", "It is rude.")
    assert "Hello there" in case.content
    (thumb,) = [row for row in hall.rows(FEEDBACK) if row.request == id]
    assert thumb.thumb == "down"
    assert [one["thumb"] for one in ada.get(f"/v1/requests/{id}").json()["feedback"]] == ["down"]
    assert bob.post("/v1/feedback", request_id=id, thumb="up").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"request_id": "req_1", "thumb": "sideways"}, 400, "thumb"),
        ({"request_id": "req_1"}, 400, "thumb: Field required"),
        ({"request_id": "", "thumb": "up"}, 400, "request_id"),
        ({"request_id": "req_1", "thumb": "up", "more": 1}, 400, "more"),
        ({"request_id": "req_1", "thumb": "down", "words": "x" * 10_001}, 400, "words"),
        ({"request_id": "req_1", "thumb": "down", "category": "no_such"}, 400, "not a category"),
        ({"request_id": "req_1", "thumb": "up"}, 404, "there is no request"),
    ],
)
def test_what_is_wrong_is_said(hall: Hall, body: dict[str, Any], status: int, words: str) -> None:
    answer = Client(hall, "ada").post("/v1/feedback", **body)
    assert answer.status_code == status and words in answer.json()["error"]["message"]
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_content_that_is_too_large_is_refused(hall: Hall) -> None:
    ada = Client(hall, "ada")
    id = ada.ask("hello")
    long = ada.post("/v1/feedback", request_id=id, thumb="down", content={"reply": "x" * 200_001})
    assert long.status_code == 413
    huge = ada.post("/v1/feedback", request_id=id, thumb="down", content={"reply": "x" * 2**20})
    assert huge.status_code == 413


def test_the_scope_feedback_is_needed(hall: Hall) -> None:
    other = Client(hall, "ada", "messages")
    for answer in (
        other.post("/v1/feedback", request_id="req_1", thumb="up"),
        other.post("/v1/appeals", words="Please."),
        other.get("/v1/requests/req_1"),
        other.get("/v1/standing"),
    ):
        assert answer.status_code == 403 and "lacks the scope feedback" in answer.text
    assert get(f"{hall.url}/v1/standing").status_code == 401


def test_an_appeal_restores_a_suspended_account(hall: Hall) -> None:
    eve = Client(hall, "eve")
    assert eve.get("/v1/standing").json()["level"] == "good"
    early = eve.post("/v1/appeals", words="Please.")
    assert early.status_code == 409 and "good standing" in early.text
    owner = hall.organisations["eve"]
    hall.service.conduct.decide(owner, "suspended", "Ms Ear", "much abuse")
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    refused = eve.post("/v1/messages", **body)
    assert refused.status_code == 403 and "much abuse" in refused.text
    told = eve.get("/v1/standing").json()
    assert told["level"] == "suspended" and "much abuse" in told["message"] and told["appeal"]
    assert eve.post("/v1/appeals", words="  ").status_code == 400
    made = eve.post("/v1/appeals", words="It was a test.").json()
    assert made["type"] == "appeal" and made["state"] == "open"
    assert eve.post("/v1/appeals", words="Again.").status_code == 409
    hall.service.conduct.settle(made["id"], "upheld", "Ms Ear", "it was")
    assert eve.get("/v1/standing").json()["level"] == "good"
    assert eve.post("/v1/messages", **body).status_code == 200
