"""The sources that a room reaches: its `settings` and `run`, what these import of our packages, and so on.

An artifact's id hashes them, so that an edit elsewhere renames nothing. They are found by reading the import lines:
nothing is loaded. An import inside a function counts, and so does one for types alone.
"""

import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

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
