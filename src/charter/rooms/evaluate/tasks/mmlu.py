"""MMLU as the card has it: five worked examples with reasoning, an answer sampled at T=1, and the letter in it
(card section 4.3; Hendrycks 2021; Wei 2022).

The published development split has no reasoning. Charter ships some for its 57 x 5 rows (`mmlu_thoughts`), which your
copy of the split is joined to; rows of yours with a `thought` keep it. Subjects without reasoning share five questions
of our own, and the report names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.measure import counts
from charter.ground.settings.room import Role
from charter.ground.settings.sources import shipped, shipped_folder
from charter.ground.text.answers import letter_of
from charter.ground.text.columns import raw_rows
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.marks import unless_too_long, verdict
from charter.rooms.evaluate.metrics import higher
from charter.rooms.evaluate.reading import DEV, TEST, has, read_split
from charter.rooms.evaluate.task import (
    LETTERS,
    SAMPLED,
    Context,
    Marks,
    Protocol,
    Query,
    Question,
    Row,
    Rows,
    Task,
    accuracy,
    format_question,
    unanswered_rate,
)
from charter.rooms.evaluate.tasks.mmlu_plain import CHANCE, by_subject, parse, subject_metrics

NAMES = ("mmlu_thoughts.jsonl", "mmlu_thoughts.jsonl.gz")
# Subject, and digest of the question.
Key = tuple[str, str]
HEADER = "Answer these multiple choice questions. Think step by step, then end with: The answer is (X)."
LEAD = "Let's think step by step."
OURS = "mmlu_thoughts.train"
Shots = list[tuple[str, str]]


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
        lacking = [key for key in ("subject", "digest", "thought", "answer") if not str(row.get(key) or "").strip()]
        if lacking or str(row["answer"]) not in LETTERS:
            problem = f"has no {lacking[0]}" if lacking else f"has the answer {row['answer']!r}, which is no letter"
            raise CharterError(f"{place}: a thought {problem}; expected subject, digest, thought and answer")
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
    remaining = {key: list(several) for key, several in thoughts.items()}
    with_thoughts = []
    for question in questions:
        several = remaining.get((question.group, digest(question)), [])
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


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split; each subject is a group."""
    sample = context.draw(read_split(context.source, TEST, parse))
    shots, shared = _shots(context, sample)
    context.facts["examples"] = digest_text(canonical_json(shots))
    context.summary["examples"] = {"own": len(shots) - len(shared), "shared": len(shared), "subjects": shared}
    if shared:
        context.out.note(
            f"mmlu: {len(shared)} of {len(shots)} subjects share the general examples, since their own rows show no "
            f"reasoning: {', '.join(shared)}"
        )
    return sample


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a sampled answer."""
    shots, _ = _shots(context, questions)
    queries = [Query(q, format_question(q, "({})"), LEAD, shots[q.group], HEADER) for q in questions]
    return asking.answer(context, queries, grade, stops=("\n\n",) if context.protocol.form == "text" else ())


def mark_letter(row: Marks) -> Row:
    """Marks of an answer that names a letter."""
    choice = letter_of(row["reply"], len(row["options"]))
    return {"choice": choice} | verdict(choice in row["right"], choice is not None)


def grade(query: Query, reply: str) -> Row:
    """Right if the answer names the right letter."""
    question = query.question
    row = {"reply": reply, "options": list(question.options), "right": list(question.right)}
    return row | mark_letter(row)


def _shots(context: Context, questions: Sequence[Question]) -> tuple[dict[str, Shots], list[str]]:
    """The worked examples of every subject, and the subjects whose examples are the general ones: theirs have no
    reasoning."""
    pool = read_split(context.source, DEV, parse) if has(context.source, DEV) else []
    path = thoughts_file()
    thought_examples = by_subject(add_thoughts(pool, read_thoughts(path) if path else {}))
    general = read_split(shipped(OURS), DEV, parse)
    shots: dict[str, Shots] = {}
    shared = []
    for subject in sorted({q.group for q in questions}):
        examples = [q for q in thought_examples.get(subject, []) if q.meta["thought"]][: context.protocol.shots]
        if len(examples) < context.protocol.shots:
            shared.append(subject)
            examples = general[: context.protocol.shots]
        if len(examples) < context.protocol.shots:
            # raises an error that says what is missing
            context.examples(general, f"{OURS}, the examples with reasoning,")
        shots[subject] = [
            (format_question(q, "({})"), f"{q.meta['thought']} The answer is ({LETTERS[q.right[0]]}).")
            for q in examples
        ]
    return shots, shared


TASK = Task(
    name="mmlu",
    title="MMLU",
    group="Knowledge and reasoning",
    questions=questions,
    rows=rows,
    metrics=(
        accuracy(
            "mmlu",
            "MMLU questions, answered after reasoning",
            "MMLU, with reasoning",
            places={"subjects": 2},
            short="With reasoning",
        ),
        unanswered_rate("mmlu"),
        higher("mmlu_subjects", counts.over_groups("correct"), "mean over MMLU's subjects", "MMLU, mean over subjects"),
        *subject_metrics("mmlu"),
    ),
    role=Role(kind="questions", default="shipped:mmlu.heldout"),
    standard="data:mmlu",
    protocol=Protocol(shots=5, max_tokens=320),
    takes=(*SAMPLED, "shots"),
    marks=unless_too_long(mark_letter),
    cost=(160, 150),
    chance=CHANCE,
    searched=True,
    version=8,
)
