"""The view: which files of the host a sandbox shows, read-only. Python needs its own library and the C library.

Nothing else is there: no home, no /etc, no /proc, no /sys, no installed packages, neither data nor repository.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_PACKAGES = ("python3*/site-packages", "python3*/dist-packages")


@dataclass(frozen=True)
class View:
    """Paths of the host that a sandbox shows under the same names."""

    python: str  # the interpreter, symbolic links resolved
    shown: tuple[str, ...]  # files and folders, none inside another
    links: tuple[tuple[str, str], ...]  # symbolic links to make: path, target
    hidden: tuple[str, ...]  # folders inside shown ones that appear empty

    def showing(self, *paths: Path) -> "View":
        """The same view with more files and folders of the host, symbolic links resolved. A hidden folder that holds
        one of them is shown whole, as installed packages beside the interpreter's own library are."""
        hidden = tuple(folder for folder in self.hidden if not any(path.is_relative_to(folder) for path in paths))
        places = [Path(place) for place in self.shown]
        new = {path for path in paths if not any(path.is_relative_to(place) for place in places)}
        apart = {str(path) for path in new if not new.intersection(path.parents)}
        return replace(self, shown=(*self.shown, *sorted(apart)), hidden=hidden)


def python_view() -> View:
    """What a Python program needs: the interpreter below any virtual environment, its library, and the
    system's shared libraries. Folders of installed packages, Charter's own among them, are hidden."""
    python = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    prefix = Path(sys.base_prefix).resolve()
    paths = [python, prefix / "lib", prefix / sys.platlibdir, *map(Path, _LIBRARIES)]
    links = {str(path): os.readlink(path) for path in paths if path.is_symlink()}
    real = {path for path in paths if path.exists() and not path.is_symlink()}
    folders = sorted(path for path in real if not real.intersection(path.parents))
    hidden = sorted(str(path) for path in _packages(folders))
    return View(str(python), tuple(map(str, folders)), tuple(links.items()), tuple(hidden))


def _packages(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for pattern in _PACKAGES:
            yield from folder.glob(pattern)
