"""Rows that people bring to `charter data`: what kind they are, and what is to be said of them."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.recognise import kind_of_row
from charter.ground.text.columns import axis_of, raw_rows, source_rows
from charter.ground.text.dialogue import Comparison, Dialogue, Message, prompt_of
from charter.ground.text.examples import read_triples
from charter.ground.text.judgments import VERDICTS, judgment_row, read_judgments
from charter.ground.text.parsing import DEFAULT_AXIS, KNOWN_COLUMNS
from charter.ground.text.records import (
    comparison_row,
    dialogue_row,
    files_of,
    read_comparisons,
    read_dialogues,
    read_texts,
)
from charter.terminal.tables import counted

# columns that neither TRL nor HH-RLHF has
_OWN_ALONE = ("id", "topic", "axis", "source", "p_chosen", "weight", "learn_from", "meta")


class DataKind(StrEnum):
    """What a file of rows is read as."""

    prompts = "prompts"
    dialogues = "dialogues"
    comparisons = "comparisons"
    triples = "triples"
    judgments = "judgments"
    votes = "votes"
    texts = "texts"


# rows whose further columns are read by nothing
UNKEPT = (DataKind.triples, DataKind.judgments, DataKind.votes)


@dataclass(frozen=True)
class Found:
    """What a file holds: `rows` in charter's columns, and the records that they are of if there are such.

    `summary` is said beside the file's name, each of `notes` in a line of its own.
    """

    kind: DataKind
    summary: str
    rows: Sequence[Mapping[str, Any]]
    records: Sequence[Dialogue | Comparison] = ()
    notes: tuple[str, ...] = ()


def read_rows(file: Path, asked: DataKind | None, axis: str = "") -> Found:
    """Reads rows as the asked kind, or as what the first looks like; `axis` is for comparisons that name none.

    Raises CharterError naming file:line.
    """
    if asked in (None, DataKind.judgments) and _no_verdicts(file):
        return Found(DataKind.judgments, "no verdicts yet", [])
    made = _made(file)
    kind = asked or _kind_of_rows(file, made)
    if kind is DataKind.texts:
        return _texts(file)
    if kind is DataKind.triples:
        found = _triples(file)
    elif kind is DataKind.judgments:
        found = _judgments(file)
    elif kind is DataKind.votes:
        found = _votes(file)
    elif kind is DataKind.comparisons:
        found = _comparisons(file, axis)
    else:
        found = _dialogues(file, asked)
    return replace(found, notes=(*found.notes, *_unknown_columns(file, found.kind)))


def axis_note(file: Path, found: Found, axis: str) -> str:
    """Which axis the comparisons have got that named none, and why; "" if there are none.

    Raises CharterError when `axis` was asked for and no row takes it.
    """
    rows = silent = 0
    axes: set[str] = set()
    if found.kind is DataKind.comparisons:
        for path in files_of(file, "comparisons"):
            named = ["axis" in row for _, row in source_rows(path)]
            rows, silent = rows + len(named), silent + named.count(False)
            axes |= {axis_of(path)} if not all(named) else set()
    if not silent:
        if axis:
            raise CharterError(
                f"no row of {file} takes an axis: {found.kind} that name none were expected"
                " to be comparisons; leave --axis out"
            )
        return ""
    told = axes - {""}
    given = axis or ", ".join(sorted(told | ({DEFAULT_AXIS} if "" in axes else set())))
    every = "the comparison" if rows == 1 else f"all {counted(len(found.rows), 'comparisons')}"
    whom = every if silent == rows else "the comparisons that name none"
    why = "the file's name says so" if told else "the file's name says nothing"
    return f"axis {given} for {whom}: {'--axis says so' if axis else f'{why}; --axis sets another'}"


def left_out_note(found: Found) -> str:
    """Which of charter's columns the forms of other tools have no place for; "" where none says anything."""
    said = [name for name in _OWN_ALONE if any(row.get(name) not in (None, "", {}) for row in found.rows)]
    turned = any(row.get("p_chosen", 1.0) < 0.5 for row in found.rows)
    ending = "; pairs with p_chosen below one half changed sides" if turned else ""
    return f"left out, as the form has no column for it: {', '.join(said)}{ending}" if said else ""


def _made(file: Path) -> str | None:
    """What an artifact holds, None for other files and folders. Raises CharterError for one without rows."""
    if not (file / MANIFEST).is_file():
        return None
    kind = read_manifest(file).kind
    if kind not in ("dialogues", "comparisons", "judgments"):
        raise CharterError(
            f"{file} is a {kind} and has no rows; give a file of rows, or a step that made some"
        )
    return kind


def _kind_of_rows(file: Path, made: str | None) -> DataKind:
    """What an artifact holds, or what the first row of a file, or of a folder's first file, looks like."""
    found = made
    if found is None:
        first = next(source_rows(files_of(file, "comparisons")[0]), None)
        if first is None:
            raise CharterError(f"{file} holds no rows; expected one below the names of the columns")
        found = kind_of_row(first[1])
    named = {
        kind.value: kind
        for kind in (DataKind.comparisons, DataKind.triples, DataKind.judgments, DataKind.votes)
    }
    return (named | {"text": DataKind.texts}).get(found, DataKind.dialogues)


