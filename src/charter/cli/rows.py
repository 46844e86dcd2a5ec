"""Rows that people bring to `charter data`: their kind, a summary and notes. Exam papers come as JSONL, CSV, a text, or
a PDF with a text layer.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.recognise import ROW_ENDINGS, kind_of_row
from charter.ground.text.columns import axis_of, raw_rows, source_rows
from charter.ground.text.dialogue import Comparison, Dialogue, Message, prompt_of
from charter.ground.text.exam_items import item_row
from charter.ground.text.exam_papers import import_exam, read_paper, with_source
from charter.ground.text.examples import read_triples
from charter.ground.text.jsonl import read_text, write_jsonl
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
from charter.terminal.options import DataKind
from charter.terminal.tables import counted

# columns that neither TRL nor HH-RLHF has
_OWN_ALONE = ("id", "topic", "axis", "source", "p_chosen", "weight", "learn_from", "meta")


# kinds of rows whose unknown columns are dropped
UNKEPT = (DataKind.triples, DataKind.judgments, DataKind.votes)
TEXTS = (".txt", ".md", ".text")
REPORT = ".report.md"


@dataclass(frozen=True)
class ReadRows:
    """What a file holds: `rows` in charter's columns, and their `records` if the kind has any.

    `summary` is printed beside the file's name, each of `notes` in its own line.
    """

    kind: DataKind
    summary: str
    rows: Sequence[Mapping[str, Any]]
    records: Sequence[Dialogue | Comparison] = ()
    notes: tuple[str, ...] = ()


def read_rows(file: Path, kind: DataKind | None, axis: str = "") -> ReadRows:
    """Reads rows as `kind`, else as the kind of the first row; `axis` is for comparisons that name none.

    Raises CharterError naming file:line.
    """
    if kind in (None, DataKind.judgments) and _no_verdicts(file):
        return ReadRows(DataKind.judgments, "no verdicts yet", [])
    product = _product_of(file)
    actual_kind = kind or _kind_of_rows(file, product)
    if actual_kind is DataKind.texts:
        return _texts(file)
    if actual_kind is DataKind.triples:
        rows = _triples(file)
    elif actual_kind is DataKind.judgments:
        rows = _judgments(file)
    elif actual_kind is DataKind.votes:
        rows = _votes(file)
    elif actual_kind is DataKind.comparisons:
        rows = _comparisons(file, axis)
    else:
        rows = _dialogues(file, kind)
    return replace(rows, notes=(*rows.notes, *_unknown_columns(file, rows.kind)))


def note_axis(file: Path, content: ReadRows, axis: str) -> str:
    """Which axis was set for the comparisons that name none, and why; "" if there are no such comparisons.

    Raises CharterError if `axis` is set and no row takes it.
    """
    rows = silent = 0
    axes: set[str] = set()
    if content.kind is DataKind.comparisons:
        for path in files_of(file, "comparisons"):
            has_axis = ["axis" in row for _, row in source_rows(path)]
            rows, silent = rows + len(has_axis), silent + has_axis.count(False)
            axes |= {axis_of(path)} if not all(has_axis) else set()
    if not silent:
        if axis:
            raise CharterError(
                f"no row of {file} takes an axis: {content.kind} that name none were expected"
                " to be comparisons; leave --axis out"
            )
        return ""
    named_axes = axes - {""}
    axis_names = axis or ", ".join(sorted(named_axes | ({DEFAULT_AXIS} if "" in axes else set())))
    every = "the comparison" if rows == 1 else f"all {counted(len(content.rows), 'comparisons')}"
    whom = every if silent == rows else "the comparisons that name none"
    why = "the file's name says so" if named_axes else "the file's name says nothing"
    return f"axis {axis_names} for {whom}: {'--axis says so' if axis else f'{why}; --axis sets another'}"


def note_left_out(content: ReadRows) -> str:
    """Which of charter's columns the forms of other tools leave out; "" if they hold nothing."""
    columns = [name for name in _OWN_ALONE if any(row.get(name) not in (None, "", {}) for row in content.rows)]
    turned = any(row.get("p_chosen", 1.0) < 0.5 for row in content.rows)
    ending = "; pairs with p_chosen below one half changed sides" if turned else ""
    return f"left out, as the form has no column for it: {', '.join(columns)}{ending}" if columns else ""


