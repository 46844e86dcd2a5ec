"""Dialogues and comparisons in files: our own rows, TRL's columns and HH-RLHF's transcripts, in and out.

Readers take a file or an artifact's folder, and name file:line in every error.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import OWN_COLUMNS, kind_of_row
from charter.ground.settings.seed import derive_seed
from charter.ground.text.columns import plain_name, source_rows
from charter.ground.text.dialogue import (
    Comparison,
    Dialogue,
    Message,
    assistant,
    check_messages,
    check_text,
    duplicates,
    prompt_of,
    user,
)
from charter.ground.text.jsonl import numbered_rows, read_text, write_jsonl
from charter.ground.text.transcript import format_transcript, is_transcript, parse_transcript

_DIALOGUE_KEYS = {"id", "messages", "topic", "source", "weight", "learn_from", "meta", "prompt", "completion"}
_COMPARISON_KEYS = {
    "id",
    "messages",
    "chosen",
    "rejected",
    "p_chosen",
    "axis",
    "source",
    "topic",
    "weight",
    "meta",
    "prompt",
}
# the columns that mean something; `unseen` is one of those that stand in meta
KNOWN_COLUMNS = {"dialogues": _DIALOGUE_KEYS | {"unseen"}, "comparisons": _COMPARISON_KEYS}
Record = TypeVar("Record", Dialogue, Comparison)


class NoPreference(CharterError):
    """A pair that carries no preference; readers drop it and count the reason."""


def read_dialogues(path: Path) -> list[Dialogue]:
    """Dialogues of a file or a Dialogues artifact, prompts (ending with a user's turn) included.

    Rows: {"messages"}, {"prompt", "completion"}, {"prompt"}, or any set that `columns` knows; a .txt file is
    one prompt a line.
    """
    return _read(path, "dialogues", dialogue_of_row, None)


def read_prompts(paths: Iterable[Path], limit: int = 0, seed: int = 0) -> list[Dialogue]:
    """What is asked in the dialogues of some files, up to their last user turn; `limit` of them at random, 0: all.

    Raises CharterError where two files share an id: seeds and intervals go by it.
    """
    prompts = [prompt_of(d) for path in paths for d in read_dialogues(path)]
    check_distinct("the prompts", (d.id for d in prompts))
    if limit and limit < len(prompts):
        return random.Random(derive_seed(seed, "limit")).sample(prompts, limit)
    return prompts


def read_comparisons(path: Path, dropped: Counter[str] | None = None) -> list[Comparison]:
    """Comparisons of a file or a Comparisons artifact.

    Rows: {"messages", "chosen", "rejected"}, TRL's {"prompt", "chosen", "rejected"} as strings or messages,
    or HH-RLHF's two transcripts. Pairs of identical replies, or of transcripts that differ before the last
    reply, carry no preference: they are left out and counted in `dropped` by reason.
    """
    return _read(path, "comparisons", comparison_of_row, dropped if dropped is not None else Counter())


def _read(
    path: Path, name: str, make: Callable[[Mapping[str, Any]], Record], dropped: Counter[str] | None
) -> list[Record]:
    records: list[Record] = []
    for file in files_of(path, name):
        for place, row in source_rows(file):
            try:
                records.append(make(row))
            except NoPreference as reason:
                if dropped is None:
                    raise
                dropped[str(reason)] += 1
            except CharterError as error:
                raise CharterError(f"{place}: {error}") from None
    if not records:
        raise CharterError(f"{path} holds no {name}" + (f" (dropped: {dict(dropped)})" if dropped else ""))
    check_distinct(str(path), (record.id for record in records))
    return records


def check_distinct(what: str, ids: Iterable[str]) -> None:
    """Raises CharterError where an id names more than one row of `what`."""
    if repeated := duplicates(ids):
        raise CharterError(
            f"{what}: the id {repeated[0]!r} occurs more than once; ids name rows and must differ"
        )


def files_of(path: Path, name: str) -> list[Path]:
    """The file itself; of a folder its `name`.jsonl, else all its data files."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    own = [
        path / f"{name}.jsonl{ending}"
        for ending in ("", ".gz", ".zst")
        if (path / f"{name}.jsonl{ending}").is_file()
    ]
    if own:
        return own[:1]
    if (path / "manifest.json").is_file():
        raise CharterError(f"{path} is an artifact without {name}.jsonl; give one that holds {name}")
    found = sorted(f for f in path.iterdir() if plain_name(f) != f.name and f.is_file())
    if not found:
        raise CharterError(f"{path} holds no {name}.jsonl and no other data file")
    return found


