"""The examples of the index page and of the documents do what they say, as they are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lobby import MODEL, Hall, open_hall

from charter_service.api.snippets import Snippet, snippets

SECRET = "sk-charter-…"  # what stands for a key in them
ROOT = Path(__file__).parents[3]
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EARLY = "2023-sdk"  # a client of 2023, which this environment doesn't have under its name


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as found:
        yield found


def shown(hall: Hall, sdks: bool) -> list[Snippet]:
    return [one for one in snippets(hall.url, MODEL, True) if ("import" in one.text) == sdks]


def test_every_example_is_greedy(hall: Hall) -> None:
    """A small model at temperature 1 gives nonsense, which is no good first answer."""
    texts = [one.text.replace('"', "").replace(": ", "=") for one in snippets(hall.url, MODEL, True)]
    assert len(texts) == 5 and all("temperature=0" in text for text in texts)


def test_examples_for_a_shell_run(hall: Hall) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    examples = shown(hall, sdks=False)
    assert examples
    for one in examples:
        assert '"stop_reason"' in ran(["sh", "-c", one.text.replace("curl", "curl -s", 1)], hall.key())


def test_examples_with_sdks_run(hall: Hall, tmp_path: Path) -> None:
    pytest.importorskip("anthropic")
    pytest.importorskip("openai")
    examples = [one for one in shown(hall, sdks=True) if one.id != EARLY]
    assert len(examples) == 2
    for one in examples:
        text = one.text.replace(SECRET, hall.key())
        assert text != one.text
        (tmp_path / "example.py").write_text(text, encoding="utf-8")
        assert ran([sys.executable, str(tmp_path / "example.py")], hall.key()).strip()


def written(hall: Hall, document: str, language: str) -> list[str]:
    """Examples of a document that call a server, with this one's address and model in them."""
    found = [text for kind, text in FENCE.findall((ROOT / document).read_text(encoding="utf-8")) if kind == language]
    calls = [
        text[text.find("curl") :] if language == "sh" else text
        for text in found
        if "127.0.0.1:8000/" in text or language == "python"
    ]
    return [text.replace("http://127.0.0.1:8000", hall.url).replace("smollm2", MODEL) for text in calls]


@pytest.mark.parametrize(
    "document", ["README.md", "docs/tutorials/serve.md", "docs/reference/http.md", "docs/howto/structured.md"]
)
def test_calls_in_the_documents_are_answered(hall: Hall, document: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    calls = [text for text in written(hall, document, "sh") if text.startswith("curl")]
    assert calls
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4\n")
    for text in calls:
        told = json.loads(ran(["sh", "-c", text.replace("curl", "curl -s", 1)], hall.key(), tmp_path))
        assert told["type"] == "file" if "/v1/files" in text else told["stop_reason"]


def test_the_sdks_in_the_documents_are_answered(hall: Hall) -> None:
    pytest.importorskip("anthropic")
    pytest.importorskip("openai")
    (text,) = written(hall, "docs/tutorials/serve.md", "python")
    assert len(ran([sys.executable, "-c", text], hall.key()).splitlines()) >= 2


def ran(command: list[str], key: str, folder: Path | None = None) -> str:
    """What a command prints; the key is where examples expect it."""
    found = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "CHARTER_API_KEY": key, "KEY": key},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout
