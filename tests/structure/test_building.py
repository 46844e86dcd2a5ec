"""The four laws and the size budgets of the lab and the service, kept by machine.

Exceptions stand in exceptions.txt, one a line with its reason; the list may only shrink (MOST_EXCEPTIONS).
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from charter.building import ABOVE, FLOORS, ROOMS
from charter.runner.reached import imported, reached_files
from charter_service.building import PARTS

SRC = Path(__file__).parents[2] / "src"
LAB, SERVICE = SRC / "charter", SRC / "charter_service"
FILES = sorted([*LAB.rglob("*.py"), *SERVICE.rglob("*.py")])
TESTS = Path(__file__).parents[1]
BANNED = {"utils", "common", "helpers", "misc", "manager", "base"}
MOST_EXCEPTIONS = 0
EXCEPTIONS = {
    line.split()[0]
    for line in (Path(__file__).parent / "exceptions.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


FOLDERS = {room: SRC.joinpath(*package.split(".")) for room, package in ROOMS.items()}


def place(parts: tuple[str, ...]) -> tuple[str, str]:
    """('floor', name), ('room', name), ('service', name) or ('top', name) of a dotted name or a path below src."""
    package, first, *more = (*parts, "")
    if package == "charter_service":
        return "service", first.removesuffix(".py")
    for folder, kind in (("ground", "floor"), ("rooms", "room")):
        if first == folder:
            return (kind, more[0]) if more[0] else ("top", folder)
    return "top", first.removesuffix(".py")


def commands(path: Path) -> bool:
    """Whether a file holds commands, which import inside their functions what takes long to load."""
    return name(path).startswith(("charter/cli/", "charter_service/commands/")) or path.stem.endswith("commands")


def loads_late(path: Path) -> bool:
    """Whether functions of a file may import: those of commands, and of the Python API, which is free to import."""
    return commands(path) or path == LAB / "__init__.py" or name(path).startswith("charter/library/")


def imports(path: Path) -> Iterator[tuple[tuple[str, ...], bool]]:
    """What of our packages a file imports, and whether it does so inside a function."""
    module_level = tree(path)
    inside = {
        id(node)
        for function in ast.walk(module_level)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(module_level):
        if isinstance(node, ast.Import):
            names = [a.name.split(".") for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{name(path)} imports by a relative name"
            names = [[*node.module.split("."), a.name] for a in node.names]
        else:
            continue
        for parts in names:
            if parts[0] in ("charter", "charter_service") and len(parts) > 1:
                yield tuple(parts), id(node) in inside


@cache
def calls(path: Path) -> list[tuple[int, str]]:
    """Line and name of all that a file calls."""
    return [(n.lineno, ast.unparse(n.func)) for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_follow_the_laws(path: Path) -> None:
    here, floors = place(path.relative_to(SRC).parts), list(FLOORS)
    for target, inside in imports(path):
        there = place(target)
        where = f"{name(path)} imports {'.'.join(target)}"
        assert there[1] != "interop" or here == there, f"nothing imports interop: {where}"
        assert there[0] != "service" or here[0] == "service", f"the lab never imports the service: {where}"
        if here[0] == "room":
            assert there[0] == "floor" or there == here, f"law 1, a room imports only the ground: {where}"
        elif here[0] == "floor":
            assert there[0] == "floor", f"law 2, the ground imports only itself: {where}"
            assert floors.index(there[1]) <= floors.index(here[1]), f"law 2, only lower floors: {where}"
        elif here[0] == "service":
            if here[1] == "building":
                continue
            below = there[0] == "service" and there[1] in PARTS[here[1]].below
            told = there[1] == "terminal" or (there[1] in ("runner", "library") and commands(path))
            assert there[0] == "floor" or there == here or below or told, (
                f"law 2, a part of the service imports the ground and what its building.py names: {where}"
            )
        elif here[1] in ("terminal", "release", "runner"):
            assert there[0] == "floor" or there == here or target[1] == "building", (
                f"law 2, {here[1]} imports only the ground: {where}"
            )
        elif here[1] == "library":
            light = there[0] == "floor" or there == here or there[1] in ("runner", "terminal")
            assert light or (there[0] == "room" and inside), (
                f"law 2, the library imports the ground, runner and terminal, and rooms inside a function: {where}"
            )
        elif here[1] == "__init__":
            assert target[1:3] == ("library", "public"), f"law 4, the package finds the library's names: {where}"
        elif here[1] == "cli":
            assert there[0] in ("floor", "top") or inside, f"law 4, only a command's function imports a room: {where}"


def modules(path: Path) -> set[Path]:
    """The files that a file imports, those for types alone too: of each name, or of the module that has it."""
    named = (SRC.joinpath(*target) for target, _ in imports(path))
    files = (next((f for f in (n.with_suffix(".py"), n.parent.with_suffix(".py")) if f.is_file()), None) for n in named)
    return {file for file in files if file is not None}


def test_there_is_no_circle() -> None:
    """A circle of types is a circle, too. Tarjan's strongly connected components."""
    arrows = {path: modules(path) for path in FILES}
    order: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    circles: list[list[str]] = []

    def visit(path: Path) -> None:
        order[path] = low[path] = len(order)
        stack.append(path)
        for target in arrows[path]:
            if target not in order:
                visit(target)
            if target in stack:
                low[path] = min(low[path], low[target])
        if low[path] == order[path]:
            start = stack.index(path)
            circle, stack[start:] = stack[start:], []
            if len(circle) > 1:
                circles.append(sorted(map(name, circle)))

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        for path in FILES:
            if path not in order:
                visit(path)
    finally:
        sys.setrecursionlimit(limit)
    assert circles == []


