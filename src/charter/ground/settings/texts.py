"""Manifests of text sources: the places of raw text, and its known properties.

    sources:
      - name: peps
        from: data:pretrain/python_peps.jsonl.gz
        licence: CC0
        date: {field: created}      # or one for the whole source: 2023, 2023-05, 2023-05-17
        language: en                # without it each text's language is detected
        kind: prose                 # or code, dialogue, reference
        weight: 2                   # times that each document is used

`from` names a file or a folder: ./x, /x, data:X, hf:OWNER/NAME@REVISION#SUBPATH; or installed files:
python: (the standard library of the running interpreter), package:NAME (the files of a Python distribution),
debian:NAME (the files of installed Debian packages; NAME may hold *). `files` and `leave_out` are patterns of paths
below it. ** crosses folders; a pattern without a slash is a file's name in any folder.

The digest of a manifest covers its own bytes and those of every file that it names, so a changed text changes the
step's id. Dates of
documents are as exact as they are written. A date is after a cut-off unless it certainly isn't.
"""

from __future__ import annotations

import calendar
import importlib.metadata
import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_file, digest_text
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.hub import fetch, pin
from charter.ground.settings.notation import read_settings
from charter.ground.settings.places import expand_home, find_data
from charter.ground.settings.recognise import ROW_ENDINGS

