"""What a plain install leaves out: the lists agree, and the lab stands without it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from charter.building import ROOMS
from charter.ground.settings import extras
from charter.ground.settings.extras import EXTRAS, extra_of, install, missing, need

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
# Packages that others of ours bring as a part of themselves.
BROUGHT = {
    "anyio": "inspect-ai",
    "httpcore2": "httpx2",
    "idna": "httpx2",
    "markupsafe": "jinja2",
    "pydantic-core": "pydantic",
    "referencing": "jsonschema",
    "tqdm": "lm-eval",
}
# Files that look for a library and do without it.
OPTIONAL = {"charter/ground/text/columns.py", "charter/library/rows.py"}
# What libraries of the base bring too.
IN_BASE_TOO = {"lxml", "pygments"}


def normal(package: str) -> str:
    """The name of a package as registries compare names, without extras and versions."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", package)[0]).lower()


@cache
def project() -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def packages_of(extra: str) -> set[str]:
    tables = project()["optional-dependencies"]
    assert isinstance(tables, dict)
    return {normal(package) for package in tables[extra]} - {"charter"}  # an extra may bring another


def base() -> set[str]:
    packages = project()["dependencies"]
    assert isinstance(packages, list)
    return {normal(package) for package in packages}


@cache
def owners() -> dict[str, set[str]]:
    """Top module -> the installed packages that have it."""
    found = importlib.metadata.packages_distributions()
    return {module: {normal(name) for name in names} for module, names in found.items()}


def foreign(path: Path) -> Iterator[str]:
    """Top modules of other people's packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        else:
            continue
        tops = {name.partition(".")[0] for name in names}
        yield from tops - sys.stdlib_module_names - {"charter", "charter_service"}


def allowed(path: Path) -> set[str]:
    """The extras that a file may use."""
    package, first, second, *_ = (*path.relative_to(SRC).parts, "", "")
    if package == "charter_service":
        return {"serve", "documents", "postgresql"}
    if (first, second) == ("ground", "documents"):
        return {"documents"}
    if first == "interop":
        return {"lm-eval", "inspect"}
    if first == "runner" and second.startswith("ray_"):
        return {"ray"}
    if first == "rooms" and second == "corpus":
        return {"corpus"}
    return set()


def test_the_table_of_extras_is_that_of_the_project() -> None:
    for extra, modules in EXTRAS.items():
        packages = {name for module in modules for name in owners().get(module, set())}
        if not missing(extra):
            assert packages == packages_of(extra), extra
    tables = project()["optional-dependencies"]
    assert isinstance(tables, dict) and set(tables) - set(EXTRAS) == {"all", "bench", "dev", "docs"}
    assert tables["all"] == [f"charter[{','.join(EXTRAS)}]"]
    assert "charter[all]" in tables["dev"]


def test_what_is_imported_is_declared_where_it_is_used() -> None:
    """The lab imports no library of the service, and a room only that of its own extra."""
    for path in sorted(SRC.rglob("*.py")):
        where = path.relative_to(SRC).as_posix()
        declared = base().union(*(packages_of(extra) for extra in allowed(path)))
        for module in sorted(set(foreign(path))):
            packages = owners().get(module, {normal(module)})
            known = packages & declared or any(BROUGHT.get(name) in declared for name in packages)
            optional = where in OPTIONAL and extra_of(module)
            assert known or optional, f"{where} imports {module}, which no dependency that it may use brings"


def test_rooms_say_which_extra_they_need() -> None:
    for room, package in ROOMS.items():
        text = SRC.joinpath(*package.split("."), "settings.py").read_text("utf-8")
        stated = re.findall(r'extra="([\w-]+)"', text)
        assert stated == (
            ["serve"] if package.startswith("charter_service.") else ["corpus"] if room == "corpus" else []
        )


def test_a_line_names_the_extra_and_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extra_of("sqlalchemy.orm") == "serve" and extra_of("torch") is None and extra_of(None) is None
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert missing("serve") == ("uvicorn",)
    line = f"x needs uvicorn, which the extra serve brings: {install('serve')}"
    assert need("x", "serve") == line


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'charter[corpus,ray]'"),
        ('{"url": "file:///a%20b", "dir_info": {"editable": true}}', "pip install -e '/a b[corpus,ray]'"),
        ('{"url": "file:///clone", "dir_info": {}}', "pip install '/clone[corpus,ray]'"),
        ('{"url": "https://x.example/charter.whl", "archive_info": {}}', "pip install 'charter[corpus,ray]'"),
    ],
)
def test_extras_are_installed_from_where_charter_came(
    origin: str | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [SimpleNamespace(read_text=lambda _, text=text: text) for text in (None, origin)]
    monkeypatch.setattr(extras, "distributions", lambda name: records)
    assert install("corpus", "ray") == command


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes in which no library of an extra can be imported."""
    folder = tmp_path_factory.mktemp("bare")
    modules = sorted({module for modules in EXTRAS.values() for module in modules} - IN_BASE_TOO)
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({modules}))\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(SRC)))}


