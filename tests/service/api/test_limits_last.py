"""Limits as callers meet them: shared by an organisation's keys, and as they were after a restart."""

from __future__ import annotations

from pathlib import Path

import httpx2
from lobby import MODEL, Hall, Said, configuration, open_hall

BODY = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
CONFIG = configuration(limits={"requests_per_minute": 3})


def call(hall: Hall, key: str) -> httpx2.Response:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return httpx2.post(f"{hall.url}/v1/messages", headers=headers, json=BODY, timeout=60)


def stand_still(hall: Hall) -> None:
    """Stops the clock of the limits, so that a slow machine refills nothing."""
    now = hall.service.admissions.now()
    hall.service.admissions._clock = lambda: now


def test_a_second_key_brings_nothing_and_another_organisation_its_own(tmp_path: Path) -> None:
    with open_hall(tmp_path, CONFIG, said=Said("Yes.")) as hall:
        stand_still(hall)
        keys = [hall.key(), hall.key(), hall.key()]
        assert [call(hall, key).status_code for key in (*keys, keys[0])] == [200, 200, 200, 429]
        refused = call(hall, hall.key())
        assert refused.json()["error"]["message"].startswith(
            "this request would exceed the limit of 3 requests a minute of this organisation"
        )
        assert call(hall, hall.key("another")).status_code == 200


def test_a_key_with_a_larger_limit_raises_that_of_its_organisation(tmp_path: Path) -> None:
    with open_hall(tmp_path, CONFIG, said=Said("Yes.")) as hall:
        stand_still(hall)
        usual, large = hall.key(), hall.key(limits={"requests_per_minute": 5})
        assert [call(hall, usual).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert [call(hall, large).status_code for _ in range(3)] == [200, 200, 429]


def test_a_restart_fills_no_limit(tmp_path: Path) -> None:
    with open_hall(tmp_path, CONFIG, said=Said("Yes.")) as hall:
        stand_still(hall)
        key = hall.key()
        assert [call(hall, key).status_code for _ in range(3)] == [200, 200, 200]
        before = hall.service.admissions.now()
    with open_hall(tmp_path, CONFIG, said=Said("Yes.")) as hall:
        hall.service.admissions._clock = lambda: before
        refused = call(hall, key)
        assert refused.status_code == 429
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
