"""What people let pass, over the network: the same again once, a category until a day, and nothing hidden behind it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from lobby import HALF, MODEL, OTHER, Hall, Said, configuration, open_hall

from charter.ground.moderation.classifiers.classifier import Scores
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import Levels, Thresholds
from charter_service.accounts.grants import verify_grants
from charter_service.accounts.tables import DECISIONS, GRANTS
from charter_service.web.database import reading

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)
POLICY = shipped_policy()


def blocked(severe: bool) -> list[str]:
    return [
        one.id
        for one in POLICY.categories
        if (one.severity == "severe") == severe and one.actions.prompt.standard == one.actions.reply.standard == "block"
    ]


HACK, HATE = blocked(False)[:2]
GRAVE = blocked(True)[0]
LAW = POLICY.high_risk[0]
WORDS = {"hack": HACK, "hate": HATE, "grave": GRAVE}


class Ear:
    """A classifier double that tells categories by words, the first of them surest, and reads each word as a place."""

    name, version, sides = "ear", "ear-1", frozenset({"prompt", "reply"})
    thresholds = Thresholds(
        classifier="ear-1",
        prompt=Levels(standard=HALF, enhanced=HALF),
        reply=Levels(standard=HALF, enhanced=HALF),
        high_risk=Levels(standard=HALF, enhanced=HALF),
    )

    def _scores(self, text: str) -> Scores:
        found = [
            Scores(0.9 - 0.01 * n, {category: 0.9}) for n, (word, category) in enumerate(WORDS.items()) if word in text
        ]
        law = {LAW.id: 0.9 if "lawyer" in text else 0.1}
        if not found:
            return Scores(0.1, {}, law)
        return Scores(found[0].violation, found[0].categories, law, tuple(found[1:]))

    def prompts(self, conversations: Any) -> list[Scores]:
        return [self._scores(" ".join(m["content"] for m in messages)) for messages in conversations]

    def replies(self, items: Any) -> list[Scores]:
        return [self._scores(text) for _, text in items]


@pytest.fixture(scope="module")
def said() -> Said:
    return Said("Hello", " there")


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, said: Said) -> Iterator[Hall]:
    steps = {"warned": 900, "enhanced": 900, "throttled": 900, "suspended": 900}
    config = configuration(policy={"state": "on", "keep_content": True}, ladder=steps)
    screen = Screen(POLICY, [Ear()])  # type: ignore[list-item]
    with open_hall(tmp_path_factory.mktemp("hall"), config, screen, said=said) as found:
        yield found


@pytest.fixture(autouse=True)
def sound(hall: Hall) -> Iterator[None]:
    yield
    with reading(hall.service.database) as connection:
        assert verify_grants(connection) is None


class Client:
    """A program of an organisation."""

    def __init__(self, hall: Hall, organisation: str, *scopes: str) -> None:
        self.hall, self.secret = hall, hall.key(organisation, scopes or ("messages", "feedback"))
        self.owner = hall.organisations[organisation]

    def ask(self, text: str, **more: Any) -> tuple[str, str]:
        """The request's id, and why its answer ended."""
        turn = [{"role": "user", "content": text}]
        body = {"model": MODEL, "max_tokens": 9, "messages": turn, **more}
        answer = self.post("/v1/messages", body)
        assert answer.status_code == 200, answer.text
        return answer.headers["request-id"], answer.json()["stop_reason"]

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"x-api-key": self.secret, "anthropic-version": "2023-06-01"}
        return post(self.hall.url + path, json=body, headers=headers, timeout=30)


class People:
    """A program with a key of the scope admin."""

    def __init__(self, hall: Hall, *scopes: str) -> None:
        self.hall = hall
        self.headers = {"x-api-key": hall.key("house", scopes or ("admin",))}

    def post(self, path: str, **body: Any) -> httpx.Response:
        return post(f"{self.hall.url}/admin/{path}", json=body, headers=self.headers, timeout=30)

    def release(self, stopped: str, **more: Any) -> httpx.Response:
        return self.post("releases", stopped=stopped, reason="a play", **more)

    def exempt(self, organisation: str, category: str, **more: Any) -> httpx.Response:
        until = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
        asked = {"organisation": organisation, "category": category, "until": until, "reason": "theirs"}
        return self.post("exemptions", **(asked | more))


def actions(hall: Hall, request: str) -> list[tuple[str, str]]:
    hall.service.conduct.log.flush()
    return [(row.side, row.action) for row in hall.rows(DECISIONS) if row.request == request]


def test_a_released_request_passes_once(hall: Hall, said: Said) -> None:
    ada, people = Client(hall, "ada"), People(hall)
    first, ended = ada.ask("how do I hack a bee")
    assert ended == "refusal"
    made = people.release(first)
    assert made.status_code == 200 and made.json()["state"] == "in force"
    assert made.json()["by"].startswith("test (key_")
    second, ended = ada.ask("how do I hack a bee")
    assert ended == "end_turn" and actions(hall, second) == [("prompt", "released")]
    assert ada.ask("how do I hack a bee")[1] == "refusal", "once"
    assert actions(hall, first) == [("prompt", "block"), ("person", "release")]
    told = get(f"{hall.url}/v1/requests/{second}", headers={"x-api-key": ada.secret}).json()
    assert [one["action"] for one in told["decisions"]] == ["released"]


def test_a_severe_prompt_passes_once_by_a_release(hall: Hall) -> None:
    ada, people = Client(hall, "gravely"), People(hall)
    first, ended = ada.ask("what is a grave")
    assert ended == "refusal"
    again, _ = ada.ask("what is a grave")
    assert people.release(again).json()["request"] == first, "the case of the one that it repeats"
    second, ended = ada.ask("what is a grave")
    assert ended == "end_turn" and actions(hall, second) == [("prompt", "released")]
    assert ada.ask("what is a grave")[1] == "refusal"


def test_a_stopped_turn_that_is_sent_again_as_history_is_charged_once(hall: Hall) -> None:
    ada = Client(hall, "historian")
    turns = [{"role": "user", "content": "how do I hack a well"}]
    first, _ = ada.ask("", messages=turns)

    def go_on(text: str) -> str:
        turns.extend([{"role": "assistant", "content": "No."}, {"role": "user", "content": text}])
        id, ended = ada.ask("", messages=turns)
        assert ended == "refusal"
        (repeats,) = [row.repeats for row in hall.rows(DECISIONS) if row.request == id]
        return str(repeats)

    assert go_on("what is a bee") == first
    assert go_on("what is a wasp"), "of the request before, whose text it repeats"
    assert go_on("how do I hack them") == "", "something new"
    forged = [{"role": "user", "content": "how do I hack a hole"}, *turns[1:]]
    id, _ = ada.ask("", messages=forged)
    assert [row.repeats for row in hall.rows(DECISIONS) if row.request == id] == [""], "never stopped before"


def test_nothing_else_passes_by_a_release(hall: Hall) -> None:
    ada, bob, people = Client(hall, "careful"), Client(hall, "bob"), People(hall)
    text = "how do I hack a hive"
    first, _ = ada.ask(text, system="Be brief.")
    assert people.release(first).status_code == 200
    assert bob.ask(text, system="Be brief.")[1] == "refusal", "another organisation"
    assert ada.ask(text)[1] == "refusal", "no system text"
    assert ada.ask(text, system="Obey.")[1] == "refusal", "another system text"
    assert ada.ask(text, system="Be brief.", model=OTHER)[1] == "refusal", "another model"
    assert ada.ask(f"{text} ", system="Be brief.")[1] == "refusal", "another text"
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": text},
    ]
    assert ada.ask("", messages=turns, system="Be brief.")[1] == "refusal", "another conversation"
    begun = [{"role": "user", "content": text}, {"role": "assistant", "content": "Sure"}]
    assert ada.ask("", messages=begun, system="Be brief.")[1] == "refusal", "a begun reply"
    assert ada.ask(text, system="Be brief.", metadata={"user_id": "eve"})[1] == "end_turn"


def test_a_release_can_be_used_through_any_shape_that_says_the_same(hall: Hall) -> None:
    ada, people = Client(hall, "shapes"), People(hall)
    first, _ = ada.ask("how do I hack a comb")
    people.release(first)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "how do I hack a comb"}]}
    plain = ada.post("/v1/completions", {"model": MODEL, "prompt": "how do I hack a comb", "max_tokens": 9})
    assert plain.json()["choices"][0]["finish_reason"] == "content_filter", "plain text is no conversation"
    chat = post(
        f"{hall.url}/v1/chat/completions",
        json={**body, "stream": True},
        headers={"authorization": f"Bearer {ada.secret}"},
        timeout=30,
    )
    assert '"finish_reason":"stop"' in chat.text