def dialogue_of_row(row: Mapping[str, Any]) -> Dialogue:
    """A dialogue from our columns or TRL's. Raises CharterError, also for a row of another kind."""
    check_kind(row, "dialogues")
    if "messages" in row:
        messages = check_messages(row["messages"])
    elif "prompt" in row:
        messages = prompt_messages(row["prompt"])
        if "completion" in row:
            messages = check_messages([*messages, assistant(_reply(row["completion"], "completion"))])
    else:
        raise CharterError(f"a row with {_keys(row)}; a dialogue needs messages, or prompt (and completion)")
    meta = _meta(row, _DIALOGUE_KEYS)
    return Dialogue(
        _id(row),
        messages,
        _text(row, "topic", ""),
        _text(row, "source", ""),
        _weight(row),
        meta,
        _learn_from(row),
    )


def comparison_of_row(row: Mapping[str, Any]) -> Comparison:
    """A comparison from our columns, TRL's or HH-RLHF's. Raises NoPreference or CharterError."""
    check_kind(row, "comparisons")
    if "messages" in row:
        messages = check_messages(row["messages"], last="user")
    elif "prompt" in row:
        messages = check_messages(prompt_messages(row["prompt"]), last="user")
    else:
        return _whole_pair(row)
    return _comparison(row, messages, _reply(row["chosen"], "chosen"), _reply(row["rejected"], "rejected"))


def _whole_pair(row: Mapping[str, Any]) -> Comparison:
    """Chosen and rejected are whole dialogues (transcripts or messages) that share all but the last reply."""
    sides: list[tuple[Message, ...]] = []
    for key in ("chosen", "rejected"):
        value = row[key]
        if not isinstance(value, str):
            sides.append(check_messages(value, last="assistant"))
            continue
        if not is_transcript(value, headed=True):
            raise CharterError(f"{key} has neither a prompt beside it nor the \\n\\nHuman: form")
        try:
            sides.append(check_messages(parse_transcript(value), last="assistant"))
        except CharterError:
            raise NoPreference("turns out of order") from None
    chosen, rejected = sides
    if chosen[:-1] != rejected[:-1]:
        raise NoPreference("no common prefix")
    return _comparison(row, chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])


def _comparison(
    row: Mapping[str, Any], messages: tuple[Message, ...], chosen: str, rejected: str
) -> Comparison:
    if chosen == rejected:
        raise NoPreference("identical")
    p = row.get("p_chosen", 1.0)
    if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p <= 1:
        raise CharterError(f"p_chosen is {p!r}, expected a number between 0 and 1")
    axis, source = _text(row, "axis", "helpful"), _text(row, "source", "human")
    meta = _meta(row, _COMPARISON_KEYS)
    topic, weight = _text(row, "topic", ""), _weight(row)
    return Comparison(_id(row), messages, chosen, rejected, float(p), axis, source, topic, meta, weight)


def _learn_from(row: Mapping[str, Any]) -> int:
    number = row.get("learn_from", 0)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise CharterError(f"learn_from is {number!r}, expected the number of a message, the first being 0")
    return number


def _weight(row: Mapping[str, Any]) -> float:
    weight = row.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
        raise CharterError(f"weight is {weight!r}, expected a number of 0 or more")
    return float(weight)


