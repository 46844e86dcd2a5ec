"""The facts that decide an artifact's content, and their hash, its id.

The sources that a room reaches are among them: its `settings` and `run`, what these import of our packages, and so on,
so that an edit elsewhere renames nothing. They are found by reading the import lines: nothing is loaded. An import
inside a function counts, and so does one for types alone.
"""

import functools
import importlib.util
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import charter
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import (
    Environment,
    Source,
    artifact_id,
    canonical_json,
    digest_file,
    digest_text,
    digest_tree,
)
from charter.ground.settings.execution import Execution
from charter.ground.settings.room import Room

NOT_SOURCE = frozenset({"README.md", ".DS_Store"})
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n#]*))|import[ \t]+([\w., \t]+))", re.MULTILINE
)
_COMMENT = re.compile(r"#.*")


def reached_files(package: str) -> list[Path]:
    """The files that decide what a room makes, sorted: the modules that it reaches, and what lies in their folders that
    isn't Python. Of a package that is no room, all modules count."""
    folder = top_folder(package).joinpath(*package.split(".")[1:])
    entries = [folder / "run.py", folder / "settings.py"]
    waiting = entries if entries[0].is_file() else list(folder.glob("*.py"))
    tops = {"charter", package.partition(".")[0]}
    reached: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        waiting += [file for name in imported(path.read_text("utf-8")) for file in _files(name, tops)]
    beside = {file for folder in {path.parent for path in reached} for file in folder.iterdir()}
    return sorted(reached | {file for file in beside if _is_source(file) and file.suffix != ".py"})


def imported(text: str) -> Iterator[str]:
    """The dotted names that the import lines of a module name; the last part may be a name inside a module."""
    for module, in_brackets, listed, plain in _IMPORT.findall(text):
        names = _COMMENT.sub("", in_brackets or listed or plain).split(",")
        for name in names:
            word = name.split()[0] if name.strip() else ""
            if word:
                yield f"{module}.{word}" if module else word


@functools.cache
def top_folder(name: str) -> Path:
    """The folder of the top package of a dotted name. Raises ModuleNotFoundError if it isn't installed."""
    top = name.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no package {top}", name=top)
    return Path(spec.submodule_search_locations[0])


def _files(name: str, tops: set[str]) -> Iterator[Path]:
    """The file of a dotted name in one of our packages: of the module, or of the module that has the name."""
    top, *parts = name.split(".")
    if top in tops and parts:
        folder = top_folder(top)
        module = folder.joinpath(*parts).with_suffix(".py")
        holder = folder.joinpath(*parts[:-1]).with_suffix(".py") if parts[1:] else None
        yield from (path for path in (module, holder) if path is not None and path.is_file())


def _is_source(path: Path) -> bool:
    return path.is_file() and path.name not in NOT_SOURCE and "__pycache__" not in path.parts


SOURCES_EDITED = (
    "somebody edited charter's sources during this run, so that its id would name code that didn't make it; "
    "start the run again: finished steps are kept if their room did not change"
)


def package_folder() -> Path:
    """The folder of the charter package."""
    return Path(str(charter.__file__)).parent


@functools.cache
def ground_digest() -> str:
    """Digest of the sources of the whole ground and of the shipped data."""
    parts = [digest_tree(package_folder() / part, NOT_SOURCE) for part in ("ground", "data")]
    return digest_text(canonical_json(parts))


@functools.cache
def source_digest(package: str) -> str:
    """Digest of the sources that a room (named by its package) reaches, as this process read them first, and of the
    shipped data (the refusal detector learns from it, requests quote its worked examples)."""
    return _digest(package)


def answers_name(environment: Environment) -> str:
    """The name of the file of remembered answers, from what decides their rounding: the ground's sources, and the facts
    that a resume needs equal."""
    e = environment
    facts = [e.torch, e.threads, e.device, e.precision, e.instructions]
    return digest_text(canonical_json([ground_digest(), *facts]))[:16]


def source_changed(package: str) -> bool:
    """Whether what a room reaches has changed since `source_digest` read it."""
    return _digest(package) != source_digest(package)


def _digest(package: str) -> str:
    tops = {top_folder(name) for name in (package, "charter")}
    files = {
        path.relative_to(top.parent).as_posix(): digest_file(path)
        for path in reached_files(package)
        for top in tops
        if path.is_relative_to(top)
    }
    return digest_text(canonical_json([files, digest_tree(package_folder() / "data", NOT_SOURCE)]))


@functools.cache
def source_state() -> tuple[str | None, bool | None]:
    """Git commit and dirty flag of the checkout that charter runs from; (None, None) when installed."""
    folder = package_folder()

    def git(*words: str) -> str | None:
        try:
            command = ["git", "-C", str(folder), *words]
            process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return process.stdout.strip() if process.returncode == 0 else None

    # an installed package may lie inside somebody else's repository: ask whether it is tracked
    if git("ls-files", "--error-unmatch", "building.py") is None:
        return None, None
    changed = git("status", "--porcelain", "--", str(folder))
    return git("rev-parse", "HEAD"), None if changed is None else bool(changed)


def source_of(room: Room[Any]) -> Source:
    """The code record of a manifest."""
    return code_of(room.package)


def code_of(package: str) -> Source:
    """The code record of what a package made."""
    commit, dirty = source_state()
    return Source(commit=commit, dirty=dirty, digest=source_digest(package))


def step_id(
    room: Room[Any], resolved: dict[str, object], inputs: Sequence[Input], seed: int, execution: Execution
) -> str:
    """The id of a step's artifact with the code of this process."""
    precision = execution.device, execution.precision
    return artifact_id(room.name, resolved, Inputs(inputs).ids, seed, *precision, source_digest(room.package))
