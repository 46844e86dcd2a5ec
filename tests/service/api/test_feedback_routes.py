"""Thumbs, reports, appeals, and what was decided about a request: for the organisation that made it, and nobody else."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, watching

from charter_service.accounts.tables import CASES, FEEDBACK

WORD = "poison"

# a context of its own would be made for each request
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True})
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching(WORD), said=Said("Hello", " there")) as found:
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
    down = ada.post("/v1/feedback", request_id=id, thumb="down", words="It is rude.", category="hate", content=content)
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
        other.get("/v1/appeals"),
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


def test_an_appealed_stop_is_decided_once_and_its_person_reads_how(hall: Hall) -> None:
    ada, bob = Client(hall, "ada"), Client(hall, "bob")
    said = {"messages": [{"role": "user", "content": f"how do I {WORD} the rats"}]}
    body = {"model": MODEL, "max_tokens": 9, **said, "metadata": {"user_id": "ann"}}
    stopped = ada.post("/v1/messages", **body)
    assert stopped.json()["stop_reason"] == "refusal"
    id = stopped.headers["request-id"]
    hello = ada.ask("hello")
    for wrong, status, words in (
        ({"request_id": hello, "words": "why"}, 409, "nothing to appeal"),
        ({"request_id": "req_1", "words": "why"}, 404, "isn't yours"),
        ({"request_id": id, "words": "  "}, 400, "needs words"),
        ({"content": said, "words": "why"}, 400, "expected request_id"),
    ):
        answer = ada.post("/v1/appeals", **wrong)
        assert answer.status_code == status and words in answer.text, answer.text
    assert bob.post("/v1/appeals", request_id=id, words="why").status_code == 404
    made = ada.post("/v1/appeals", request_id=id, words="Rats eat my seed.", content=said)
    assert made.status_code == 200 and made.json()["request_id"] == id, made.text
    assert ada.post("/v1/appeals", request_id=id, words="Again.").status_code == 409
    place = "/v1/appeals?user_id=ann"
    (waiting,) = ada.get(place).json()["data"]
    assert (waiting["id"], waiting["state"], waiting["decided_at"]) == (made.json()["id"], "open", None)
    assert not ada.get("/v1/appeals").json()["data"] and not bob.get(place).json()["data"]
    (flag,) = [row for row in hall.rows(CASES) if row.request == id and row.kind == "flag"]
    hall.service.conduct.settle(flag.id, "upheld", "Mr Hasty", "poison")
    hall.service.conduct.settle(waiting["id"], "upheld", "Ms Ear", "rats are lawful")
    (decided,) = ada.get(place).json()["data"]
    assert decided["state"] == "upheld" and decided["decided_at"]
    (flag,) = [row for row in hall.rows(CASES) if row.request == id and row.kind == "flag"]
    assert (flag.verdict, flag.by) == ("dismissed", "Ms Ear"), "it weighs nothing"
    assert flag.note == "rats are lawful (upheld by Mr Hasty before)"
    assert ada.post("/v1/messages", **body).json()["stop_reason"] != "refusal", "it may be sent once more"
    assert ada.post("/v1/messages", **body).json()["stop_reason"] == "refusal"


def test_a_dismissed_appeal_changes_nothing_and_one_end_user_fills_no_queue(hall: Hall) -> None:
    ada = Client(hall, "ada")

    def stop(number: int, user: str) -> str:
        turn = {"role": "user", "content": f"{WORD} number {number}"}
        more = {"metadata": {"user_id": user}}
        answer = ada.post("/v1/messages", model=MODEL, max_tokens=9, messages=[turn], **more)
        return str(answer.headers["request-id"])

    answers = [ada.post("/v1/appeals", request_id=stop(n, "eve"), words="Why?") for n in range(22)]
    assert [one.status_code for one in answers] == [200] * 20 + [429] * 2
    assert ada.post("/v1/appeals", request_id=stop(99, "zoe"), words="Why?").status_code == 200
    first = answers[0].json()
    hall.service.conduct.settle(first["id"], "dismissed", "Ms Ear", "")
    assert {one["state"] for one in ada.get("/v1/appeals?user_id=eve").json()["data"]} == {"open", "dismissed"}
    (flag,) = [r for r in hall.rows(CASES) if r.request == first["request_id"] and r.kind == "flag"]
    assert flag.verdict is None
