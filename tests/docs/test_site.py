"""The site of the documents: every page is in its contents, and what a page names is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from page_scripts import load_script

from charter.cli.main import make_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPERATORS = re.compile(r"[|&;<>()\n]+")
COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
SHELLS = {"sh", "bash", "console"}
# typer brings its own copy of click
UsageError = typer.BadParameter.__bases__[0]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return load_script("pages")


@pytest.fixture(scope="module")
def site(pages: ModuleType) -> dict[str, str]:
    """Page -> its text as the site shows it."""
    every = pages.written() | pages.generated()
    return {page: pages.relink(page, text) for page, text in every.items()}


def contents() -> list[str]:
    """The pages that mkdocs.yml lists, in order."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            for inner in node.values() if isinstance(node, dict) else node:
                yield from walk(inner)

    return list(walk(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))


def test_the_contents_list_every_page_once_and_no_other(site: dict[str, str]) -> None:
    listed = contents()
    assert len(listed) == len(set(listed))
    assert set(listed) == set(site)


def test_nothing_is_loaded_from_elsewhere() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert settings["theme"]["font"] is False and {"search", "offline"} <= set(settings["plugins"])
    scripts = settings["extra"]["polyfills"]
    assert scripts and all((DOCS / script).is_file() for script in scripts)


def test_links_of_the_site_lead_to_pages_and_headings(pages: ModuleType, site: dict[str, str]) -> None:
    wrong = []
    for page, text in site.items():
        for _, _, target in pages.LINK.findall(FENCED.sub("", text)):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            goal = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if goal not in site and not (DOCS / goal).is_file():
                wrong.append(f"{page}: {target}")
            elif anchor and anchor not in anchors(pages, site[goal]):
                wrong.append(f"{page}: {target} has no such heading")
    assert not wrong


def anchors(pages: ModuleType, text: str) -> set[str]:
    return {pages.slug(found) for found in re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)}


def test_the_list_for_language_models_names_pages_of_the_site(site: dict[str, str]) -> None:
    title, summary, *lines = [line for line in (DOCS / "llms.txt").read_text("utf-8").splitlines() if line]
    assert title.startswith("# ") and summary.startswith("> ")
    rows = [line for line in lines if line.startswith("- ")]
    assert len(rows) > 20
    for row in rows:
        found = re.fullmatch(r"- \[[^\]]+\]\(([\w/]+)\.html\): .+", row)
        assert found is not None and f"{found[1]}.md" in site, row


def test_a_link_follows_its_page_and_a_file_without_a_page_is_named(pages: ModuleType) -> None:
    text = "[a](../../README.md), [b](../../src/charter/rooms/rl/README.md#settings), [c](https://x.org/y)"
    assert pages.relink("howto/ray.md", text) == (
        "a (`README.md`), [b](../reference/rooms/rl.md#settings), [c](https://x.org/y)"
    )
    fenced = "```\n[a](../README.md)\n```"
    assert pages.relink("howto/ray.md", fenced) == fenced


def test_written_pages_open_with_who_they_are_for(pages: ModuleType) -> None:
    for page, text in pages.written().items():
        line = next(line for line in text.splitlines()[1:] if line.strip())
        assert re.match(r"For .+[;.] .*minute", line), f"{page}: {line[:80]}"


def shell_commands(text: str) -> Iterator[list[str]]:
    """The words of each `charter` command of the page's shell blocks."""
    for language, block in FENCED.findall(text):
        if language not in SHELLS:
            continue
        lexer = shlex.shlex(COMMENT.sub("", block.replace("\\\n", " ")), posix=True, punctuation_chars="|&;<>()\n")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        command: list[str] | None = None
        of_docker = False  # there `charter` is the name of an image
        for word in [*lexer, "\n"]:
            of_docker = (of_docker or word == "docker") and word != "\n"
            if OPERATORS.fullmatch(word):
                if command is not None:
                    yield command
                command = None
            elif of_docker:
                continue
            elif command is not None:
                command.append(word)
            elif word.rpartition("/")[2] == "charter":
                command = []


def check(command: Any, words: list[str]) -> None:
    """Raises UsageError where the command has no such option, or lacks an argument."""
    name, context = "charter", None
    while (inner := getattr(command, "commands", None)) is not None:
        while words and words[0].startswith("-"):
            words = words[1:]
        if not words:
            return
        if " ".join(words[:2]) in inner:  # as `chat serve` beside `chat MODEL`
            words = [" ".join(words[:2]), *words[2:]]
        if words[0] not in inner:
            raise UsageError(f"no command {name} {words[0]}")
        name, command, words = f"{name} {words[0]}", inner[words[0]], words[1:]
    context = typer.Context(command, info_name=name)
    if "--help" in words:
        return
    values, rest, _ = command.make_parser(context).parse_args(args=list(words))
    if rest:
        raise UsageError(f"{name} takes no {rest[0]}")
    missing = [str(p.name) for p in command.params if p.required and values.get(str(p.name)) in (None, (), [])]
    if missing:
        raise UsageError(f"{name} lacks {missing[0]}")


def test_commands_of_shell_blocks_are_understood(pages: ModuleType) -> None:
    command = typer.main.get_command(make_app())
    texts = {**pages.written(), "README.md": (ROOT / "README.md").read_text("utf-8")}
    seen = 0
    for page, text in texts.items():
        for words in shell_commands(text):
            seen += 1
            try:
                check(command, words)
            except UsageError as error:
                pytest.fail(f"{page}: charter {' '.join(words)}: {error}")
    assert seen > 20


@pytest.mark.parametrize("words", [["plan"], ["plan", "a.yaml", "--nosuch"], ["nosuch"], ["keys", "nosuch"]])
def test_a_wrong_command_is_found(words: list[str]) -> None:
    with pytest.raises(UsageError):
        check(typer.main.get_command(make_app()), words)


def test_each_page_of_reference_comes_from_the_code(pages: ModuleType) -> None:
    made = pages.generated()
    assert "## charter gate" in made["reference/cli.md"] and "--margin" in made["reference/cli.md"]
    metrics = made["reference/metrics.md"]
    assert "| `harm_rate` |" in metrics and "[bbq](#bbq)" in metrics and "\n## bbq\n" in metrics
    assert "| `lr` |" in made["reference/recipe.md"] and "## rl" in made["reference/recipe.md"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "cli.html").read_text("utf-8")
    assert "charter gate" in page
    outside = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?:[^"]+)"', page)
    assert not outside, "the site works without a network"
