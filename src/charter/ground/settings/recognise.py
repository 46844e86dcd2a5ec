"""Recognises the kind of a file by its first row, so that a plan can refuse it for a role that it doesn't fit."""

import gzip
import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import zstandard

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import DAMAGE, LONGEST_JSON, inside, line_of, parse_json, parse_json_file, regular

# endings of files of rows
ROW_ENDINGS = (
    *(f"{ending}{packed}" for ending in (".jsonl", ".json", ".csv", ".txt") for packed in ("", ".gz", ".zst")),
    ".parquet",
)
# columns that belong to one kind of rows only; such a row needs all of them
OWN_COLUMNS = {"comparisons": ("chosen", "rejected"), "triples": ("harmful", "good")}
JUDGED = {"verdict", "reply"}  # columns of judgments, which other kinds of rows may also have
VOTE = {"model_a", "model_b", "winner"}  # the columns of votes
# the only label of a classifier that rates harm; a preference model's label means nothing
HARM_RATING = "HARM_RATING"
# the architecture of a labeller that reads principles
READER = "PrincipleReader"
TEMPLATE = {"told", "nonnegative"}  # columns of templates of questions about two persons
BBQ = {"context_condition", "question_polarity"}  # columns of the evaluation of Parrish et al. 2022 alone
_LONGEST_LINE = 2**20  # characters that are read at once
_ROWS_LOOKED_AT = 200
_TEXT_KEYS = {"content", "chosen", "rejected", "text", "prompt", "completion", "critique", "revision", "draft", "reply"}
_PROMPT_KEYS = {"messages", "prompt", "conversations", "dialogue", "transcript", "instruction"}


def open_text(path: Path) -> IO[str]:
    """Opens a plain, gzip (.gz) or zstandard (.zst) text file. Raises OSError if it is not a regular file."""
    regular(path)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)
        return io.TextIOWrapper(stream, encoding="utf-8")
    return path.open("r", encoding="utf-8")


def kind_of_file(path: Path) -> str:
    """The kind of a file: that of its first row, sources, constitution, or data if not recognised."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".yaml", ".yml")):
        return "sources" if names_sources(path) else "constitution"
    if not name.endswith(".jsonl"):
        return "data"
    row = _first_row(path)
    return "data" if row is None else kind_of_row(row)


def names_sources(path: Path) -> bool:
    """Whether a YAML file is a manifest of sources: it has a top-level key `sources:`, or the slip `source:`."""
    try:
        with regular(path).open("rb") as file:
            lines = iter(lambda: file.readline(_LONGEST_LINE), b"")
            return any(re.match(rb"(\xef\xbb\xbf)?sources?\s*:", line) for line in lines)
    except OSError:
        return False


def kind_of_row(row: Mapping[str, object]) -> str:
    """The kind of a row by its columns: comparisons, triples, votes, judgments, templates, dialogues, prompts, text, or
    data if not recognised.

    One of a kind's own columns decides: a row with `chosen` and a misspelt `rejected` is a broken comparison.
    """
    keys = row.keys()
    for kind, columns in OWN_COLUMNS.items():
        if not keys.isdisjoint(columns):
            return kind
    if {"text_correct", "text_incorrect"} <= keys:
        return "comparisons"
    if keys >= VOTE and keys & _PROMPT_KEYS <= {"prompt"}:  # a vote's prompt is a name
        return "votes"
    if keys >= JUDGED and keys & _PROMPT_KEYS <= {"prompt"}:
        return "judgments"
    if keys >= TEMPLATE:
        return "templates"
    if keys & _PROMPT_KEYS:
        return "prompts" if _waits(row) else "dialogues"
    return "text" if "text" in keys else "data"


def _waits(row: Mapping[str, object]) -> bool:
    """Whether a dialogue is a prompt: it ends with a user's turn."""
    messages = row.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return bool(messages[-1].get("role") == "user")
    return "prompt" in row and "completion" not in row


def holds_bbq(path: Path) -> bool:
    """Whether a file, or a file directly in a folder, begins with a row of BBQ, which must not be trained on."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    rows = (_first_row(file) for file in files if file.is_file() and ".jsonl" in file.name)
    return any(row is not None and is_bbq(row) for row in rows)


def is_bbq(row: Mapping[str, object]) -> bool:
    """Whether a row has BBQ's own columns."""
    return row.keys() >= BBQ


def count_rows(path: Path) -> int | None:
    """The number of rows of a JSONL file (blank lines don't count), None for other files."""
    if ".jsonl" not in path.name or not path.is_file():
        return None
    try:
        with open_text(path) as file:
            count, blank = 0, True  # a line may come in several pieces
            while piece := file.readline(_LONGEST_LINE):
                blank = blank and not piece.strip()
                if piece.endswith("\n"):
                    count, blank = count + (not blank), True
            return count + (not blank)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error, zstandard.ZstdError):
        return None


def mean_characters(path: Path) -> float | None:
    """Characters of text in a row of a JSONL file, the mean of its first rows; None for other files."""
    if ".jsonl" not in path.name or not path.is_file():
        return None
    lengths = list[int]()
    try:
        with open_text(path) as file:
            while len(lengths) < _ROWS_LOOKED_AT and (line := file.readline(_LONGEST_LINE)):
                if line.strip():
                    lengths.append(_text_in(parse_json(line.encode())))
    except (*DAMAGE, EOFError, zlib.error, zstandard.ZstdError, CharterError):
        pass  # whoever reads the rows says what is wrong with them
    return sum(lengths) / len(lengths) if lengths else None


def _text_in(value: object, column: str = "") -> int:
    """Characters of all texts in a value of JSON, by the names that rows have for them."""
    if isinstance(value, str):
        return len(value) if column in _TEXT_KEYS else 0
    if isinstance(value, Mapping):
        return sum(_text_in(member, str(name)) for name, member in value.items())
    return sum(_text_in(member, column) for member in value) if isinstance(value, list) else 0


def variant_of_folder(folder: Path) -> str:
    """The variant of a model folder by its config.json, see `variant_of_config`. Raises CharterError."""
    try:
        return variant_of_config(parse_json_file(inside(folder, "config.json")))
    except DAMAGE as error:
        raise CharterError(f"{folder / 'config.json'} cannot be read: {line_of(error)}") from None


def variant_of_config(config: Mapping[str, object]) -> str:
    """The variant: "labeller" for a reader of principles, "rating" for a sequence classifier with the label
    HARM_RATING, "preference" for another, else "policy"."""
    names, labels = config.get("architectures"), config.get("id2label")
    if names == [READER]:
        return "labeller"
    if not isinstance(names, list) or not any("ForSequenceClassification" in str(name) for name in names):
        return "policy"
    return "rating" if isinstance(labels, dict) and HARM_RATING in labels.values() else "preference"


def _first_row(path: Path) -> dict[str, object] | None:
    try:
        with open_text(path) as file:
            while line := file.readline(LONGEST_JSON):
                if line.strip():
                    row = parse_json(line.encode())
                    return row if isinstance(row, dict) else None
    except (OSError, ValueError, EOFError, zlib.error, zstandard.ZstdError):
        return None
    return None
