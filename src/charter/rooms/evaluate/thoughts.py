"""Written reasoning for the development rows of MMLU, joined to a user's own copy of those rows (Wei 2022).

The published rows are questions with a key. Charter ships only the reasoning: a row has `subject`, `row` (its place in
the published split), `digest` of the question (the first 12 hexadecimal digits of SHA-256), `thought`, and `answer`,
the letter that the thought leads to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_text
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.columns import raw_rows
from charter.rooms.evaluate.task import LETTERS, Question

NAMES = ("mmlu_thoughts.jsonl", "mmlu_thoughts.jsonl.gz")
# Subject, and digest of the question.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning that leads to a letter. `row`: of its question, "" if it doesn't say. `place`: its file and line."""

    text: str
    answer: str
    row: str
    place: str


def thoughts_file() -> Path | None:
    """The shipped file; None if this copy of charter has none."""
    return next((path for name in NAMES if (path := shipped_folder() / name).is_file()), None)


def read_thoughts(path: Path) -> dict[Key, list[Thought]]:
    """The thoughts by subject and question. Two questions of a subject may have the same words and other options.

    Raises CharterError that names file and line of a broken row.
    """
    thoughts: dict[Key, list[Thought]] = {}
    for place, row in raw_rows(path):
        lacking = [
            key for key in ("subject", "digest", "thought", "answer") if not str(row.get(key) or "").strip()
        ]
        if lacking or str(row["answer"]) not in LETTERS:
            what = (
                f"has no {lacking[0]}" if lacking else f"has the answer {row['answer']!r}, which is no letter"
            )
            raise CharterError(f"{place}: a thought {what}; expected subject, digest, thought and answer")
        key = str(row["subject"]), str(row["digest"])
        thought = Thought(str(row["thought"]).strip(), str(row["answer"]), str(row.get("row", "")), place)
        thoughts.setdefault(key, []).append(thought)
    return thoughts


def digest(question: Question) -> str:
    """What joins a question to its thought, whatever its place in the user's file."""
    return digest_text(question.text.strip())[:12]


def add_thoughts(questions: Sequence[Question], thoughts: Mapping[Key, Sequence[Thought]]) -> list[Question]:
    """The questions, each with its thought. One that shows reasoning of its own keeps it; one that nobody wrote a
    thought for has none. Of several thoughts with one question's words, that with its row counts, else the first one
    that is left.

    Raises CharterError if a thought leads to another letter than the key.
    """
    left = {key: list(several) for key, several in thoughts.items()}
    with_thoughts = []
    for question in questions:
        several = left.get((question.group, digest(question)), [])
        thought = next((t for t in several if t.row == question.meta["row"]), several[0] if several else None)
        if len(several) > 1 and thought is not None:
            several.remove(thought)
        if thought is not None and not question.meta["thought"]:
            if (key := LETTERS[question.right[0]]) != thought.answer:
                raise CharterError(
                    f"{thought.place}: the thought leads to {thought.answer} and the key of {question.id} is {key}; "
                    "correct the thought, or the key in your data"
                )
            question = replace(question, meta={**question.meta, "thought": thought.text})
        with_thoughts.append(question)
    return with_thoughts