def _product_of(file: Path) -> str | None:
    """The kind of product in an artifact, None for other files and folders. Raises CharterError if it has no rows."""
    if not (file / MANIFEST).is_file():
        return None
    kind = read_manifest(file).kind
    if kind not in ("dialogues", "comparisons", "judgments"):
        raise CharterError(f"{file} is a {kind} and has no rows; give a file of rows, or a step that wrote some")
    return kind


def _kind_of_rows(file: Path, product: str | None) -> DataKind:
    """The kind of an artifact's product, or that of the first row of a file or of a folder's first file."""
    kind_name = product
    if kind_name is None:
        first = next(source_rows(files_of(file, "comparisons")[0]), None)
        if first is None:
            raise CharterError(f"{file} holds no rows; expected at least one below the names of the columns")
        kind_name = kind_of_row(first[1])
    by_name = {
        kind.value: kind for kind in (DataKind.comparisons, DataKind.triples, DataKind.judgments, DataKind.votes)
    }
    return (by_name | {"text": DataKind.texts}).get(kind_name, DataKind.dialogues)


def _texts(file: Path) -> ReadRows:
    texts = read_texts(file)
    size = sum(len(text) for _, text in texts)
    rows = [{"id": name, "text": text} for name, text in texts]
    return ReadRows(DataKind.texts, f"{counted(len(texts), 'texts')}, {size:,} characters", rows)


def _triples(file: Path) -> ReadRows:
    rows = read_triples(file)
    summary = _describe(DataKind.triples, [row["messages"] for row in rows], (row["topic"] for row in rows))
    return ReadRows(DataKind.triples, summary, rows)


def _judgments(file: Path) -> ReadRows:
    judgments = read_judgments(file)
    verdicts = Counter(j.verdict or "waiting" for j in judgments)
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in (*VERDICTS, "waiting") if verdicts[verdict])
    prompts = counted(len({j.id for j in judgments}), "prompts")
    summary = f"{counted(len(judgments), 'judgments')} on replies to {prompts}: {counts}"
    return ReadRows(DataKind.judgments, summary, [judgment_row(j) for j in judgments])


def _no_verdicts(file: Path) -> bool:
    """Whether an artifact, such as an export of reviews, or its file of judgments has no verdicts."""
    path = file / "judgments.jsonl" if file.is_dir() else file
    inside = path.name == "judgments.jsonl" and (path.parent / MANIFEST).is_file()
    return inside and path.is_file() and not path.read_bytes().strip()


def _votes(file: Path) -> ReadRows:
    """Votes on pairs of replies, checked as `charter elo` checks them."""
    from charter.ground.measure.votes import check_votes

    placed = [placed for path in files_of(file, "votes") for placed in raw_rows(path)]
    rows = [row for _, row in placed]
    check_votes(rows, lambda number: placed[number][0])
    raters = len({str(row["rater"]) for row in rows if row.get("rater") not in (None, "")})
    by = f" by {counted(raters, 'raters')}" if raters else ""
    axes = len({row.get("axis") or "all" for row in rows})
    models = {row[side] for row in rows for side in ("model_a", "model_b")}
    winners = Counter(row["winner"] for row in rows)
    counts = [f"{winners['a'] + winners['b']} decided"]
    counts += [counted(winners["tie"], "ties")] if winners["tie"] else []
    counts += [f"{winners[w]} {w.replace('_', ' ')}" for w in ("both_bad", "unsure") if winners[w]]
    summary = (
        f"{counted(len(rows), 'votes')}{by} on {'1 axis' if axes == 1 else f'{axes} axes'}; "
        f"{counted(len(models), 'models')}, {', '.join(counts)}"
    )
    return ReadRows(DataKind.votes, summary, rows)


def _comparisons(file: Path, axis: str) -> ReadRows:
    dropped: Counter[str] = Counter()
    pairs = read_comparisons(file, dropped, axis)
    summary = _describe(DataKind.comparisons, [c.messages for c in pairs], (c.topic for c in pairs))
    summary += _describe_dropped(dropped)
    return ReadRows(DataKind.comparisons, summary, [comparison_row(c) for c in pairs], pairs)


