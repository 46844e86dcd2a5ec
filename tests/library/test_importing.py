"""`import charter`: what it loads, what it offers, and that its version has one source."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import charter
from charter.cli.main import execute

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
HEAVY = {"torch", "numpy", "pydantic", "yaml", "typer", "rich", "tokenizers", "pandas", "matplotlib"}


def loaded_by(code: str) -> set[str]:
    """The modules that a new process has loaded after some code, without what Python starts with."""
    script = (
        f"import json, sys\nbefore = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(process.stdout.splitlines()[-1]))


def test_importing_loads_nothing_heavy() -> None:
    modules = loaded_by("import charter")
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("charter")} == {"charter"}


def test_reading_a_run_and_planning_leave_torch_unloaded(here: Path) -> None:
    code = (
        "import charter\n"
        "charter.open('runs/small').metrics()\n"
        "charter.plan({'name': 'one', 'steps': [{'name': 'a', 'room': 'prompts', 'from': {'unsafe': 'asked.jsonl'}}]})"
    )
    assert "torch" not in loaded_by(code)


def test_every_public_name_is_there_and_described() -> None:
    assert set(charter.__all__) <= set(dir(charter))
    for name in set(charter.__all__) - {"__version__"}:
        assert getattr(charter, name).__doc__, name
    with pytest.raises(AttributeError, match=r"has no attribute 'lod'; it has .*load"):
        charter.lod  # type: ignore[attr-defined]


def test_the_version_has_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    declared = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["version"]
    assert charter.__version__ == declared, "install the package again: its metadata is older than pyproject.toml"
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out == f"charter {declared}\n"