def test_of_two_that_are_sent_at_once_one_passes(hall: Hall) -> None:
    ada, people = Client(hall, "racers"), People(hall)
    first, _ = ada.ask("how do I hack a race")
    people.release(first)
    with ThreadPoolExecutor(8) as pool:
        ends = [end for _, end in pool.map(lambda _: ada.ask("how do I hack a race"), range(8))]
    assert sorted(ends) == ["end_turn"] + ["refusal"] * 7


def test_a_release_that_is_over_or_taken_back_lets_nothing_pass(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, people, conduct = Client(hall, "late"), People(hall), hall.service.conduct
    first, _ = ada.ask("how do I hack a clock")
    made = people.release(first, hours=1).json()
    now = conduct._clock()
    monkeypatch.setattr(conduct, "_clock", lambda: now + 3601)
    assert ada.ask("how do I hack a clock")[1] == "refusal"
    monkeypatch.undo()
    gone = people.post(f"grants/{made['id']}", reason="it was no play")
    assert gone.json()["state"] == "revoked" and gone.json()["revoked_reason"] == "it was no play"
    assert ada.ask("how do I hack a clock")[1] == "refusal"
    assert people.post(f"grants/{made['id']}", reason="again").status_code == 409
    assert people.post("grants/release_none", reason="x").status_code == 404


def test_a_reply_to_a_released_prompt_is_checked_as_ever(hall: Hall, said: Said) -> None:
    ada, people = Client(hall, "replies"), People(hall)
    first, _ = ada.ask("how do I hack a reply")
    people.release(first)
    said.pieces = ["Well,", " hate"]
    try:
        second, ended = ada.ask("how do I hack a reply")
        assert ended == "refusal" and actions(hall, second) == [("prompt", "released"), ("reply", "block")]
        # the reply's own release
        people.release(second)
        said.pieces = ["Well,", " hate", " again"]
        first, ended = ada.ask("how do I hack a reply")
        assert ended == "refusal", "the prompt's was used up"
    finally:
        said.pieces = ["Hello", " there"]


def test_a_released_reply_passes_under_its_category_alone(hall: Hall, said: Said) -> None:
    ada, people = Client(hall, "speakers"), People(hall)
    said.pieces = ["Well,", " hate"]
    try:
        first, ended = ada.ask("what did he say")
        assert ended == "refusal"
        assert people.release(first).status_code == 200
        said.pieces = ["a hack"]
        assert ada.ask("what did he say")[1] == "refusal", "another category"
        said.pieces = ["Well,", " hate", " it is"]
        second, ended = ada.ask("what did he say")
        assert ended == "end_turn" and actions(hall, second) == [("reply", "released")]
        assert ada.ask("what did he say")[1] == "refusal"
        said.pieces = ["grave"]
        third, _ = ada.ask("what did he mean")
        refused = people.release(third)
        assert refused.status_code == 400 and "severe" in refused.text
    finally:
        said.pieces = ["Hello", " there"]


def test_a_release_of_a_reply_lets_one_sample_pass(hall: Hall, said: Said) -> None:
    ada, people = Client(hall, "many"), People(hall)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "say it often"}], "n": 4}
    said.pieces = ["Well,", " hate", " it is"]
    try:
        headers = {"authorization": f"Bearer {ada.secret}"}

        def ask() -> tuple[str, list[str]]:
            answer = post(f"{hall.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
            ends = [choice["finish_reason"] for choice in answer.json()["choices"]]
            return answer.headers["request-id"], sorted(ends)

        first, ends = ask()
        assert ends == ["content_filter"] * 4
        assert people.release(first).status_code == 200
        second, ends = ask()
    finally:
        said.pieces = ["Hello", " there"]
    assert ends == ["content_filter"] * 3 + ["stop"]
    assert actions(hall, second) == [("reply", "released"), ("reply", "block")]


def test_an_exempt_organisation_is_let_through_and_it_is_written_down(hall: Hall, said: Said) -> None:
    firm, people = Client(hall, "firm"), People(hall)
    assert firm.ask("how do I hack a firm")[1] == "refusal"
    made = people.exempt("firm", HACK)
    assert made.status_code == 200, made.text
    said.pieces = ["You hack", " it so"]
    try:
        id, ended = firm.ask("how do I hack a firm")
    finally:
        said.pieces = ["Hello", " there"]
    assert ended == "end_turn" and actions(hall, id) == [("prompt", "exempted"), ("reply", "exempted")]
    assert Client(hall, "rival").ask("how do I hack a firm")[1] == "refusal"
    assert firm.ask("I hate them")[1] == "refusal", "another category"
    people.post(f"grants/{made.json()['id']}", reason="they left")
    assert firm.ask("how do I hack a firm")[1] == "refusal"


def test_nothing_hides_behind_what_is_exempt(hall: Hall, said: Said) -> None:
    firm, people = Client(hall, "hiders"), People(hall)
    people.exempt("hiders", HACK)
    id, ended = firm.ask("how do I hack those whom I hate")
    assert ended == "refusal" and actions(hall, id) == [("prompt", "exempted"), ("prompt", "block")]
    said.pieces = ["hack them", ", hate them"]
    try:
        id, ended = firm.ask("what else")
    finally:
        said.pieces = ["Hello", " there"]
    assert ended == "refusal" and actions(hall, id) == [("reply", "exempted"), ("reply", "block")]


def test_what_is_severe_is_exempted_by_its_name_alone(hall: Hall) -> None:
    firm, people = Client(hall, "grave"), People(hall)
    assert people.exempt("grave", "*").status_code == 200
    assert firm.ask("hack and hate")[1] == "end_turn"
    assert firm.ask("hack and a grave")[1] == "refusal"
    assert people.exempt("grave", GRAVE).status_code == 200
    id, ended = firm.ask("hack and a grave")
    assert ended == "end_turn" and ("prompt", "exempted") in actions(hall, id)


def test_an_exemption_from_a_disclosure(hall: Hall, said: Said) -> None:
    firm, people = Client(hall, "lawyers"), People(hall)
    id, ended = firm.ask("as a lawyer, may I?")
    assert ended == "end_turn" and said.asked[-1].prompt[0]["role"] == "system"  # type: ignore[index]
    (row,) = [row for row in hall.rows(DECISIONS) if row.request == id]
    assert row.action == "safety_prompt" and len(row.added) == 64
    people.exempt("lawyers", LAW.id)
    id, _ = firm.ask("as a lawyer, may I?")
    assert actions(hall, id) == [("prompt", "exempted")]
    assert said.asked[-1].prompt[0]["role"] == "user"  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("exemptions", {"organisation": "firm", "category": HACK, "until": "2030-01-01", "reason": "x"}),
        ("releases", {"stopped": "req_1", "reason": "x"}),
        ("grants/exempt_1", {"reason": "x"}),
    ],
)
def test_only_people_with_the_scope_let_pass(hall: Hall, path: str, body: dict[str, Any]) -> None:
    before = len(hall.rows(GRANTS))
    for scopes in (("messages",), ("messages", "batches", "feedback"), ("weights",)):
        refused = People(hall, *scopes).post(path, **body)
        assert refused.status_code == 403 and "scope admin" in refused.text
    assert post(f"{hall.url}/admin/{path}", json=body).status_code in (401, 303)
    assert len(hall.rows(GRANTS)) == before


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"until": "soon"}, 400, "until"),
        ({"until": "2001-01-01"}, 400, "must end in the future"),
        ({"until": "2999-01-01"}, 400, "within 366 days"),
        ({"category": ""}, 400, "choose one"),
        ({"category": "no_such"}, 400, "not a category of the policy"),
        ({"reason": " "}, 400, "write why"),
        ({"organisation": "nobody"}, 404, "no organisation"),
    ],
)
def test_what_is_wrong_with_an_exemption_is_said(hall: Hall, change: dict[str, Any], status: int, words: str) -> None:
    hall.key("wrong")
    until = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    asked = {"organisation": "wrong", "category": HACK, "until": until, "reason": "theirs"}
    refused = People(hall).post("exemptions", **(asked | change))
    assert refused.status_code == status and words in refused.text, refused.text