def _texts(file: Path) -> Found:
    texts = read_texts(file)
    size = sum(len(text) for _, text in texts)
    rows = [{"id": name, "text": text} for name, text in texts]
    return Found(DataKind.texts, f"{counted(len(texts), 'texts')}, {size:,} characters", rows)


def _triples(file: Path) -> Found:
    rows = read_triples(file)
    summary = _describe(DataKind.triples, [row["messages"] for row in rows], (row["topic"] for row in rows))
    return Found(DataKind.triples, summary, rows)


def _judgments(file: Path) -> Found:
    read = read_judgments(file)
    given = Counter(j.verdict or "waiting" for j in read)
    told = ", ".join(f"{given[verdict]} {verdict}" for verdict in (*VERDICTS, "waiting") if given[verdict])
    prompts = counted(len({j.id for j in read}), "prompts")
    summary = f"{counted(len(read), 'judgments')} on replies to {prompts}: {told}"
    return Found(DataKind.judgments, summary, [judgment_row(j) for j in read])


def _no_verdicts(file: Path) -> bool:
    """Whether an artifact, such as an export of reviews, or its file of judgments holds none."""
    path = file / "judgments.jsonl" if file.is_dir() else file
    inside = path.name == "judgments.jsonl" and (path.parent / MANIFEST).is_file()
    return inside and path.is_file() and not path.read_bytes().strip()


def _votes(file: Path) -> Found:
    """Votes on pairs of replies, checked as `charter elo` checks them."""
    from charter.ground.measure.votes import check_votes

    placed = [placed for path in files_of(file, "votes") for placed in raw_rows(path)]
    rows = [row for _, row in placed]
    check_votes(rows, lambda number: placed[number][0])
    raters = len({str(row["rater"]) for row in rows if row.get("rater") not in (None, "")})
    by = f" by {counted(raters, 'raters')}" if raters else ""
    axes = len({row.get("axis") or "all" for row in rows})
    models = {row[side] for row in rows for side in ("model_a", "model_b")}
    given = Counter(row["winner"] for row in rows)
    told = [f"{given['a'] + given['b']} decided"]
    told += [counted(given["tie"], "ties")] if given["tie"] else []
    told += [f"{given[w]} {w.replace('_', ' ')}" for w in ("both_bad", "unsure") if given[w]]
    summary = (
        f"{counted(len(rows), 'votes')}{by} on {'1 axis' if axes == 1 else f'{axes} axes'}; "
        f"{counted(len(models), 'models')}, {', '.join(told)}"
    )
    return Found(DataKind.votes, summary, rows)


def _comparisons(file: Path, axis: str) -> Found:
    dropped: Counter[str] = Counter()
    pairs = read_comparisons(file, dropped, axis)
    summary = _describe(DataKind.comparisons, [c.messages for c in pairs], (c.topic for c in pairs))
    summary += _left_out(dropped)
    return Found(DataKind.comparisons, summary, [comparison_row(c) for c in pairs], pairs)


def _left_out(dropped: Mapping[str, int]) -> str:
    return "".join(f"; {count} left out: {reason}" for reason, count in dropped.items())


def _dialogues(file: Path, asked: DataKind | None) -> Found:
    dropped: Counter[str] = Counter()
    read = read_dialogues(file, asked is DataKind.dialogues, dropped)
    found = [prompt_of(d) for d in read] if asked is DataKind.prompts else read
    kind = DataKind.prompts if all(d.is_prompt for d in found) else DataKind.dialogues
    summary = _describe(kind, [d.messages for d in found], (d.topic for d in found))
    summary += _left_out(dropped)
    return Found(kind, summary, [dialogue_row(d) for d in found], found)


def _describe(kind: DataKind, asked: Sequence[Sequence[Message]], topics: Iterable[str]) -> str:
    """The kind and number of rows, their turns and size, and how many topics they name."""
    turns = sum(map(len, asked)) / len(asked)
    size = sum(len(message["content"]) for messages in asked for message in messages)
    named = len({topic for topic in topics if topic})
    return (
        f"{counted(len(asked), kind)}, {turns:.1f} turns and {size / len(asked):.0f} characters each, "
        f"{counted(named, 'topics')}"
    )


def _unknown_columns(file: Path, kind: DataKind) -> tuple[str, ...]:
    """A note that names the columns that mean nothing to charter, and those they may be misspellings of."""
    name = "dialogues" if kind is DataKind.prompts else kind.value
    known = KNOWN_COLUMNS[name]
    unknown = sorted(
        {
            str(column)
            for path in files_of(file, name)
            for _, row in source_rows(path)
            for column in row.keys() - known
        }
    )
    if not unknown:
        return ()
    close = [near for column in unknown for near in difflib.get_close_matches(column, known, n=1)]
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    kept = "which nothing reads" if kind in UNKEPT else "kept in meta"
    return (f"unknown columns, {kept}: {', '.join(unknown)}{hint}",)
