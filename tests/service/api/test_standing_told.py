"""Whoever isn't in good standing is told with each answer, in every shape, and end users have standings of their own."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until, watching

from charter.ground.generate.remote import RemoteAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import user
from charter_service.accounts.decisions import user_mark
from charter_service.accounts.standings import account_of
from charter_service.web.tokens import digest_of

WORD = "poison"
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)
TURN = [{"role": "user", "content": "hello"}]
CLAUDE = {"model": MODEL, "max_tokens": 9, "messages": TURN}
CHAT = {"model": MODEL, "max_tokens": 9, "messages": TURN}
TEXT = {"model": MODEL, "max_tokens": 9, "prompt": "hello"}
OLD = {"model": MODEL, "max_tokens_to_sample": 9, "prompt": "\n\nHuman: hello\n\nAssistant:"}
SHAPES = {"/v1/messages": CLAUDE, "/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/v1/complete": OLD}
USERS = {"warned": 4, "enhanced": 6, "throttled": 8, "suspended": 10, "forgiven": 0, "throttle": 0.01}


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on"}, ladder={"users": {**USERS, "share": 0.1, "suspend_alone": True}})
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching(WORD), said=Said("Hello", " there")) as found:
        yield found


class Client:
    """A program of an organisation of its own."""

    def __init__(self, hall: Hall, organisation: str, *scopes: str) -> None:
        self.hall, self.secret = hall, hall.key(organisation, scopes or ("messages", "feedback", "batches"))
        self.owner = hall.organisations[organisation]

    def post(self, path: str, body: dict[str, Any], version: str = "2023-06-01") -> httpx.Response:
        headers = {"authorization": f"Bearer {self.secret}"}
        if path not in ("/v1/chat/completions", "/v1/completions"):
            headers["anthropic-version"] = version
        return post(self.hall.url + path, json=body, headers=headers, timeout=30)

    def get(self, path: str) -> httpx.Response:
        return get(self.hall.url + path, headers={"x-api-key": self.secret}, timeout=30)

    def becomes(self, level: str, user: str = "") -> None:
        account = account_of(self.owner, user_mark(self.owner, digest_of(user)) if user else "")
        self.hall.service.conduct.decide(account, level, "Ms Ear", "of what they did")  # type: ignore[arg-type]

    def asks(self, text: str, user: str | None = None) -> httpx.Response:
        more = {"metadata": {"user_id": user}} if user else {}
        return self.post("/v1/messages", {**CLAUDE, "messages": [{"role": "user", "content": text}], **more})


def events(answer: httpx.Response) -> list[Any]:
    lines = [line[5:].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("path", SHAPES)
def test_good_standing_is_not_spoken_of(hall: Hall, path: str) -> None:
    ada = Client(hall, "quiet")
    for stream in (False, True):
        answer = ada.post(path, {**SHAPES[path], "stream": stream})
        assert answer.status_code == 200 and "charter-standing" not in answer.headers
        assert "standing" not in answer.text


@pytest.mark.parametrize("path", SHAPES)
def test_a_warning_comes_with_each_answer(hall: Hall, path: str) -> None:
    ada = Client(hall, f"loud {path}")
    ada.becomes("warned")
    answer = ada.post(path, SHAPES[path])
    assert answer.status_code == 200 and answer.headers.get_list("charter-standing") == ["warned"]
    note = answer.json()["standing"]
    assert (note["level"], note["of"]) == ("warned", "account")
    assert "this account is warned" in note["message"] and "of what they did" in note["message"]
    assert note["appeal"] and set(note) == {"level", "of", "message", "appeal"}
    streamed = ada.post(path, {**SHAPES[path], "stream": True})
    assert streamed.headers.get_list("charter-standing") == ["warned"]
    found = events(streamed)
    told = [one for one in found if "standing" in one or "standing" in one.get("message", {})]
    assert len(told) == 1 and (told[0].get("standing") or told[0]["message"]["standing"]) == note
    first = found[0] if path != "/v1/complete" else found[-1]
    assert told[0] is first, "it is told once, where programs find it"


def test_the_version_of_january_2023_too(hall: Hall) -> None:
    ada = Client(hall, "january")
    ada.becomes("warned")
    found = events(ada.post("/v1/complete", {**OLD, "stream": True}, "2023-01-01"))
    assert found[-1]["standing"]["level"] == "warned" and "standing" not in found[0]


def test_the_header_comes_with_all_else_too(hall: Hall) -> None:
    ada = Client(hall, "elsewhere")
    ada.becomes("enhanced")
    for answer in (
        ada.get("/v1/models"),
        ada.get("/v1/standing"),
        ada.get("/v1/messages/batches"),
        ada.post("/v1/messages", {}),
        ada.post("/v1/messages/count_tokens", {"model": MODEL, "messages": TURN}),
    ):
        assert answer.headers.get_list("charter-standing") == ["enhanced"], answer.request.url
    ada.becomes("suspended")
    refused = ada.asks("hello")
    assert refused.status_code == 403 and refused.headers.get_list("charter-standing") == ["suspended"]
    assert "charter-standing" not in get(f"{hall.url}/health").headers


def test_the_answer_that_brought_the_warning_tells_it(hall: Hall) -> None:
    ada = Client(hall, "at once")
    last = [ada.asks(f"{WORD} {n}") for n in range(5)][-1]
    assert last.json()["stop_reason"] == "refusal" and last.json()["standing"]["level"] != "good"
    assert last.headers["charter-standing"] == last.json()["standing"]["level"]


def test_one_user_is_refused_alone(hall: Hall) -> None:
    ada = Client(hall, "platform")
    seen = []
    for n in range(12):
        answer = ada.asks(f"{WORD} {n}", "eve")
        seen.append(answer.headers.get("charter-standing", "good"))
        if answer.status_code == 403:
            break
    assert answer.status_code == 403 and "this user is suspended" in answer.text
    assert list(dict.fromkeys(seen))[-1] == "suspended" and "warned" in seen
    for path, named in (
        ("/v1/chat/completions", {"user": "eve"}),
        ("/v1/chat/completions", {"safety_identifier": "eve"}),
        ("/v1/completions", {"user": "eve"}),
        ("/v1/complete", {"metadata": {"user_id": "eve"}}),
    ):
        assert ada.post(path, {**SHAPES[path], **named}).status_code == 403, path
    for other in ("ann", None):
        answer = ada.asks("hello", other)
        assert answer.status_code == 200 and "charter-standing" not in answer.headers
    told = ada.get("/v1/standing?user_id=eve").json()
    assert (told["level"], told["of"]) == ("suspended", "user") and "this user" in told["message"]
    assert ada.get("/v1/standing").json()["level"] == "good"
    assert ada.get("/v1/standing?user_id=ann").json()["level"] == "good"
    assert ada.get("/v1/standing?user_id=" + "x" * 1025).status_code == 400
    assert Client(hall, "rival").get("/v1/standing?user_id=eve").json()["level"] == "good"
    # the organisation appeals for its user
    assert ada.post("/v1/appeals", {"words": "Please."}).status_code == 409
    made = ada.post("/v1/appeals", {"words": "She is a chemist.", "user_id": "eve"})
    assert made.status_code == 200
    hall.service.conduct.settle(made.json()["id"], "upheld", "Ms Ear", "she is")
    assert ada.asks("hello", "eve").status_code == 200


def test_no_user_id_is_kept_as_it_was_sent(hall: Hall) -> None:
    ada, name = Client(hall, "private"), "ann-of-cleves@example.org"
    for n in range(3):
        ada.asks(f"{WORD} {n}", name)
    ada.get(f"/v1/standing?user_id={name}")
    raw = b"".join(path.read_bytes() for path in Path(str(hall.service.database.url.database)).parent.iterdir())
    assert name.encode() not in raw and digest_of(name).encode() not in raw
    assert user_mark(ada.owner, digest_of(name)).encode() in raw


def test_a_throttled_user_has_less_and_nobody_else_has(tmp_path: Path) -> None:
    config = configuration(limits={"requests_per_minute": 100}, ladder={"users": USERS})
    with open_hall(tmp_path, config, said=Said("Hello")) as hall:
        ada = Client(hall, "slow")
        ada.becomes("throttled", "eve")
        assert ada.asks("hello", "eve").status_code == 200  # a hundredth is one a minute
        refused = ada.asks("hello", "eve")
        assert refused.status_code == 429 and "of this end user" in refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers.get_list("charter-standing") == ["throttled"]
        chat = ada.post("/v1/chat/completions", {**CHAT, "user": "eve"})
        assert chat.status_code == 429 and chat.headers.get_list("charter-standing") == ["throttled"]
        assert ada.asks("hello", "ann").status_code == ada.asks("hello").status_code == 200


def test_a_user_may_be_given_a_share_of_a_keys_limits(tmp_path: Path) -> None:
    config = configuration(limits={"requests_per_minute": 10, "user_share": 0.2})
    with open_hall(tmp_path, config, said=Said("Hello")) as hall:
        ada = Client(hall, "acme")
        assert [ada.asks("hello", "eve").status_code for _ in range(3)] == [200, 200, 429]
        again = Client(hall, "acme")
        assert again.asks("hello", "eve").status_code == 429, "by another key of the organisation"
        assert Client(hall, "other").asks("hello", "eve").status_code == 200, "another organisation's user"
        # what was refused took nothing of the key's
        assert [ada.asks("hello", f"user {n}").status_code for n in range(8)] == [200] * 8
        assert ada.asks("hello").status_code == 429


def test_many_names_fill_no_memory(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = hall.service.conduct.standings
    monkeypatch.setattr(memory, "_most_users", 20)
    ada = Client(hall, "crowd")
    for n in range(60):
        assert ada.asks("hello", f"user {n}").status_code == 200
    assert len(memory) <= 20
    accounts = hall.service.admissions._accounts
    assert len(accounts) < 20, "who isn't throttled has no bucket of its own"


def test_batches_know_users_too(hall: Hall) -> None:
    ada = Client(hall, "at leisure")
    ada.becomes("suspended", "eve")
    items = [{"custom_id": name, "params": {**CLAUDE, "metadata": {"user_id": name}}} for name in ("eve", "ann")]
    made = ada.post("/v1/messages/batches", {"requests": items}).json()
    place = f"/v1/messages/batches/{made['id']}"
    version = {"x-api-key": ada.secret, "anthropic-version": "2023-06-01"}
    until(lambda: get(hall.url + place, headers=version).json()["processing_status"] == "ended")
    lines = get(f"{hall.url}{place}/results", headers=version).text.splitlines()
    results = {line["custom_id"]: line["result"] for line in map(json.loads, lines)}
    assert results["ann"]["type"] == "succeeded"
    assert results["eve"]["error"]["error"]["type"] == "permission_error"


def test_the_report_page_tells_it(hall: Hall) -> None:
    ada = Client(hall, "reader")
    id = ada.asks("hello").headers["request-id"]
    form = {"key": ada.secret, "request": id, "do": "look"}
    assert "this account" not in post(f"{hall.url}/report", data=form).text
    ada.becomes("warned")
    assert "his account is warned" in post(f"{hall.url}/report", data=form).text


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_client_of_ours_reads_it(hall: Hall, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = Client(hall, f"ours {dialect}")
    monkeypatch.setenv(f"{dialect.upper()}_API_KEY", ada.secret)
    remote = RemoteAssistant(f"{dialect}:{hall.url}#{MODEL}")
    remote.reply([[user("hello")]], Sampling(max_tokens=5))
    assert remote.notice == ""
    ada.becomes("warned")
    remote.reply([[user("hello")]], Sampling(max_tokens=5))
    assert "this account is warned" in remote.notice
    ada.becomes("good")
    remote.reply([[user("hello")]], Sampling(max_tokens=5))
    assert remote.notice == ""


@pytest.mark.skipif(find_spec("anthropic") is None, reason="anthropic's client is not installed")
def test_anthropics_client_parses_it(hall: Hall) -> None:
    import anthropic

    ada = Client(hall, "anthropic")
    ada.becomes("warned")
    with anthropic.Anthropic(base_url=hall.url, api_key=ada.secret, max_retries=0) as client:
        message = client.messages.create(**CLAUDE)  # type: ignore[call-overload]
        assert message.content[0].text == "Hello there" and message.standing["level"] == "warned"
        with client.messages.stream(**CLAUDE) as stream:  # type: ignore[arg-type]
            assert "".join(stream.text_stream) == "Hello there"
            final = stream.get_final_message()
        assert final.standing["level"] == "warned" and final.stop_reason == "end_turn"
        raw = client.messages.with_raw_response.create(**CLAUDE)  # type: ignore[call-overload]
        assert raw.headers["charter-standing"] == "warned"


@pytest.mark.skipif(find_spec("openai") is None, reason="openai is not installed")
def test_openais_client_parses_it(hall: Hall) -> None:
    import openai

    ada = Client(hall, "openai")
    ada.becomes("warned")
    with openai.OpenAI(base_url=f"{hall.url}/v1", api_key=ada.secret, max_retries=0) as client:
        answer = client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        assert answer.choices[0].message.content == "Hello there"
        assert answer.standing["level"] == "warned"
        chunks = list(client.chat.completions.create(**CHAT, stream=True))  # type: ignore[call-overload]
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == "Hello there"
        assert chunks[0].standing["level"] == "warned"
