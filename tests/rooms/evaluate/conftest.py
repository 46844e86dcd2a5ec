"""Tests of the battery fetch nothing."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.tokenizers import tokenizer_spm


@pytest.fixture(autouse=True)
def no_fetching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Makes every fetch of a tokenizer's model fail, and looks for stored ones in an empty folder."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path / "sacrebleu"))
