"""Commands that check and convert the rows that people bring."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.hub import fetch, pin
from charter.ground.settings.purpose import refuse
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.settings.sources import resolve
from charter.ground.text.dialogue import Comparison
from charter.ground.text.jsonl import write_jsonl
from charter.runner.names import complete_rows, find_place
from charter.terminal.options import Axis, DataKind

if TYPE_CHECKING:
    from charter.cli.rows import ReadRows


class Form(StrEnum):
    """Columns of other tools that rows can be written in."""

    trl = "trl"
    hh = "hh"


DataFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A file of rows, plain, .gz or .zst; a step (demo/labels); or a hf:, data: or shipped: name.",
        autocompletion=complete_rows,
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


def data_check(file: DataFile, kind: Kind = None) -> None:
    """Check a file of prompts, dialogues, comparisons, triples, judgments, votes or texts, and summarise it.

    Reads charter's own rows, HH-RLHF's and TRL's, ShareGPT conversations, instruction sets and lists of prompts.
    """
    from charter.cli.rows import read_rows

    _say(file, read_rows(find_rows(file), kind))


def data_import(
    file: DataFile,
    to: Out,
    kind: Kind = None,
    axis: Annotated[
        Axis | None, typer.Option("--axis", help="Axis of comparisons that name none; default: from the file's name.")
    ] = None,
    exam: Annotated[
        str | None,
        typer.Option("--exam", metavar="NAME", help="FILE is an exam paper of this name: JSONL, CSV, text or PDF."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FILE", help="With --exam: rows with id and text, a picture described."),
    ] = None,
    force: Force = False,
) -> None:
    """Turn HH-RLHF's and TRL's rows, ShareGPT conversations, instruction sets and lists into charter's rows.

    Reads triples, judgments, votes and texts too. Lists hold prompts: .csv, .json, or .txt with one prompt a line. Of
    an exam it writes items, and beside OUT a report that names the outcome of each.
    """
    from charter.cli.rows import note_axis, read_rows, write_exam

    path = _between(file, to, force)
    if exam is not None:
        if kind or axis:
            raise CharterError("--exam reads items of exams, which have no --kind and no --axis; leave them out")
        print(write_exam(path, to, exam, pictures))
        return
    if pictures is not None:
        raise CharterError("--pictures describes pictures of an exam; name it with --exam")
    rows = read_rows(path, kind, axis or "")
    note = note_axis(path, rows, axis or "")
    write_jsonl(to, rows.rows)
    _say(str(to), rows, note)


def data_export(
    file: DataFile,
    to: Out,
    form: Annotated[Form, typer.Option("--form", help="trl: TRL's columns; hh: HH-RLHF's transcripts.")],
    kind: Kind = None,
    force: Force = False,
    harmful: Annotated[
        bool, typer.Option("--harmful", help="Also rows that their artifact marks as harmful text.")
    ] = False,
) -> None:
    """Turn charter's rows, or the comparisons of a feedback step, into TRL columns or HH-RLHF text."""
    from charter.cli.rows import note_left_out, read_rows
    from charter.ground.text.records import to_hh, to_trl

    path = _between(file, to, force)
    refuse(path, "its rows are not exported")
    rows = read_rows(path, kind)
    if not rows.records:
        raise CharterError(f"{file} holds {rows.kind}, and other tools have no columns for them; use the file as it is")
    if not harmful and _restricted(path, rows.kind):
        raise CharterError(f"{file} may hold harmful text; export it with --harmful")
    if form is Form.hh and rows.kind is not DataKind.comparisons:
        raise CharterError(f"{file} holds {rows.kind}, and the form hh takes comparisons only; use --form trl")
    write_jsonl(to, [to_hh(r) if form is Form.hh and isinstance(r, Comparison) else to_trl(r) for r in rows.records])
    _say(str(to), replace(rows, summary=f"{rows.summary}, in the form {form.value}"), note_left_out(rows))


def _say(file: str, rows: "ReadRows", *notes: str) -> None:
    print(f"{file}: {rows.summary}")
    for note in filter(None, (*notes, *rows.notes)):
        print(f"  note: {note}")


def _restricted(path: Path, kind: DataKind) -> bool:
    """Whether a file, or the rows of a kind of an artifact, hold harmful text, as the manifest says."""
    folder = next((parent for parent in (path, *path.resolve().parents) if (parent / MANIFEST).is_file()), None)
    if folder is None:
        return False
    from charter.ground.text.records import files_of

    restricted = read_manifest(folder).restricted
    name = DataKind.comparisons if kind is DataKind.comparisons else DataKind.dialogues
    files = files_of(path, name.value) if path == folder else [path]
    return any(file.resolve().relative_to(folder.resolve()).as_posix() in restricted for file in files)


def _between(file: str, to: Path, force: bool) -> Path:
    """The file to read. Raises CharterError if `to` can't be written."""
    path = find_rows(file)
    if to.exists() and to.resolve() == path.resolve():
        raise CharterError("--to names the input file; name another file")
    if to.exists() and not force:
        raise CharterError(f"{to} exists already; name another file, or overwrite it with --force")
    if not to.parent.is_dir():
        raise CharterError(f"there is no folder {to.parent}; create it first")
    return path


def find_rows(name: str) -> Path:
    """The file of a path, or the file or folder of a hf:, data: or shipped: reference, as in a recipe.

    Raises CharterError if there are no rows.
    """
    if name.startswith("hf:"):
        return fetch(pin(name, "dataset"))
    source_path = resolve(name).path if name.startswith(("data:", "shipped:")) else None
    path = source_path or find_place(name) or Path(name)
    if path.suffix in (".yaml", ".yml"):
        raise CharterError(f"{name} is not a file of rows; if it is a constitution: charter constitution check {path}")
    if source_path is None and path.is_dir() and not (path / MANIFEST).is_file():
        raise CharterError(f"{name} is a folder; give {_inside(path)}")
    if not path.exists():
        raise CharterError(f"there is no file {name}; give a file of rows, or a hf:, data: or shipped: name")
    return path


def _inside(folder: Path) -> str:
    """Names of files in a folder that can be passed instead of it."""
    names = sorted(str(p) for p in folder.iterdir() if p.name.endswith(ROW_ENDINGS) or (p / MANIFEST).is_file())
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"one of what it holds: {some}" if names else "a file of rows, such as prompts.jsonl"
