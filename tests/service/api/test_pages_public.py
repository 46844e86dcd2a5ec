"""The pages for whoever uses the API, the reference, and what operators' programs ask."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from lobby import ALIAS, MODEL, OTHER, Hall, Said, configuration, open_hall, watching
from markupsafe import escape

from charter.ground.moderation.limits import LIMITS, SHORT
from charter_service.accounts.keys import USUAL
from charter_service.accounts.tables import CASES
from charter_service.web.guard import POLICY

VERSION = {"anthropic-version": "2023-06-01"}

# a context of its own would be made for each request
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(
        policy={"state": "on"},
        contact="safety@example.org",
        models=[
            {"id": MODEL, "source": "policy", "aliases": [ALIAS], "title": "Toy <2>", "cutoff": "2023-01-31"},
            {"id": OTHER, "source": "other", "retires": "2020-01-01", "successor": MODEL},
        ],
    )
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching("poison")) as found:
        yield found


@pytest.fixture(scope="module")
def document(hall: Hall) -> dict[str, Any]:
    found: dict[str, Any] = get(f"{hall.url}/openapi.json").json()
    return found


def test_the_index_page_says_what_is_served_and_what_it_cannot_do(hall: Hall) -> None:
    page = get(hall.url).text
    assert "Toy &lt;2&gt;" in page and "Toy <2>" not in page
    for words in (MODEL, ALIAS, "retired", f"curl {hall.url}/v1/messages", "/v1/complete", "charter-aup"):
        assert words in page
    for limit in LIMITS:
        assert limit.title in page.replace("&#39;", "'")
    assert "texts up to 2023-01-31" in page and "the end date of its texts is unknown" in page
    assert "safety@example.org" in page


def test_a_title_that_is_the_id_is_not_said_twice(hall: Hall) -> None:
    models = get(hall.url).text.split('<section aria-labelledby="call">')[0]
    assert f"<h3>{OTHER} " in models and f"<code>{OTHER}</code>" not in models
    assert f"<code>{MODEL}</code>, <code>{ALIAS}</code>" in models


def test_a_wrong_page_leads_back_and_a_wrong_route_is_json(hall: Hall) -> None:
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for place in ("/nothere", "/v1/nothere"):
        page = get(hall.url + place, headers=browser)
        assert page.status_code == 404 and page.headers["content-type"].startswith("text/html")
        assert "<h1>Nothing here</h1>" in page.text and '<p><a href="/">' in page.text
        for headers in ({}, {**browser, "x-api-key": "sk-charter-none"}):
            assert get(hall.url + place, headers=headers).json()["type"] == "error"


def test_a_model_of_a_run_shows_its_steps(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ({"step": "sl_cai", "room": "finetune", "id": "a" * 64}, {"step": "rl", "room": "rl", "id": "b" * 64})
    first, *others = hall.service.registry.served
    monkeypatch.setattr(hall.service.registry, "served", (replace(first, made_from=steps), *others))
    page = get(hall.url).text
    lineage = page[page.index('<ol class="lineage"') :]
    assert lineage.index("sl_cai") < lineage.index("<b>rl</b>") < lineage.index("</ol>")


def test_pages_are_strict_and_kept_by_nobody(hall: Hall) -> None:
    for place in ("/", "/docs", "/report", "/admin/enter", "/nothing", "/v1/models"):
        headers = get(hall.url + place).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["cache-control"] == "no-store" and headers["x-frame-options"] == "DENY"
    for place in ("/static/serve.css", "/static/shell.css", "/static/shell.js", "/static/icon.svg"):
        answer = get(hall.url + place)
        assert answer.status_code == 200 and answer.headers["cache-control"] == "max-age=31536000, immutable"
    for place in ("/static/app.py", "/static/..%2Fapp.py", "/static/index.html.jinja"):
        assert get(hall.url + place).status_code == 404


def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(hall: Hall) -> None:
    for place in ("/", "/docs", "/report", "/admin/enter"):
        page = get(hall.url + place).text
        assert "<style" not in page and " style=" not in page and not re.search(r"\son\w+=", page)
        loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
        assert loaded and all(one.startswith(("/", "#")) and not one.startswith("//") for one in loaded)
        assert page.count("<script src=") == page.count("<script") == 1


def test_limits_for_programs(hall: Hall) -> None:
    found = get(f"{hall.url}/v1/limits").json()
    assert [one["id"] for one in found["limits"]] == [limit.id for limit in LIMITS]
    assert found["models"] == [
        {"model": MODEL, "knowledge_cutoff": "2023-01-31"},
        {"model": OTHER, "knowledge_cutoff": None},
    ]


def test_a_server_without_policy_and_keys_says_so(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(authenticate=False), said=Said("hi")) as open_one:
        page = get(open_one.url).text
        assert "the policy is off here" in page and "none needed" in page and "x-api-key: $" not in page
        form = get(f"{open_one.url}/report").text
        assert 'name="key"' not in form
        assert get(f"{open_one.url}/admin/keys?format=json").status_code == 401
        assert get(f"{open_one.url}/admin/keys").headers["location"] == "/admin/enter"


def test_health_and_readiness(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(f"{hall.url}/health").json() == {"status": "ok"}
    assert get(f"{hall.url}/ready").json() == {"status": "ok"}
    monkeypatch.setattr(hall.service.registry, "served", ())
    answer = get(f"{hall.url}/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "no model"})
    assert get(f"{hall.url}/health").status_code == 200


def test_metrics_are_for_this_machine_or_an_admin(hall: Hall) -> None:
    answer = get(f"{hall.url}/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    assert f'charter_engine{{model="{MODEL}",what="slots"}} 8.0' in answer.text
    for headers in ({"x-forwarded-for": "1.2.3.4"}, {"host": "elsewhere.example"}, {"via": "1.1 proxy"}):
        assert get(f"{hall.url}/metrics", headers=headers).status_code == 401
        low = {**headers, "x-api-key": hall.key()}
        assert get(f"{hall.url}/metrics", headers=low).status_code == 403
        high = {**headers, "x-api-key": hall.key(scopes=("admin",))}
        assert get(f"{hall.url}/metrics", headers=high).status_code == 200


def test_the_reference_names_every_route_and_shape(hall: Hall, document: dict[str, Any]) -> None:
    page = get(f"{hall.url}/docs").text
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b> {path}<" in page
    places = sorted(set(re.findall(r'href="(/docs/[^"#]+)"', page)))
    pages = {place: get(hall.url + place).text for place in places}
    assert len(pages) == len(document["tags"])
    names = set(document["components"]["schemas"])
    assert all(any(f'id="shape-{name}"' in one for one in pages.values()) for name in names)
    for one in pages.values():
        assert set(re.findall(r'href="#([^"]+)"', one)) <= set(re.findall(r'id="([^"]+)"', one))
    for place, target in re.findall(r'href="(/docs/[^"#]+)#([^"]+)"', page):
        assert f'id="{target}"' in pages[place]
    assert SHORT in page and 'href="/#limits"' in page
    assert all(str(escape(limit.title)) in page for limit in LIMITS)
    assert "anthropic-version: 2023-06-01" in pages["/docs/messages"]
    assert get(f"{hall.url}/docs/nothing").status_code == 404


def test_all_that_a_request_may_say_is_explained(document: dict[str, Any]) -> None:
    shapes = document["components"]["schemas"]
    assert not [name for name in shapes if "__" in name], "two shapes of one name"
    for path, methods in document["paths"].items():
        for one in methods.values():
            assert all(parameter["description"] for parameter in one.get("parameters", [])), path
            if "requestBody" in one:
                (content,) = one["requestBody"]["content"].values()
                body = content["schema"]["$ref"].rpartition("/")[2]
                assert [
                    name for name, field in shapes[body]["properties"].items() if not field.get("description")
                ] == []


def test_the_document_says_who_may_and_what_may_go_wrong(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"key", "bearer"}
    assert "confabul" in document["info"]["description"] or "makes things up" in document["info"]["description"]
    assert not any(path.startswith(("/admin", "/docs", "/report", "/static")) for path in document["paths"])
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            answers = one["responses"]
            assert {"200", "400", "404", "429", "500"} <= set(answers), path
            assert ("401" in answers) == (one.get("security") != [])
            assert one["tags"] and one["summary"] and one["description"]
            assert ("requestBody" in one) <= (method == "post")
            content = answers["200"]["content"]
            assert all(found.get("schema") for found in content.values()), path
    streamed = document["paths"]["/v1/messages"]["post"]["responses"]["200"]["content"]
    assert "text/event-stream" in streamed
    jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"]["MessageAnswer"])


def test_answers_are_what_the_document_says(hall: Hall, document: dict[str, Any]) -> None:
    """Every route that answers JSON is called, and both its answer and an error are held against their schemas."""
    key = hall.key(scopes=(*USUAL, "weights"))
    client = httpx.Client(base_url=hall.url, headers={"x-api-key": key, **VERSION}, timeout=60)
    with client:
        _call_all(hall, document, client)
    bearer = {"authorization": f"Bearer {key}"}
    for path in ("/v1/models", f"/v1/models/{MODEL}"):
        found = get(hall.url + path, headers=bearer)
        held(document, path.replace(MODEL, "{model}"), "get", found)
        assert found.json()["object"] in ("list", "model")


def _call_all(hall: Hall, document: dict[str, Any], client: httpx.Client) -> None:
    turn = [{"role": "user", "content": "hello"}]
    message = {"model": MODEL, "max_tokens": 3, "messages": turn}
    bodies: dict[str, Any] = {
        "/v1/messages": message,
        "/v1/messages/count_tokens": {"model": MODEL, "messages": turn},
        "/v1/messages/batches": {"requests": [{"custom_id": "a", "params": message}]},
        "/v1/complete": {"model": MODEL, "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 3},
        "/v1/chat/completions": {**message, "logprobs": True, "top_logprobs": 2},
        "/v1/completions": {"model": MODEL, "prompt": "hi", "max_tokens": 3, "logprobs": 2},
        "/tokenize": {"prompt": "hello"},
        "/detokenize": {"tokens": [5, 6]},
    }
    for path, body in bodies.items():
        answer = client.post(path, json=body)
        held(document, path, "post", answer)
        held(document, path, "post", client.post(path, json={"model": MODEL, "nonsense": True}))
        held(document, path, "post", post(hall.url + path, json=body, headers=VERSION))
        if path == "/v1/messages":
            request_id = answer.headers["request-id"]
        if path == "/v1/messages/batches":
            batch = answer.json()["id"]
    held(document, "/v1/feedback", "post", client.post("/v1/feedback", json={"request_id": request_id, "thumb": "up"}))
    held(document, "/v1/appeals", "post", client.post("/v1/appeals", json={"words": "Please."}))
    uploaded = client.post("/v1/files", files={"file": ("a.txt", b"A text.", "text/plain")})
    held(document, "/v1/files", "post", uploaded)
    held(document, "/v1/files", "post", client.post("/v1/files", json={}))
    file = uploaded.json()["id"]
    parts = {"{model}": MODEL, "{batch}": batch, "{request}": request_id, "{file}": file}
    for path, methods in document["paths"].items():
        if "get" in methods and "{batch}/results" not in path and path != "/metrics":
            place = path
            for name, value in parts.items():
                place = place.replace(name, value)
            answer = client.get(place)
            # this server's models take no new weights; uploaded files can't be downloaded
            refused = {"/weight_info": 403, "/v1/files/{file}/content": 400}
            assert answer.status_code == refused.get(path, 200), (place, answer.text)
            held(document, path, "get", answer)
    held(document, "/v1/files/{file}", "delete", client.delete(f"/v1/files/{file}"))
    held(document, "/v1/files/{file}", "delete", client.delete(f"/v1/files/{file}"))
    cancel = "/v1/messages/batches/{batch}/cancel"
    held(document, cancel, "post", client.post(cancel.replace("{batch}", "msgbatch_none")))


def held(document: dict[str, Any], path: str, method: str, answer: httpx.Response) -> None:
    """The answer has a status, a type and a shape that the document names."""
    responses = document["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses, (path, answer.status_code, answer.text)
    media = answer.headers["content-type"].partition(";")[0]
    schema = {**responses[str(answer.status_code)]["content"][media]["schema"], "components": document["components"]}
    jsonschema.validate(json.loads(answer.text), schema)


def send(hall: Hall, **fields: str) -> httpx.Response:
    return post(f"{hall.url}/report", data=fields)


def test_a_person_reports_looks_up_and_appeals(hall: Hall) -> None:
    key = hall.key("reporters")
    message = {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": "poison"}]}
    asked = post(f"{hall.url}/v1/messages", json=message, headers={"x-api-key": key, **VERSION})
    id = asked.headers["request-id"]
    looked = send(hall, key=key, request=id, do="look").text
    assert "block" in looked and id in looked and key not in looked
    kept = send(hall, key=key, request=id, thumb="down", words="It was <b>fine</b>.", do="report").text
    assert "A person will look at it" in kept
    (case,) = [row for row in hall.rows(CASES) if row.kind == "report" and row.request == id]
    assert case.words == "It was <b>fine</b>."
    assert "good standing" in send(hall, key=key, appeal="Why?", do="appeal").text
    wrong = send(hall, key="sk-charter-nonsense", request=id, words="It was <b>fine</b>.", do="report")
    assert wrong.status_code == 401 and "&lt;b&gt;fine" in wrong.text and "sk-charter-nonsense" not in wrong.text
    assert send(hall, key=hall.key("others"), request=id, do="look").status_code == 404
    site = {"sec-fetch-site": "cross-site"}
    assert post(f"{hall.url}/report", data={"key": key}, headers=site).status_code == 403
    assert send(hall, key=key, do="report").status_code == 400
    answers = [send(hall, key="x", do="look").status_code for _ in range(12)]
    assert answers[-1] == 429 and 401 in answers