def run(code: str, bare: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=bare, cwd=folder, capture_output=True, text=True, check=False
    )


LAB = """
import importlib, pkgutil, sys
import charter, charter_service
from charter.building import ROOMS
needy = (
    "charter_service.", "charter.ground.documents.", "charter.interop.", "charter.runner.ray_", "charter.rooms.corpus."
)
light = ("settings", "commands", "commands.listing")
ours = [(package.__path__, f"{package.__name__}.") for package in (charter, charter_service)]
for module in [module for places, prefix in ours for module in pkgutil.walk_packages(places, prefix)]:
    if module.name == "charter.__main__":
        continue
    if not module.name.startswith(needy) or module.name.endswith(light):
        importlib.import_module(module.name)
for package in ROOMS.values():
    importlib.import_module(package + ".settings")
"""


def test_every_module_of_the_lab_loads_without_extras(bare: dict[str, str], tmp_path: Path) -> None:
    process = run(LAB, bare, tmp_path)
    assert process.returncode == 0, process.stderr


COMMANDS = """
import sys
from charter.cli.main import execute
for words in {lines}:
    print("#", execute(words.split()), words, flush=True)
"""


def test_commands_of_the_lab_work_without_extras(bare: dict[str, str], tmp_path: Path) -> None:
    lines = [
        "--help",
        *(
            f"{command} --help"
            for command in ["init", "plan", "run", "show", "chat", "eval", "compare", "gate", "elo", "review", "gc"]
        ),
        *(f"{command} --help" for command in ["data", "arena", "conduct", "keys", "policy", "card", "serve"]),
        "init mine",
        "plan mine",
        "data check mine/data/prompts.jsonl",
        "constitution check mine/constitution.yaml",
        "policy show",
        "arena init votes",
        "serve --write-config serve.yaml",
    ]
    process = run(COMMANDS.format(lines=lines), bare, tmp_path)
    codes = re.findall(r"^# (\d+) (.+)$", process.stdout, re.MULTILINE)
    assert codes == [("0", line) for line in lines], process.stderr


def test_doctor_names_missing_extras_as_information(bare: dict[str, str], tmp_path: Path) -> None:
    code = "from charter.cli.doctor import _extras; print(*_extras(), sep='\\n')"
    name, fine, text = run(code, bare, tmp_path).stdout.splitlines()
    assert (name, fine) == ("extras", "True")
    assert text == f"without {', '.join(EXTRAS)} (optional: {install('NAME')})"


def test_a_command_without_its_extra_ends_in_one_line(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("x: 1\n")
    lines = {
        "serve random:tiny": "serve",
        "keys create": "serve",
        "keys list": "serve",
        "conduct queue": "serve",
        "conduct audit": "serve",
        "arena serve x.yaml": "serve",
        "arena status x.yaml": "serve",
        "run corpus.yaml --ray local": "ray",
        "run corpus.yaml": "corpus",
    }
    (tmp_path / "text.txt").write_text("Some words of a document.\n")
    (tmp_path / "corpus.yaml").write_text(
        "name: raw\nsteps:\n  - {name: raw, room: corpus, from: {sources: [./text.txt]}}\n"
    )
    process = run(COMMANDS.format(lines=list(lines)), {**bare, "CHARTER_LAUNCHED": "1"}, tmp_path)
    assert re.findall(r"^# (\d+)", process.stdout, re.MULTILINE) == ["1"] * len(lines), process.stderr
    errors = process.stderr.splitlines()
    assert len(errors) == len(lines), process.stderr
    for error, (words, extra) in zip(errors, lines.items(), strict=True):
        assert error.startswith("charter: error: ") and install(extra) in error, words
    assert not (tmp_path / "runs" / "raw" / ".partial").exists(), "refused before the step starts"
