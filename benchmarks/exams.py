"""Multiple-choice questions that both sides of a benchmark are given, word for word as the benchmark room puts them."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.settings.places import find_data
from charter.rooms.evaluate.reading import DEV, TEST, read_split
from charter.rooms.evaluate.task import LETTERS, Query, Question, format_question
from charter.rooms.evaluate.tasks import arc, mmlu_plain, race

Exam = tuple[str, list[str]]  # a prompt, and the continuations that are scored behind it

# Together of the average length of all 57: examples of about 540 tokens, questions of about 90.
SUBJECTS = (
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "college_computer_science",
    "econometrics",
    "global_facts",
    "high_school_statistics",
    "machine_learning",
    "moral_scenarios",
    "professional_accounting",
)
LEAD = "Answer:"


def mmlu(subjects: Sequence[str], count: int, shots: int = 5) -> list[Exam]:
    """The first `count` questions of each subject behind examples of its development split."""
    tests = mmlu_plain.by_subject(read_split(find_data("mmlu"), TEST, mmlu_plain.parse))
    shown = mmlu_plain.by_subject(read_split(find_data("mmlu"), DEV, mmlu_plain.parse))
    return [
        _exam(question, shown[subject][:shots], mmlu_plain.header(subject))
        for subject in subjects
        for question in tests[subject][:count]
    ]


def arc_challenge(count: int, shots: int = 5) -> list[Exam]:
    """The first `count` questions of the test split."""
    shown = read_split(find_data("arc_challenge"), DEV, arc.parse)[:shots]
    return [_exam(q, shown) for q in read_split(find_data("arc_challenge"), TEST, arc.parse)[:count]]


def race_high(count: int, shots: int = 1) -> list[Exam]:
    """The first `count` questions of the test split."""
    shown = read_split(find_data("race_high"), DEV, race.parse)[:shots]
    return [_exam(q, shown) for q in read_split(find_data("race_high"), TEST, race.parse)[:count]]


def _exam(question: Question, shown: Sequence[Question], header: str = "") -> Exam:
    shots = [(format_question(q), LETTERS[q.right[0]]) for q in shown]
    prompt = Query(question, format_question(question), LEAD, shots, header).prompt("text")
    assert isinstance(prompt, str)
    return prompt, [f" {letter}" for letter in LETTERS[: len(question.options)]]
