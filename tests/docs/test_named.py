"""What documents, templates, scaffolds and messages name is there: commands with their options, steps of a shipped
recipe's run, recipes, and extras."""

import ast
import functools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from charter.cli.main import make_app
from charter.ground.settings.recipe import load_recipe

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "charter"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEMPLATES = [
    *sorted(SOURCE.rglob("*.jinja")),
    *sorted(SOURCE.rglob("*.md")),
    *(path for path in sorted(SOURCE.rglob("*.yaml")) if path.parent.name != "data"),
    *sorted((ROOT / "recipes").rglob("*.yaml")),
]
MODULES = sorted(SOURCE.rglob("*.py"))
FILES = [*PAGES, *TEMPLATES, *MODULES]
STEP = re.compile(r"(?<![\w./-])(?:\.\./)?runs/([a-z_]+)/([\w-]+)")
SHORT_STEP = re.compile(r"\bcharter [a-z ]*?([a-z_]+)/([a-z_]+)\b(?![\w/.])")
RECIPE = re.compile(r"(?<![\w/])recipes/([\w-]+)\.yaml")
EXTRA = re.compile(r"(?:charter|\.)\[([a-z]+(?:,[a-z]+)*)\]'")
# what a run's folder holds beside its steps
BESIDE = re.compile(r"release-.*|card|recipe|NAME|STEP|report")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts(path: Path) -> Iterator[str]:
    """What a person may read of a file: of a module, its strings; of any other file, all of it."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def program() -> Any:
    return typer.main.get_command(make_app())


@functools.cache
def steps() -> dict[str, set[str]]:
    """Name of a shipped recipe's run -> its steps."""
    recipes = [load_recipe(path) for path in sorted((ROOT / "recipes").glob("*.yaml"))]
    return {recipe.name: {step.name for step in recipe.steps} for recipe in recipes}


def command_lines(text: str) -> Iterator[str]:
    """Whole commands of a page: lines of shell blocks, and spans in backticks."""
    joined = text.replace("\\\n", " ")
    yield from re.findall(r"^\s*(?:\.venv/bin/)?(charter [a-z].*)$", joined, re.MULTILINE)
    yield from re.findall(r"`(?:\.venv/bin/)?(charter [a-z][^`\n]*)`", text)


def problem_of(line: str) -> str | None:
    """What is wrong with a command: a name that the program lacks, or an option that this command lacks."""
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError:
        return None  # prose with an apostrophe
    command = program()
    while isinstance(command, TyperGroup) and words and re.fullmatch(r"[a-z-]+", words[0]):
        pair = " ".join(words[:2])  # chat serve
        called = pair if pair in command.commands else words[0]
        if called not in command.commands:
            return f"there is no command {called}"
        command, words = command.commands[called], words[called.count(" ") + 1 :]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word in ("|", "&&", ";", ">"):
            break
        option = word.partition("=")[0].rstrip(",.;:)")
        if re.fullmatch(r"--[a-z][a-z-]*", option) and option not in options | {"--help"}:
            return f"{command.name} has no option {option}"
    return None


def test_commands_have_the_options_that_are_named() -> None:
    problems = [
        f"{name(path)}: {line}: {problem}"
        for path in (*PAGES, *TEMPLATES)
        for line in command_lines(path.read_text("utf-8"))
        if (problem := problem_of(line)) is not None
    ]
    assert problems == []


def test_a_wrong_command_or_option_would_be_seen() -> None:
    assert problem_of("charter card verify demo --deep") is None
    assert problem_of("charter cards verify demo") == "there is no command cards"
    assert problem_of("charter card verify demo --deeper") == "verify has no option --deeper"


def test_steps_of_runs_recipes_and_extras_exist() -> None:
    known = steps()
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.yaml")} | {"NAME", "mine"}
    problems = set()
    for path in FILES:
        for text in texts(path):
            problems |= {
                f"{name(path)}: the run {run} has no step {step}"
                for run, step in (*STEP.findall(text), *SHORT_STEP.findall(text))
                if run in known and not BESIDE.fullmatch(step) and step not in known[run]
            }
            problems |= {f"{name(path)}: recipes/{recipe}.yaml" for recipe in {*RECIPE.findall(text)} - recipes}
            for listed in EXTRA.findall(text) if "pip install" in text else ():
                problems |= {f"{name(path)}: [{extra}]" for extra in set(listed.split(",")) - extras}
            if re.search(r"pip install '?charter\[", text):
                problems.add(f"{name(path)}: charter is not on PyPI yet")
    assert not problems