@pytest.mark.parametrize("room", ROOMS)
def test_what_an_id_hashes_is_what_the_syntax_trees_import(room: str) -> None:
    reached, waiting = set[Path](), [FOLDERS[room] / "run.py", FOLDERS[room] / "settings.py"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += modules(path)
    assert reached == {path for path in reached_files(ROOMS[room]) if path.suffix == ".py"}


def test_import_lines_are_read_as_python_reads_them() -> None:
    text = (
        "import charter.a, charter.b as c\n"
        "from charter.d import (\n    e,  # why, and how\n    f as g,\n)\n"
        "def later():\n    from charter.h import i, j  # noqa\n"
    )
    names = ["charter.a", "charter.b", "charter.d.e", "charter.d.f", "charter.h.i", "charter.h.j"]
    assert list(imported(text)) == names


def test_nothing_is_imported_by_a_string_but_by_the_runner() -> None:
    for path in FILES:
        if name(path).startswith(("charter/runner/", "charter/interop/")):
            continue
        found = {called for _, called in calls(path)} & {
            "load_module",
            "importlib.import_module",
            "import_module",
            "__import__",
        }
        assert not found, f"law 4: {name(path)} calls {found}; import it, inside the command if it is heavy"


def test_every_floor_and_room_exists_and_is_listed() -> None:
    def folders(top: Path) -> set[str]:
        return {p.name for p in top.iterdir() if p.is_dir() and p.name != "__pycache__"}

    assert folders(LAB / "ground") == set(FLOORS)
    assert folders(SERVICE) == set(PARTS)
    rooms = {room for room, folder in FOLDERS.items() if folder.parent == LAB / "rooms"}
    assert folders(LAB / "rooms") == rooms
    assert folders(LAB) == {"ground", "rooms", "data", *ABOVE}
    assert {FOLDERS[room].parent for room in set(ROOMS) - rooms} == {SERVICE}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_have_one_anatomy(room: str) -> None:
    folder = FOLDERS[room]
    for part in ("README.md", "settings.py", "run.py", "__init__.py"):
        assert (folder / part).is_file(), f"{room} lacks {part}"
    assert len((folder / "run.py").read_text().splitlines()) <= 150, f"{room}/run.py is over 150 lines"
    for node in ast.walk(tree(folder / "settings.py")):
        if isinstance(node, ast.ClassDef):
            fields = sum(isinstance(x, ast.AnnAssign) for x in node.body)
            assert fields <= 16, f"{room}: settings class {node.name} has {fields} fields (16 at most)"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_sizes_and_names(path: Path) -> None:
    if name(path) in EXCEPTIONS:
        pytest.skip("listed in exceptions.txt")
    if path.name == "__init__.py" and path.parent != LAB:
        assert not path.read_text().strip(), "law 4: __init__.py files are empty"
        return
    assert not BANNED & {path.stem, *path.relative_to(SRC).parts}, "a name that says nothing"
    module, late = tree(path), loads_late(path)
    assert ast.get_docstring(module), f"{name(path)} has no module docstring"
    assert len(path.read_text().splitlines()) <= 700, f"{name(path)} is over 700 lines"
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{name(path)}: {node.name} has {lines} lines (60 at most)"
            spec = node.args
            names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
            count = len([n for n in names if n not in ("self", "cls", "ctx")])
            # a command's parameters are its options, and each is asked for
            command = commands(path) and not node.name.startswith("_")
            assert count <= 7 or command, f"{name(path)}: {node.name} takes {count} parameters"
            for inner in ast.walk(node):
                assert late or not isinstance(inner, ast.Import | ast.ImportFrom), (
                    f"law 4: {name(path)}: {node.name} imports inside a function"
                )


def test_no_pickle_and_no_eval() -> None:
    for path in FILES:
        for line, called in calls(path):
            assert called not in {"eval", "exec", "torch.load", "torch.save", "pickle.load"}, (
                f"{name(path)}:{line} calls {called}"
            )


def test_exceptions_only_shrink() -> None:
    assert len(EXCEPTIONS) <= MOST_EXCEPTIONS


def test_help_and_settings_leave_torch_unloaded() -> None:
    code = (
        "import sys, importlib\n"
        "import charter.cli.main\n"
        "from charter.building import ROOMS\n"
        "[importlib.import_module(m + '.settings') for m in ROOMS.values()]\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_modules_of_tests_have_names_of_their_own() -> None:
    """Two of one name can't be collected together."""
    names = [path.name for path in TESTS.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_test_asserts_how_long_something_took() -> None:
    """It would fail on a slow or busy machine. Times are printed by `benchmarks/`; a hang ends by a timeout."""
    clocks = {"time.monotonic()", "time.perf_counter()", "time.process_time()", "time.time()"}
    timed = [
        f"{path.relative_to(TESTS)}:{statement.lineno}"
        for path in sorted(TESTS.rglob("*.py"))
        for statement in ast.walk(tree(path))
        if isinstance(statement, ast.Assert)
        for node in ast.walk(statement)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and ast.unparse(node.left) in clocks
    ]
    assert timed == []


UNSCREENED = re.compile(
    r"""["']--no-policy["']|no_policy=True|policy=False|\bstate["']?\s*[:=]\s*["']?(?:off|False)\b"""
    r"""|policy.{0,20}enabled["']?\s*[:=]\s*["']?[Ff]alse"""
)


def test_who_switches_the_screen_off_says_why() -> None:
    """Else nobody notices what people meet, who use the defaults."""
    benchmarks = TESTS.parent / "benchmarks"
    files = [path for root in (TESTS, benchmarks) for path in sorted(root.rglob("*.py"))]
    assert len(files) > 100
    silent = [
        f"{path.relative_to(TESTS.parent)}:{number}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := UNSCREENED.search(line)) and not re.search(r"  # \w+ \w+", line[match.end() :])
    ]
    assert silent == [], "name the reason in a comment of the same line"


@pytest.mark.parametrize(
    "line",
    [
        '["serve", "--no-policy"]',
        "up(no_policy=True)",
        'config(policy={"state": "off"})',
        "policy: {state: 'off'}",
        "policy: {state: off}",
        'policy = {"enabled": False}',
        "make_config([], policy=False)",
    ],
)
def test_ways_to_switch_it_off_are_known(line: str) -> None:
    assert UNSCREENED.search(line)
