"""The day that the configuration gives is the day that lists say a model was made, in both shapes; without one it is that
of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, OTHER, Hall, configuration, open_hall

ANTHROPIC = {"anthropic-version": "2023-06-01"}


def made(hall: Hall, model: str) -> tuple[Any, Any]:
    """When Anthropic's shape says that a model was made, and when OpenAI's does: in the list and on its own."""
    key, found = hall.key(), []
    for headers, name in (({"x-api-key": key, **ANTHROPIC}, "created_at"), ({}, "created")):
        with httpx.Client(base_url=hall.url, headers=headers or {"authorization": f"Bearer {key}"}) as web:
            listed = {one["id"]: one[name] for one in web.get("/v1/models").json()["data"]}
            assert web.get(f"/v1/models/{model}").json()[name] == listed[model]
            found.append(listed[model])
    return found[0], found[1]


def test_models_here_and_behind_say_when_they_were_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [{"id": MODEL, "source": "policy", "released": "2024-11-02"}, {"id": OTHER, "source": "other"}]
    (tmp_path / "front").mkdir()
    with open_hall(tmp_path, configuration(models=here)) as hall:
        assert made(hall, MODEL) == ("2024-11-02T00:00:00Z", 1730505600)
        assert made(hall, OTHER)[1] == int((tmp_path / "other" / "config.json").stat().st_mtime)
        monkeypatch.setenv("OPENAI_API_KEY", hall.key())
        front = {"id": "front", "source": MODEL, "backend": hall.url, "released": "2023-07-11"}
        with open_hall(tmp_path / "front", configuration(models=[front])) as before:
            assert made(before, "front") == ("2023-07-11T00:00:00Z", 1689033600)