def prompt_messages(value: object) -> tuple[Message, ...]:
    """Messages of a prompt: a list of them, a transcript, or one user turn's text."""
    if not isinstance(value, str):
        return check_messages(value)
    if is_transcript(value):
        return parse_transcript(value)
    if not value.strip():
        raise CharterError("the prompt is empty")
    return check_messages([user(value)])


def _reply(value: object, name: str) -> str:
    """The text of a reply: a string, or a list of one assistant message."""
    if isinstance(value, str):
        return check_text(value, name)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        role, content = value[0].get("role"), value[0].get("content")
        if role == "assistant" and isinstance(content, str):
            return check_text(content, name)
    raise CharterError(f"{name} must be a text or a list of one assistant message")


def _id(row: Mapping[str, Any]) -> str:
    value = row.get("id")
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise CharterError(f"id is {value!r}, expected a text")
    return str(value)


def _text(row: Mapping[str, Any], key: str, default: str) -> str:
    value = row.get(key, default)
    if not isinstance(value, str):
        raise CharterError(f"{key} is {type(value).__name__}, expected a text")
    return value


def _meta(row: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """The row's meta, and every column that has no place of its own."""
    meta = row.get("meta", {})
    if not isinstance(meta, dict):
        raise CharterError(f"meta is {type(meta).__name__}, expected an object")
    return {**{k: v for k, v in row.items() if k not in known}, **meta}


def check_kind(row: Mapping[str, Any], wanted: str) -> None:
    """Raises CharterError for a row that is of another kind, or lacks a column that only this kind has."""
    found = kind_of_row(row)
    kind = found if found in OWN_COLUMNS else wanted
    own = OWN_COLUMNS.get(kind, ())
    missing = " and ".join(column for column in own if column not in row)
    if kind != wanted or missing:
        among = f" among {wanted}" if kind != wanted else ""
        without = f", without {missing}" if missing else ""
        raise CharterError(
            f"a row of {kind}{among}, with {_keys(row)}{without}; {kind} have {' and '.join(own)}, and a file "
            "of their own"
        )


def _keys(row: Mapping[str, Any]) -> str:
    return "no columns" if not row else "the columns " + ", ".join(sorted(map(str, row)))


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

    TRL has no soft labels: a comparison whose p_chosen is below one half changes sides.
    """
    if isinstance(record, Dialogue):
        return {"messages": list(record.messages)}
    better, worse = _sides(record)
    return {"prompt": list(record.messages), "chosen": [assistant(better)], "rejected": [assistant(worse)]}


def to_hh(comparison: Comparison) -> dict[str, str]:
    """HH-RLHF's columns: two whole transcripts. Raises CharterError where a turn's text looks like turns."""
    better, worse = _sides(comparison)
    prompt: Sequence[Message] = comparison.messages
    return {
        "chosen": format_transcript([*prompt, assistant(better)]),
        "rejected": format_transcript([*prompt, assistant(worse)]),
    }


def _sides(comparison: Comparison) -> tuple[str, str]:
    pair = (comparison.chosen, comparison.rejected)
    return pair if comparison.p_chosen >= 0.5 else (pair[1], pair[0])


def read_texts(path: Path) -> list[tuple[str, str]]:
    """(id, text) of a file: JSON Lines with "text" (and "id" or "name"), or one document of plain text."""
    found: list[tuple[str, str]] = []
    for file in files_of(path, "text"):
        if ".jsonl" not in file.name:
            found.append((plain_name(file), read_text(file)))
            continue
        for number, row in numbered_rows(file):
            if not isinstance(row.get("text"), str):
                raise CharterError(f"{file}:{number}: a row with {_keys(row)}; a text needs the column text")
            name = row.get("id", row.get("name", f"{plain_name(file)}-{number:05d}"))
            found.append((str(name), check_text(row["text"], f"{file}:{number}")))
    if not any(text.strip() for _, text in found):
        raise CharterError(f"{path} holds no text")
    return found
