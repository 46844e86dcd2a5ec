"""Commands that look at what people bring: constitutions, data and cards."""

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charter.cli.rows import DataKind, Found, axis_note, left_out_note, read_rows
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.constitution.constitution import check, load
from charter.ground.settings.hub import fetch, pin
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.settings.sources import resolve
from charter.ground.text.dialogue import Comparison
from charter.ground.text.jsonl import write_jsonl
from charter.ground.text.records import to_hh, to_trl
from charter.runner.show import find_run
from charter.runner.verify import verify
from charter.terminal.bars import make_progress
from charter.terminal.launch import relaunch
from charter.terminal.options import Axis


class Form(StrEnum):
    """Columns of other tools that rows can be written in."""

    trl = "trl"
    hh = "hh"


DataFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="A file of rows, plain, .gz or .zst; or a hf:, data: or shipped: name."
    ),
]
Out = Annotated[Path, typer.Option("--to", metavar="OUT", help="The JSONL file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")]
Kind = Annotated[
    DataKind | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="prompts, dialogues, comparisons, triples, judgments, votes or texts; guessed from the first row if "
        "left out.",
    ),
]


def constitution_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A constitution in YAML.")],
) -> None:
    """Check a constitution and say what it holds."""
    found = check(load(file))
    print(f"{file}: {found.summary}")
    for warning in found.warnings:
        print(f"  warning: {warning}")


def data_check(file: DataFile, kind: Kind = None) -> None:
    """Check a file of prompts, dialogues, comparisons, triples, judgments, votes or texts, and say what it holds.

    Read are charter's own rows, HH-RLHF's and TRL's, ShareGPT conversations, instruction sets, lists of prompts.
    """
    _say(file, read_rows(find_rows(file), kind))


def data_import(
    file: DataFile,
    to: Out,
    kind: Kind = None,
    axis: Annotated[
        Axis | None,
        typer.Option("--axis", help="Of comparisons that name none; else the file's name tells it."),
    ] = None,
    force: Force = False,
) -> None:
    """Turn HH-RLHF's and TRL's rows, ShareGPT conversations, instruction sets and lists into charter's rows.

    Triples, judgments, votes and texts are taken too. Lists are of prompts: .csv, .json, or .txt with one a line.
    """
    path = _between(file, to, force)
    found = read_rows(path, kind, axis or "")
    note = axis_note(path, found, axis or "")
    write_jsonl(to, found.rows)
    _say(str(to), found, note)


def data_export(
    file: DataFile,
    to: Out,
    form: Annotated[Form, typer.Option("--form", help="trl: TRL's columns; hh: HH-RLHF's transcripts.")],
    kind: Kind = None,
    force: Force = False,
) -> None:
    """Turn charter's rows, or the comparisons of a feedback step, into TRL columns or HH-RLHF text."""
    found = read_rows(_between(file, to, force), kind)
    if not found.records:
        raise CharterError(
            f"{file} holds {found.kind}, and other tools have no columns for them; use the file as it is"
        )
    if form is Form.hh and found.kind is not DataKind.comparisons:
        raise CharterError(
            f"{file} holds {found.kind}, and HH-RLHF's form is one of comparisons; use --form trl"
        )
    write_jsonl(
        to, [to_hh(r) if form is Form.hh and isinstance(r, Comparison) else to_trl(r) for r in found.records]
    )
    _say(str(to), replace(found, summary=f"{found.summary}, in the form {form.value}"), left_out_note(found))


def _say(file: str, found: Found, *notes: str) -> None:
    print(f"{file}: {found.summary}")
    for note in filter(None, (*notes, *found.notes)):
        print(f"  note: {note}")


def _between(file: str, to: Path, force: bool) -> Path:
    """The file to read, when `to` can be written beside it."""
    path = find_rows(file)
    if to.exists() and to.resolve() == path.resolve():
        raise CharterError("--to must name another file than the one that is read")
    if to.exists() and not force:
        raise CharterError(f"{to} exists; name another file, or overwrite this one with --force")
    if not to.parent.is_dir():
        raise CharterError(f"there is no folder {to.parent}; make it first")
    return path


def find_rows(name: str) -> Path:
    """The file of a path, or the file or folder of a hf:, data: or shipped: reference, as in a recipe.

    Raises CharterError where there are no rows.
    """
    if name.startswith("hf:"):
        return fetch(pin(name, "dataset"))
    named = resolve(name).path if name.startswith(("data:", "shipped:")) else None
    path = named or Path(name)
    if path.suffix in (".yaml", ".yml"):
        raise CharterError(
            f"{name} is no file of rows; if it is a constitution: charter constitution check {path}"
        )
    if named is None and path.is_dir() and not (path / MANIFEST).is_file():
        raise CharterError(f"{name} is a folder; give {_inside(path)}")
    if not path.exists():
        raise CharterError(f"there is no file {name}; give a file of rows, or a hf:, data: or shipped: name")
    return path


def _inside(folder: Path) -> str:
    """What of a folder can be given in its place."""
    found = sorted(
        str(p) for p in folder.iterdir() if p.name.endswith(ROW_ENDINGS) or (p / MANIFEST).is_file()
    )
    some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    return f"one of what it holds: {some}" if found else "a file of rows, such as prompts.jsonl"


def card_verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory with a card, or a card.")],
    deep: Annotated[bool, typer.Option("--deep", help="Draw samples anew and compare.")] = False,
) -> None:
    """Check that every number of a card is backed by the artifacts of its run."""
    folder = Path(run) if (Path(run) / MANIFEST).is_file() else find_run(run)
    progress = None
    if deep:
        relaunch()
        progress = make_progress() if sys.stderr.isatty() else None
    problems = verify(folder, deep, progress=progress)
    for problem in problems:
        print(problem)
    if problems:
        count = "1 problem is" if len(problems) == 1 else f"{len(problems)} problems are"
        raise CharterError(f"the card of {folder} does not hold: {count} listed above")
    print(f"the card of {folder} holds")