def _describe_dropped(dropped: Mapping[str, int]) -> str:
    return "".join(f"; {count} left out: {reason}" for reason, count in dropped.items())


def _dialogues(file: Path, kind: DataKind | None) -> ReadRows:
    dropped: Counter[str] = Counter()
    rows = read_dialogues(file, kind is DataKind.dialogues, dropped)
    dialogues = [prompt_of(d) for d in rows] if kind is DataKind.prompts else rows
    actual_kind = DataKind.prompts if all(d.is_prompt for d in dialogues) else DataKind.dialogues
    summary = _describe(actual_kind, [d.messages for d in dialogues], (d.topic for d in dialogues))
    summary += _describe_dropped(dropped)
    return ReadRows(actual_kind, summary, [dialogue_row(d) for d in dialogues], dialogues)


def _describe(kind: DataKind, dialogues: Sequence[Sequence[Message]], topics: Iterable[str]) -> str:
    """The kind and number of rows, their mean turns and size, and the number of topics."""
    turns = sum(map(len, dialogues)) / len(dialogues)
    size = sum(len(message["content"]) for messages in dialogues for message in messages)
    topic_count = len({topic for topic in topics if topic})
    return (
        f"{counted(len(dialogues), kind)}, {turns:.1f} turns and {size / len(dialogues):.0f} characters each, "
        f"{counted(topic_count, 'topics')}"
    )


def _unknown_columns(file: Path, kind: DataKind) -> tuple[str, ...]:
    """A note that names the columns that charter doesn't know, and those they may be misspellings of."""
    name = "dialogues" if kind is DataKind.prompts else kind.value
    columns = KNOWN_COLUMNS[name]
    unknown = sorted(
        {
            str(column)
            for path in files_of(file, name)
            for _, row in source_rows(path)
            for column in row.keys() - columns
        }
    )
    if not unknown:
        return ()
    close = [near for column in unknown for near in difflib.get_close_matches(column, columns, n=1)]
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    fate = "ignored" if kind in UNKEPT else "kept in meta"
    return (f"unknown columns, {fate}: {', '.join(unknown)}{hint}",)


def write_exam(path: Path, to: Path, exam: str, pictures: Path | None) -> str:
    """Writes the items of a paper to `to`, and beside it the outcome of each; returns the lines to print. Raises
    CharterError at what can't be read."""
    imported = with_source(import_exam(_rows(path), exam, _described(pictures)), path.name)
    report = to.with_name(f"{to.name.partition('.')[0]}{REPORT}")
    write_jsonl(to, [item_row(item) for item in imported.items])
    report.write_text(imported.report(), "utf-8")
    return f"{to}: {len(imported.items)} items: {imported.summary}\n  the outcome of each: {report}"


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".pdf":
        text = _pdf_text(path)
    elif path.suffix.lower() in TEXTS:
        text = read_text(path)
    elif path.name.endswith(ROW_ENDINGS):
        yield from ((place, {"number": n} | row) for n, (place, row) in enumerate(raw_rows(path), 1))
        return
    else:
        raise CharterError(f"{path} is no exam paper that can be read; give JSONL, CSV, a text or a PDF")
    for row in read_paper(text):
        page = f"page {row['page']}, " if row["page"] else ""
        yield f"{path}: {page}question {row['number']}", row


def _pdf_text(path: Path) -> str:
    from charter.ground.documents.document import Unreadable
    from charter.ground.documents.reading import read_document

    try:
        return read_document(path.read_bytes(), path.name).text
    except Unreadable as error:
        raise CharterError(f"{path}: {error}") from None


def _described(path: Path | None) -> dict[str, str]:
    """What a person says of pictures, by item. Raises CharterError for a row without id or text."""
    described: dict[str, str] = {}
    for place, row in raw_rows(path) if path else ():
        if not row.get("id") or not str(row.get("text") or "").strip():
            raise CharterError(f"{place}: a description needs id, the item's, and text; it has {', '.join(row)}")
        described[str(row["id"])] = str(row["text"])
    return described