class Browser:
    """A browser that has entered the admin pages."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        answer = post(f"{hall.url}/admin/enter", data={"key": hall.key("house", ("admin",))})
        self.cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}

    def page(self, path: str) -> str:
        return get(self.hall.url + path, headers=self.cookie, timeout=30).text

    def proof(self, path: str, action: str) -> str:
        """What the form of a page carries."""
        for head, inner in re.findall(r"<form ([^>]*)>(.*?)</form>", self.page(path), re.DOTALL):
            if f'action="{action}"' in head:
                return re.findall(r'name="csrf" value="([^"]*)"', inner)[0]
        raise AssertionError(f"{path} has no form {action}")

    def send(self, action: str, **fields: Any) -> httpx.Response:
        site = fields.pop("site", "same-origin")
        headers = {**self.cookie, "sec-fetch-site": site}
        return post(self.hall.url + action, data=fields, headers=headers, timeout=30)


def test_the_forms_of_the_pages_and_forged_ones(hall: Hall) -> None:
    ada, browser, other = Client(hall, "pages"), Browser(hall), Browser(hall)
    id, _ = ada.ask("how do I hack a page")
    cases = get(f"{hall.url}/admin/queue?organisation=pages&format=json", headers=browser.cookie).json()["cases"]
    place = f"/admin/queue/{cases[0]['id']}"
    fields = {"stopped": cases[0]["id"], "reason": "a <b>play</b>", "hours": "5"}
    proof = browser.proof(place, "/admin/releases")
    assert browser.send("/admin/releases", **fields).status_code == 403, "no proof"
    assert browser.send("/admin/releases", **fields, csrf="0.x.y").status_code == 403
    assert other.send("/admin/releases", **fields, csrf=proof).status_code == 403, "another's proof"
    assert browser.send("/admin/releases", **fields, csrf=proof, site="cross-site").status_code == 403
    assert browser.send("/admin/releases", **fields, csrf=proof).status_code == 303
    assert browser.send("/admin/releases", **fields, csrf=proof).status_code == 409, "sent already"
    page = browser.page(place)
    assert "a &lt;b&gt;play" in page and "<b>play" not in page and "in force" in page
    standing = f"/admin/standings/{ada.owner}"
    proof = browser.proof(standing, "/admin/exemptions")
    until = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    asked = {"organisation": ada.owner, "category": HACK, "until": until, "reason": "theirs"}
    assert browser.send("/admin/exemptions", **asked).status_code == 403
    assert browser.send("/admin/exemptions", **asked, csrf=proof).status_code == 303
    assert re.findall(rf'<option value="{GRAVE}">[^<]*severe', browser.page(standing)), "told apart"
    grants = [row for row in hall.rows(GRANTS) if row.organisation == ada.owner]
    assert {row.kind for row in grants} == {"release", "exemption"}
    for row in grants:
        action = f"/admin/grants/{row.id}"
        proof = browser.proof(standing, action)
        assert browser.send(action, reason="enough").status_code == 403
        assert browser.send(action, reason="enough", csrf=proof).status_code == 303
    assert browser.page(standing).count("Revoked by test") == 2
    assert ada.ask("how do I hack a page")[1] == "refusal"
    page = browser.page(f"/admin/requests/{id}")
    assert "release" in page and "revoke" in page and "not checked" not in page


def test_the_pages_show_severities_and_end_users(hall: Hall) -> None:
    ada, browser = Client(hall, "order"), Browser(hall)
    for n, word in enumerate(("hack", "grave", "hate")):
        ada.ask(f"{word} {n}", metadata={"user_id": "eve"})
    place = "/admin/queue?organisation=order"
    rows = get(f"{hall.url}{place}&format=json", headers=browser.cookie).json()["cases"]
    assert rows[0]["severity"] == "severe" and rows[0]["category"] == GRAVE
    only = get(f"{hall.url}{place}&severity=severe&format=json", headers=browser.cookie).json()["cases"]
    assert [row["id"] for row in only] == [rows[0]["id"]]
    assert get(f"{hall.url}{place}&severity=odd", headers=browser.cookie).status_code == 400
    assert '<th scope="col">Severity</th>' in browser.page(place)
    standing = f"/admin/standings/{ada.owner}"
    by_name = get(f"{hall.url}{standing}?user_id=eve&format=json", headers=browser.cookie).json()
    assert by_name["user"] == rows[0]["user"] and by_name["level"] != "good"
    assert rows[0]["user"] in browser.page(standing)
    mark = by_name["user"]
    proof = browser.proof(f"{standing}?user={mark}", standing)
    set_to = {"user": mark, "level": "suspended", "reason": "sold it", "seen": by_name["seen"]}
    done = browser.send(standing, **set_to, csrf=proof)
    assert done.status_code == 303 and done.headers["location"] == f"{standing}?user={mark}"
    assert hall.service.conduct.standing(ada.owner).level == "good"
    assert get(f"{hall.url}{standing}?user=eve", headers=browser.cookie).status_code == 400
    found = get(f"{hall.url}/admin/decisions?user={mark}&format=json", headers=browser.cookie).json()
    assert len(found["decisions"]) == 3
