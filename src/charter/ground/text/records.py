"""Dialogues and comparisons in files: our own rows, TRL's columns and HH-RLHF's transcripts, in and out.

Readers take a file or an artifact's folder, and name file:line in every error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed, sample_rows
from charter.ground.text.columns import axis_of, plain_name, source_rows
from charter.ground.text.dialogue import (
    Comparison,
    Dialogue,
    Message,
    assistant,
    check_text,
    duplicates,
    prompt_of,
    sides,
)
from charter.ground.text.jsonl import numbered_rows, read_text, write_jsonl
from charter.ground.text.parsing import (
    DEFAULT_AXIS,
    LeftOut,
    comparison_of_row,
    dialogue_of_row,
    format_transcript,
    keys_of,
    lesson_of_row,
)

Record = TypeVar("Record")


def read_dialogues(path: Path, lessons: bool = False, dropped: Counter[str] | None = None) -> list[Dialogue]:
    """Dialogues of a file or a Dialogues artifact, prompts (ending with a user's turn) included.

    Rows: {"messages"}, {"prompt", "completion"}, {"prompt"}, or any set that `columns` knows; a .txt file is
    one prompt a line. With `lessons` each must hold a turn of the assistant's to learn from. With
    `dropped`, transcripts whose turns are empty or out of order are left out and counted in it.
    """
    return read_records(path, "dialogues", lesson_of_row if lessons else dialogue_of_row, dropped)


def read_prompts(paths: Iterable[Path], limit: int = 0, seed: int = 0) -> list[Dialogue]:
    """The prompts in some files: each dialogue up to its last user turn. `limit` draws that many at random, 0: all.

    Raises CharterError if two files share an id: seeds and intervals depend on it.
    """
    prompts = [prompt_of(d) for path in paths for d in read_dialogues(path)]
    check_distinct("the prompts", (d.id for d in prompts))
    return sample_rows(prompts, limit, derive_seed(seed, "limit"))


def read_comparisons(path: Path, dropped: Counter[str] | None = None, axis: str = "") -> list[Comparison]:
    """Comparisons of a file or a Comparisons artifact.

    Rows: {"messages", "chosen", "rejected"}, TRL's {"prompt", "chosen", "rejected"} as strings or messages,
    or HH-RLHF's two transcripts. Pairs of identical replies, or of transcripts that differ before the last
    reply, carry no preference: they are left out and counted in `dropped` by reason. Rows without an axis
    get `axis`, else the one that the file's name stands for, else helpful.
    """

    def columns_of(file: Path) -> dict[str, str]:
        return {"axis": axis or axis_of(file) or DEFAULT_AXIS}

    counts = Counter[str]() if dropped is None else dropped
    return read_records(path, "comparisons", comparison_of_row, counts, columns_of)


def read_records(
    path: Path,
    name: str,
    make: Callable[[Mapping[str, Any]], Record],
    dropped: Counter[str] | None = None,
    columns_of: Callable[[Path], Mapping[str, Any]] | None = None,
) -> list[Record]:
    """The record that `make` returns for each row of a file, or of the `name` file in a folder. `columns_of`
    gives the default columns of a file's rows.

    Raises CharterError naming file:line, also if two rows share an id. With `dropped`, rows without a
    preference are left out and counted in it by reason.
    """
    records: list[Record] = []
    places: dict[str, str] = {}
    for file in files_of(path, name):
        defaults = columns_of(file) if columns_of else {}
        for place, row in source_rows(file):
            try:
                record = make({**defaults, **row})
                _note_id(places, str(row["id"]), place)
            except LeftOut as reason:
                if dropped is None:
                    raise CharterError(f"{place}: {reason}") from None
                dropped[str(reason)] += 1
            except CharterError as error:
                raise CharterError(f"{place}: {error}") from None
            else:
                records.append(record)
    if not records:
        raise CharterError(f"{path} holds no {name}" + (f" (dropped: {dict(dropped)})" if dropped else ""))
    return records


def _note_id(places: dict[str, str], id: str, place: str) -> None:
    """Records the place of an id. Raises CharterError if the id already has another place."""
    if (first := places.setdefault(id, place)) != place:
        raise CharterError(f"the id {id!r} occurs more than once, first at {first}; ids name rows and must differ")


def check_distinct(what: str, ids: Iterable[str]) -> None:
    """Raises CharterError if an id names more than one row of `what`."""
    if repeated := duplicates(ids):
        raise CharterError(f"{what}: the id {repeated[0]!r} occurs more than once; ids name rows and must differ")


def files_of(path: Path, name: str) -> list[Path]:
    """The file itself; for a folder its `name`.jsonl, else all its data files."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    named_files = [
        path / f"{name}.jsonl{ending}" for ending in ("", ".gz", ".zst") if (path / f"{name}.jsonl{ending}").is_file()
    ]
    if named_files:
        return named_files[:1]
    if (path / "manifest.json").is_file():
        raise CharterError(f"{path} is an artifact without {name}.jsonl; name one that holds {name}")
    files = sorted(f for f in path.iterdir() if plain_name(f) != f.name and f.is_file())
    if not files:
        raise CharterError(f"{path} holds no {name}.jsonl and no other data file")
    return files