_WRITTEN = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ].*)?)?)?")
Kind = Literal["prose", "code", "dialogue", "reference"]
KINDS: tuple[Kind, ...] = ("prose", "code", "dialogue", "reference")
Form = Literal["text", "page", "rows", "parquet"]
PAGES = (".html", ".htm", ".xhtml")
PROSE = (".txt", ".md", ".rst", ".text", ".markdown", ".adoc", ".tex")
CODE = (
    *(".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".java", ".js", ".ts", ".go", ".rs", ".rb", ".pl", ".pm"),
    *(".sh", ".lua", ".r", ".sql", ".scala", ".swift", ".kt", ".cs", ".php", ".hs", ".ml", ".jl", ".el"),
)
PACKED = (".gz", ".zst")
_PACKING = 3  # typical compression ratio of text
DETECT = "detect"
PROGRAM = "code"  # the language of program text if the manifest names none
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
INSTALLED = Path("/var/lib/dpkg/info")


class Period(NamedTuple):
    """The first and the last day that a written date may mean: 2023-05 is the whole of May."""

    first: date
    last: date


def as_written(value: object) -> object:
    """Converts what YAML reads as a whole number or a date (2023, 2023-01-31) back to text; other values unchanged."""
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number or isinstance(value, date) else value


def period(text: str) -> Period:
    """The period of a year, month, day or time (2023, 2023-05, 2023-05-17, 2023-05-17T10:00:00Z). Raises ValueError."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a date")
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None
    if day is not None and month is not None:
        return Period(day_of_text := date(year, month, day), day_of_text)
    last_month = month or 12
    days = calendar.monthrange(year, last_month)[1]
    return Period(date(year, month or 1, 1), date(year, last_month, days))


def is_date(text: str) -> bool:
    """Whether a text is such a date, or empty."""
    try:
        return not text or bool(period(text))
    except ValueError:
        return False


def is_after(document: Period, cutoff: Period) -> bool:
    """Whether a document may be younger than the cut-off: one of 2023 may, if the cut-off is in May 2023."""
    return document.last > cutoff.last


class DateField(Frozen):
    """The column of rows that holds each document's date."""

    field: str = Field(min_length=1, description="column of rows that holds a date")


def language_code(value: str) -> str:
    """The ISO code of a language, or `PROGRAM`; en-GB becomes en, because detection knows no regions. Raises ValueError
    for other values."""
    if value != PROGRAM and not _LANGUAGE.fullmatch(value):
        raise ValueError("must be an ISO code of two or three small letters such as en, de or zh")
    return value.partition("-")[0]


def _code_or_detect(value: str) -> str:
    return value if value == DETECT else language_code(value)


def _date(value: object) -> object:
    """A date as text, or a mapping that names a column. Raises ValueError for other values."""
    date = as_written(value)
    if not isinstance(date, Mapping | DateField | str) or (isinstance(date, str) and not is_date(date)):
        raise ValueError("must be a year, month or day (2023, 2023-05, 2023-05-17), or a column: {field: created}")
    return date


LanguageCode = Annotated[str, AfterValidator(language_code)]


class TextSource(Frozen):
    """One source of raw text."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="names it in counts and reports")
    at: str = Field(alias="from", min_length=1, description="file, folder or installed files")
    files: tuple[str, ...] = Field((), description="patterns of files to read; none: all that look like text")
    leave_out: tuple[str, ...] = Field((), description="patterns of files to leave out")
    licence: str = Field("unknown", min_length=1, description="licence of the texts")
    date: Annotated[DateField | str, BeforeValidator(_date)] = Field(
        "", description="date of the texts, or the column that holds each text's"
    )
    language: Annotated[str, AfterValidator(_code_or_detect)] = Field(
        DETECT, description="ISO code of the texts, or detect"
    )
    kind: Kind = Field("prose", description="what the texts are; filters differ")
    weight: float = Field(1.0, gt=0, le=100, description="times that each document is used")
    text: str = Field("text", min_length=1, description="column of rows that holds the text")
    split: Literal["file", "line", "paragraph"] = Field(
        "file", description="one document of plain text: a file, a line, or a paragraph between blank lines"
    )
    optional: bool = Field(False, description="leave the source out, with a note, if it isn't there")


class SourceManifest(Frozen):
    """A file of text sources."""

    sources: tuple[TextSource, ...] = Field(min_length=1, description="the sources, in this order")


@dataclass(frozen=True)
class TextFile:
    """One file of a source; `name` is its path below `from`, the same on every machine."""

    name: str
    path: Path


@dataclass(frozen=True)
class Listing:
    """The files of a source by name. `unread`: the number of other files, which no pattern matches. `missing`: why an
    optional source has no files. `passed_over`: for a source without patterns, its other files by ending. `linked`:
    the number of folders that are links, which aren't followed."""

    source: TextSource
    files: tuple[TextFile, ...]
    unread: int
    missing: str = ""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    linked: int = 0


def read_sources(path: Path) -> tuple[TextSource, ...]:
    """The sources of a manifest. Raises CharterError naming the file and the problem."""
    sources = read_settings(path, SourceManifest, "manifest of text sources", "sources").sources
    check_names((source.name for source in sources), str(path))
    return sources


def check_names(names: Iterable[str], where: str) -> None:
    """Refuses a duplicate name, because counts by source would mix the sources. Raises CharterError."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CharterError(f"{where}: two text sources are called {twice[0]}; give each a name of its own")


def plain_source(path: Path, ref: str) -> TextSource:
    """A file or folder without a manifest, with default properties; `ref` is its reference in the recipe."""
    bare = ref.partition("#")[2] or ref.partition("@")[0]
    last = bare.rstrip("/").replace(":", "/").rpartition("/")[2]
    for ending in (*PACKED, ".jsonl", ".parquet", *PROSE, *PAGES):
        last = last.removesuffix(ending)
    name = re.sub(r"[^\w.-]", "-", last).strip(".-") or "texts"
    return TextSource(name=name, at=str(path))


def form_of(name: str) -> Form:
    """The form of a file, by the ending of its name: rows, tables, pages of HTML, else plain text."""
    bare = _strip_packing(name)
    if bare.endswith(".jsonl"):
        return "rows"
    if bare.endswith(".parquet"):
        return "parquet"
    return "page" if bare.endswith(PAGES) else "text"


def list_files(source: TextSource, folder: Path) -> Listing:
    """The files of a source; relative paths start at `folder`, the manifest's.

    Unless the source is optional, raises CharterError if it isn't there, isn't installed, or has no matching file.
    """
    try:
        return _list_files(source, folder)
    except CharterError as error:
        if not source.optional:
            raise
        return Listing(source, (), 0, str(error))


def _list_files(source: TextSource, folder: Path) -> Listing:
    candidates, linked = _list_installed(source), 0
    if candidates is None:
        place = _place(source, folder)
        if place.is_file():  # the manifest names the file, so its ending doesn't matter
            return Listing(source, (TextFile(place.name, place),), 0)
        on_hub = source.at.startswith("hf:")
        paths = list(place.iterdir() if on_hub else place.rglob("*"))
        candidates = list(_list_fetched(paths) if on_hub else _list_below(place, paths))
        linked = sum(path.is_symlink() and path.is_dir() for path in paths)
    matches = [file for file in candidates if _takes(source, file.name)]
    if not matches:
        patterns = ", ".join(source.files) or "files that look like text"
        raise CharterError(
            f"text source {source.name}: of {len(candidates)} files at {source.at} none matches ({patterns}); "
            "change from or files"
        )
    files = tuple(sorted(matches, key=lambda file: file.name))
    passed_over = _count_passed_over(source, candidates)
    return Listing(source, files, len(candidates) - len(matches), passed_over=passed_over, linked=linked)


def _count_passed_over(source: TextSource, candidates: Iterable[TextFile]) -> Counter[str]:
    """The number of files that don't look like text, by ending; empty if the source has patterns."""
    if source.files:
        return Counter()
    names = (file.name for file in candidates if not _leaves_out(source, file.name))
    return Counter(_ending(name) for name in names if not looks_like_text(name, source.kind))


def _ending(name: str) -> str:
    return PurePosixPath(_strip_packing(name)).suffix


def digest_sources(path: Path) -> str:
    """sha256 over a manifest and all files that it names; names on the hub count by their commit."""
    facts: dict[str, object] = {}
    for source in read_sources(path):
        if source.at.startswith("hf:"):
            facts[source.name] = pin(source.at, "dataset")
        else:
            files = list_files(source, path.parent).files
            facts[source.name] = {file.name: digest_file(file.path) for file in files}
    return digest_text(canonical_json([digest_file(path), facts]))


def text_bytes(path: Path) -> int:
    """The approximate bytes of text in a manifest, a file or a folder; packed files count several times. It leaves out
    sources on the hub. Raises CharterError for a broken manifest."""
    if path.suffix in (".yaml", ".yml"):
        local = (source for source in read_sources(path) if not source.at.startswith("hf:"))
        files = [file.path for source in local for file in list_files(source, path.parent).files]
    else:
        files = [file.path for file in list_files(plain_source(path, path.name), path.parent).files]
    return sum(file.stat().st_size * (_PACKING if file.suffix.lower() in PACKED else 1) for file in files)


def looks_like_text(name: str, kind: Kind = "prose") -> bool:
    """Whether a source without patterns reads a file of that name."""
    endings = (".jsonl", ".parquet", *PAGES, *PROSE, *(CODE if kind == "code" else ()))
    return _strip_packing(name).endswith(endings)


def _strip_packing(name: str) -> str:
    """The name in lower case, without the ending of a compressed file."""
    name = name.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    return name


def _takes(source: TextSource, name: str) -> bool:
    if _leaves_out(source, name):
        return False
    if not source.files:
        return looks_like_text(name, source.kind)
    return any(_pattern(glob).fullmatch(name) for glob in source.files)


def _leaves_out(source: TextSource, name: str) -> bool:
    return any(_pattern(glob).fullmatch(name) for glob in source.leave_out)


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    """The regular expression of a path pattern: * and ? stay in one folder, ** crosses folders, no slash means any
    folder."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob if "/" in glob else f"**/{glob}")
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts))


def _place(source: TextSource, folder: Path) -> Path:
    """The file or folder of a source on this disk or on the hub."""
    if source.at.startswith("hf:"):
        return fetch(pin(source.at, "dataset"))
    if source.at.startswith("data:"):
        return find_data(source.at.removeprefix("data:"))
    target = expand_home(source.at.removeprefix("file:"))
    place = folder / target
    if not place.exists():
        raise CharterError(
            f"text source {source.name}: there is no file or folder {place}; name one that is there, or data:X, "
            "hf:OWNER/NAME, python:, package:NAME or debian:NAME"
        )
    return place


def _list_installed(source: TextSource) -> list[TextFile] | None:
    """All files of an installed source, with any names; None for other sources."""
    scheme, colon, name = source.at.partition(":")
    if colon and scheme == "python":
        return _standard_library(source)
    if colon and scheme == "package":
        return _distribution(source, name)
    if colon and scheme == "debian":
        return _debian(source, name)
    return None


def _list_below(root: Path, paths: Iterable[Path], leave_out: frozenset[str] = frozenset()) -> Iterator[TextFile]:
    for path in paths:
        relative = path.relative_to(root)
        hidden = any(part in leave_out or part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden:
            yield TextFile(relative.as_posix(), path)


def _list_fetched(paths: Iterable[Path]) -> Iterator[TextFile]:
    """The files that `fetch` downloads from a folder on the hub, without earlier downloads of the same set."""
    for path in paths:
        if path.is_file() and path.name.endswith(ROW_ENDINGS):
            yield TextFile(path.name, path)


def _standard_library(source: TextSource) -> list[TextFile]:
    if source.at != "python:":
        raise CharterError(
            f"text source {source.name}: write python: alone, and choose files by patterns such as json/*.py"
        )
    left_out = frozenset({"site-packages", "dist-packages", "__pycache__"})
    library = Path(sysconfig.get_paths()["stdlib"])
    return list(_list_below(library, library.rglob("*"), left_out))


def _distribution(source: TextSource, name: str) -> list[TextFile]:
    try:
        files = importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise CharterError(f"text source {source.name}: the package {name!r} is not installed") from None
    places = ((file.as_posix(), Path(str(file.locate()))) for file in files)
    return [TextFile(name, path) for name, path in places if path.is_file() and "__pycache__" not in name]


def _debian(source: TextSource, name: str) -> list[TextFile]:
    """Files of the packages below /usr/share, from dpkg's file lists."""
    pattern = re.compile(re.escape(name).replace(r"\*", ".*"))
    lists = [p for p in sorted(INSTALLED.glob("*.list")) if pattern.fullmatch(p.stem.partition(":")[0])]
    if not name or not lists:
        raise CharterError(f"text source {source.name}: no Debian package {name!r} is installed (none in {INSTALLED})")
    files = {}
    for entry in lists:
        for line in entry.read_text("utf-8").splitlines():
            path = Path(line)
            if line.startswith("/usr/share/") and path.is_file() and not path.is_symlink():
                files[line] = TextFile(line.lstrip("/"), path)
    return list(files.values())
