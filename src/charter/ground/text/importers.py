"""Other people's data sets, such as those below CHARTER_DATA, read by kind.

What each set's columns mean stands in `columns`; `records` reads them all.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal, overload

from charter.ground.artifact.errors import CharterError
from charter.ground.text.columns import plain_name, source_rows
from charter.ground.text.dialogue import Comparison, Dialogue
from charter.ground.text.jsonl import read_text
from charter.ground.text.records import (
    NoPreference,
    comparison_of_row,
    dialogue_of_row,
    files_of,
    read_comparisons,
    read_dialogues,
    read_texts,
)

# plain text that holds one document a line
_LINES = ("wikipedia_30_articles",)


@overload
def read_source(path: Path, kind: Literal["dialogues", "prompts"]) -> list[Dialogue]: ...
@overload
def read_source(
    path: Path, kind: Literal["comparisons"], dropped: Counter[str] | None = None
) -> list[Comparison]: ...
@overload
def read_source(path: Path, kind: Literal["texts"]) -> list[tuple[str, str]]: ...
def read_source(
    path: Path, kind: str, dropped: Counter[str] | None = None
) -> list[Dialogue] | list[Comparison] | list[tuple[str, str]]:
    """Records of a data set: "dialogues", "prompts" (the user's side alone), "comparisons" or "texts"."""
    if kind == "dialogues":
        return read_dialogues(path)
    if kind == "prompts":
        return _prompts(path)
    if kind == "comparisons":
        return read_comparisons(path, dropped)
    if kind == "texts":
        return _texts(path)
    raise CharterError(f"there is no kind {kind!r}; expected dialogues, prompts, comparisons or texts")


def _prompts(path: Path) -> list[Dialogue]:
    """Prompts of dialogues (up to the last user turn) and of comparisons."""
    found = []
    for file in files_of(path, "dialogues"):
        for place, row in source_rows(file):
            try:
                if "chosen" in row:
                    c = comparison_of_row(row)
                    found.append(Dialogue(c.id, c.messages, c.topic, c.source, meta={"axis": c.axis}))
                else:
                    d = dialogue_of_row(row)
                    messages = d.messages if d.is_prompt else d.messages[:-1]
                    found.append(Dialogue(d.id, messages, d.topic, d.source, d.weight, d.meta))
            except NoPreference:
                continue
            except CharterError as error:
                raise CharterError(f"{place}: {error}") from None
    if not found:
        raise CharterError(f"{path} holds no prompts")
    return found


def _texts(path: Path) -> list[tuple[str, str]]:
    name = plain_name(path)
    if name not in _LINES:
        return read_texts(path)
    lines = [line.strip() for line in read_text(path).split("\n")]
    return [(f"{name}-{number:05d}", line) for number, line in enumerate(lines, 1) if line]
