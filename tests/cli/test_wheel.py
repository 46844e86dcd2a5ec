"""The package as it is published: its wheel has every file, and works away from the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def call(*words: object, folder: Path) -> str:
    """Standard output of a program that succeeds, away from this checkout's sources."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> list[Path]:
    """The files of the package, as git sees them: kept ones, and new ones that it doesn't ignore."""
    listed = call("git", "ls-files", "-co", "--exclude-standard", "src", folder=ROOT)
    return [path for line in listed.splitlines() if (path := Path(line)) and (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy with the setuptools that is here."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: git lists the files to compare with")
    folder = tmp_path_factory.mktemp("wheel")
    for path in (Path("pyproject.toml"), Path("README.md"), Path("LICENSE"), *sources()):
        (folder / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / "copy" / path)
    alone = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    call(sys.executable, "-m", "pip", "wheel", *alone, "-w", folder, folder / "copy", folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(("charter/", "charter_service/"))}
    assert names == {path.relative_to("src").as_posix() for path in sources()}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (place,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    archive.extractall(wheel.parent / "open", [place])
    facts = Distribution.at(wheel.parent / "open" / Path(place).parent).metadata
    assert (facts["Name"], facts["Version"]) == ("charter", PROJECT["version"])
    assert facts["License-Expression"] == "Apache-2.0" and facts["Requires-Python"] == ">=3.11"
    assert facts["Description-Content-Type"] == "text/markdown"
    assert set(facts.get_all("Provides-Extra") or []) == set(PROJECT["optional-dependencies"])


def test_the_change_log_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    (first, *_) = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} \((Unreleased|\d{{4}}-\d\d-\d\d)\)", first)


# Commands in one process, which imports once.
SESSION = """
from charter.cli import main
print(main.__file__)
for line in ("--help", "init mine", "plan mine", "doctor"):
    print("#", main.execute(line.split()), line)
"""


def test_what_the_wheel_installs_works_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which borrows the dependencies of this one."""
    venv, away = tmp_path / "venv", tmp_path / "away"
    away.mkdir()
    call(sys.executable, "-m", "venv", "--without-pip", venv, folder=tmp_path)
    python = venv / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check")
    call(sys.executable, "-m", "pip", "--python", python, *install, wheel, folder=tmp_path)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    assert sorted(PROJECT["scripts"]) == sorted(path.name for path in venv.glob("bin/charter*"))

    assert call(venv / "bin" / "charter", "--version", folder=away) == f"charter {PROJECT['version']}\n"
    said = call(python, "-c", SESSION, folder=away)
    place, said = said.split("\n", 1)
    assert Path(place).is_relative_to(site)
    codes = re.findall(r"^# (\d) (.+)$", said, re.MULTILINE)
    assert codes[:3] == [("0", "--help"), ("0", "init mine"), ("0", "plan mine")]
    assert codes[3][1] == "doctor", "a busy machine may have a problem"
    for part in (" init ", "steps to run", f"charter {PROJECT['version']}"):
        assert part in said
