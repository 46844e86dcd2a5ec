"""The audit of dependencies: what is found fails, a registry that says nothing fails nothing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(*packages: dict[str, object]) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


CLEAN = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}
FOUND = {"name": "hurt", "version": "2.0", "vulns": [{"id": "X-1", "fix_versions": ["2.1"]}]}


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (said(CLEAN, UNKNOWN), 0, "0 known vulnerabilities in 1 packages, 1 not asked about"),
        (said(CLEAN, FOUND), 1, "hurt 2.0: X-1, mended in 2.1"),
        (said(UNKNOWN), 0, "audit skipped"),
        (None, 0, "audit skipped"),
    ],
)
def test_found_vulnerabilities_fail_and_silence_does_not(
    audit: ModuleType, answer: str | None, status: int, words: str
) -> None:
    found, lines = audit.judged(answer)
    assert found == status
    assert words in "\n".join(lines) and all(len(line) < 200 for line in lines)
