"""The sandbox of a machine: it tries each way, takes the first that contains, and says in one line if none does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox import preflight
from charter.ground.sandbox.container import Way


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    preflight.sandbox.cache_clear()
    preflight.trouble.cache_clear()


def test_the_probe_notices_a_host(tmp_path: Path) -> None:
    probe = [sys.executable, "-c", preflight._PROBE]
    done = subprocess.run(probe, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0 and "of the host" in done.stderr


def test_without_bubblewrap_it_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.trouble.cache_clear()
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert preflight.trouble(Way.BUBBLEWRAP) == "bwrap is not installed"


def test_elsewhere_than_on_linux_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.trouble.cache_clear()
    preflight.sandbox.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(CharterError, match="bubblewrap: it needs Linux; namespaces: it needs Linux"):
        preflight.sandbox()


@pytest.mark.parametrize("ways", [[Way.BUBBLEWRAP], [Way.NAMESPACES], list(Way)])
def test_the_first_way_that_contains_is_taken(ways: list[Way], monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.sandbox.cache_clear()
    monkeypatch.setattr(preflight, "trouble", lambda way: "" if way in ways else "broken")
    assert preflight.sandbox().way is ways[0]


def test_with_none_the_refusal_says_what_failed_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.sandbox.cache_clear()
    monkeypatch.setattr(preflight, "trouble", lambda way: f"no {way}")
    with pytest.raises(CharterError) as caught:
        preflight.sandbox()
    text = str(caught.value)
    assert "refuses to run" in text and "no bubblewrap" in text and "no namespaces" in text
    assert "install bubblewrap, or allow user namespaces" in text and "\n" not in text
