"""The help of every command: found by what a person wants, whole at 80 columns, with examples that can be typed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import split
from typing import Any

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from charter.cli.listing import PANELS
from charter.cli.main import make_app
from charter.terminal.entries import Entry, Family

Charter = Callable[..., tuple[int, str, str]]
DOCS = Path(__file__).parents[2] / "docs"
HEAVY = {"torch", "tokenizers", "numpy", "scipy", "pyarrow", "sqlalchemy", "starlette"}


def entries() -> Iterator[tuple[str, Entry]]:
    """Every command with the words that call it."""
    for members in PANELS.values():
        for name, member in members.items():
            if isinstance(member, Family):
                yield from ((f"{name} {inner}", entry) for inner, entry in member.commands.items())
            else:
                yield name, member


ENTRIES = dict(entries())


@pytest.fixture(scope="module")
def root() -> Any:
    return typer.main.get_command(make_app())


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def find_command(root: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and the words behind its name."""
    while isinstance(root, TyperGroup):
        two = " ".join(words[:2])  # chat serve
        size = 2 if two in root.commands else 1
        root, words = root.commands[" ".join(words[:size])], words[size:]
    return root, words


def test_commands_stand_in_panels_by_what_a_person_wants(charter: Charter) -> None:
    out = charter("--help")[1]
    places = [out.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    for place, end, members in zip(places, [*places[1:], len(out)], PANELS.values(), strict=True):
        panel = out[place:end]
        rows = [panel.index(f"│ {name} ") for name in members]
        assert rows == sorted(rows), "in the order of the listing, groups among commands"


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("words", ENTRIES)
def test_help_is_whole_at_80_columns(charter: Charter, root: Any, words: str) -> None:
    code, out, err = charter(*words.split(), "-h")
    assert (code, err) == (0, "") and "<bool>" not in out
    command, _ = find_command(root, words.split())
    for param in command.params:
        if isinstance(param, TyperOption):
            assert all(name in out for name in (*param.opts, *param.secondary_opts)), "a name is cut"
    assert "Example" in out and "Page of the documentation: " in out
    assert "…" not in out


@pytest.mark.parametrize("words", ENTRIES)
def test_examples_can_be_typed_and_pages_exist(root: Any, words: str) -> None:
    entry = ENTRIES[words]
    assert entry.examples and list(DOCS.rglob(f"{entry.page}.md"))
    for example in entry.examples:
        assert example.startswith(words)
        command, rest = find_command(root, split(example))
        with command.make_context(words, list(rest)):
            pass


def test_the_page_of_commands_has_their_examples() -> None:
    (page,) = DOCS.rglob("commands.md")
    rows = page.read_text("utf-8")
    for words, entry in ENTRIES.items():
        row = next(line for line in rows.splitlines() if line.startswith(f"| `charter {words}` |"))
        assert any(f"`charter {example}`" in row for example in entry.examples), words


def test_help_and_version_are_commands_too(charter: Charter) -> None:
    assert charter("help", "card", "verify") == charter("card", "verify", "--help")
    assert charter("help") == charter("-h") == charter("--help")
    assert charter("version") == charter("--version")
    code, _, err = charter("help", "chatt")
    assert code == 2 and "Did you mean 'chat'?" in err


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, charter.cli.main as m; m.execute(['--help']); print({HEAVY!r} & sys.modules.keys(), file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "set()\n")
