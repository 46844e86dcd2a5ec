"""Pages of other origins: none may call, unless the configuration names their origin, and none the admin page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from lobby import MODEL, Hall, configuration, open_hall

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import validate
from charter_service.api.config import Config

PAGE, OTHER = "https://page.example", "https://other.example"
DIRECT = {"anthropic-dangerous-direct-browser-access": "true"}
BODY = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
ASKED = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key,content-type"}


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), configuration(cors=[PAGE])) as hall:
        yield hall


def call(hall: Hall, method: str = "POST", path: str = "/v1/messages", **headers: str) -> httpx2.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    known = {"x-api-key": hall.key(scopes=("messages", "admin")), "anthropic-version": "2023-06-01", **given}
    body = BODY if method == "POST" and path == "/v1/messages" else None
    return httpx2.request(method, hall.url + path, headers=known, json=body, timeout=60)


def opened(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_a_page_of_a_named_origin_may_ask_and_call(hall: Hall) -> None:
    asked = httpx2.options(f"{hall.url}/v1/messages", headers={"origin": PAGE, **ASKED})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert {"x-api-key", "content-type"} <= set(asked.headers["access-control-allow-headers"].split(","))
    answer = call(hall, origin=PAGE, **DIRECT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "request-id" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    for one in (asked, answer):
        assert "access-control-allow-credentials" not in one.headers


def test_a_refusal_can_be_read_too(hall: Hall) -> None:
    answer = call(hall, origin=PAGE, x_api_key="wrong", **DIRECT)
    assert answer.status_code == 401
    assert opened(answer)["access-control-allow-origin"] == PAGE


def test_a_page_has_to_say_that_it_calls_directly(hall: Hall) -> None:
    answer = call(hall, origin=PAGE)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error["type"] == "authentication_error"
    assert error["message"].startswith("CORS requests must set 'anthropic-dangerous-direct-browser-access' header")
    assert opened(answer)["access-control-allow-origin"] == PAGE
    openai = {"authorization": f"Bearer {hall.key()}", "origin": PAGE}
    assert httpx2.get(f"{hall.url}/v1/models", headers=openai).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [OTHER, "null", "*", f"{PAGE}.evil.example", f"{PAGE}:8443", "http://page.example", f"{PAGE}/", "https://PAGE.example"],
)  # fmt: skip
def test_no_other_origin_is_answered(hall: Hall, origin: str) -> None:
    asked = httpx2.options(f"{hall.url}/v1/messages", headers={"origin": origin, **ASKED})
    assert asked.status_code == 405
    assert not opened(asked)
    assert not opened(call(hall, origin=origin, **DIRECT))


@pytest.mark.parametrize("path", ["/admin", "/admin/keys", "/", "/docs", "/report", "/metrics", "/openapi.json"])
def test_no_page_of_this_server_is_opened(hall: Hall, path: str) -> None:
    assert not opened(call(hall, "GET", path, origin=PAGE, **DIRECT))
    asked = httpx2.options(hall.url + path, headers={"origin": PAGE, **ASKED})
    assert asked.status_code == 405
    assert not opened(asked)


@pytest.mark.parametrize("path", ["/v1/../admin/keys", "//admin/keys", "/v1/%2e%2e/admin/keys"])
def test_no_detour_leads_to_the_admin_page(hall: Hall, path: str) -> None:
    assert call(hall, "GET", path, origin=PAGE, **DIRECT).status_code in (404, 405) or not opened(
        call(hall, "GET", path, origin=PAGE, **DIRECT)
    )


def test_without_a_configuration_nothing_is_opened(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        assert httpx2.options(f"{hall.url}/v1/messages", headers={"origin": PAGE, **ASKED}).status_code == 405
        answer = call(hall, origin=PAGE)
        assert answer.status_code == 200
        assert not opened(answer)


@pytest.mark.parametrize(
    "origin", ["*", "null", "page.example", f"{PAGE}/", f"{PAGE}/a", "ftp://a", "https://A.example", ""]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    facts = {"models": [{"id": "a", "source": "b"}], "cors": [origin]}
    with pytest.raises(CharterError, match="is not an origin"):
        validate(Config, facts, "a file")


def test_origins_need_keys() -> None:
    facts = {"models": [{"id": "a", "source": "b"}], "cors": [PAGE, "http://[::1]:8080"], "authenticate": False}
    with pytest.raises(CharterError, match="cors needs keys"):
        validate(Config, facts, "a file")