def dialogue_row(dialogue: Dialogue) -> dict[str, Any]:
    """The row that `read_dialogues` reads back as the same dialogue, without columns at their default."""
    row: dict[str, Any] = {"id": dialogue.id, "messages": list(dialogue.messages)}
    extra: dict[str, Any] = {"topic": dialogue.topic, "source": dialogue.source, "meta": dict(dialogue.meta)}
    if dialogue.weight != 1.0:
        extra["weight"] = dialogue.weight
    if dialogue.learn_from:
        extra["learn_from"] = dialogue.learn_from
    return row | {k: v for k, v in extra.items() if v != "" and v != {}}


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """The row that `read_comparisons` reads back as the same comparison; a weight of 1 is left out."""
    c = comparison
    row: dict[str, Any] = {
        "id": c.id,
        "messages": list(c.messages),
        "chosen": c.chosen,
        "rejected": c.rejected,
        "p_chosen": c.p_chosen,
        "axis": c.axis,
        "source": c.source,
        "topic": c.topic,
        "meta": dict(c.meta),
    }
    return row if c.weight == 1.0 else row | {"weight": c.weight}


def write_dialogues(path: Path, dialogues: Iterable[Dialogue]) -> None:
    """Write dialogues as JSON Lines."""
    write_jsonl(path, map(dialogue_row, dialogues))


def write_comparisons(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write comparisons as JSON Lines."""
    write_jsonl(path, map(comparison_row, comparisons))


def to_trl(record: Dialogue | Comparison) -> dict[str, Any]:
    """TRL's columns: messages of a dialogue; prompt, chosen and rejected of a comparison, as message lists.

    TRL has no soft labels: if p_chosen is below one half, the replies swap sides.
    """
    if isinstance(record, Dialogue):
        return {"messages": list(record.messages)}
    better, worse = sides(record)
    return {"prompt": list(record.messages), "chosen": [assistant(better)], "rejected": [assistant(worse)]}


def to_hh(comparison: Comparison) -> dict[str, str]:
    """HH-RLHF's columns: two whole transcripts. Raises CharterError if a turn's text looks like turns."""
    better, worse = sides(comparison)
    prompt: Sequence[Message] = comparison.messages
    return {
        "chosen": format_transcript([*prompt, assistant(better)]),
        "rejected": format_transcript([*prompt, assistant(worse)]),
    }


def read_texts(path: Path) -> list[tuple[str, str]]:
    """(id, text) of a file: JSON Lines with "text" (and "id" or "name"), or one document of plain text.

    Raises CharterError naming file:line, also for an empty text: it holds nothing to score.
    """
    texts: list[tuple[str, str]] = []
    places: dict[str, str] = {}
    for file in files_of(path, "text"):
        if ".jsonl" not in file.name:
            texts.append((plain_name(file), _check_filled(read_text(file), str(file))))
            continue
        for number, row in numbered_rows(file):
            place = f"{file}:{number}"
            if not isinstance(row.get("text"), str):
                raise CharterError(f"{place}: a row with {keys_of(row)}; a text needs the column text")
            name = str(row.get("id", row.get("name", f"{plain_name(file)}-{number:05d}")))
            try:
                _note_id(places, name, place)
                text = check_text(row["text"], "text")
            except CharterError as error:
                raise CharterError(f"{place}: {error}") from None
            texts.append((name, _check_filled(text, place)))
    return texts


def _check_filled(text: str, place: str) -> str:
    """The text. Raises CharterError if it is empty."""
    if not text.strip():
        raise CharterError(f"{place}: the text is empty; write one or remove it")
    return text
