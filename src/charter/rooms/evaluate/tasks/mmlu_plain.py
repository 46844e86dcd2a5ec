"""MMLU in its plain form: five examples of the subject, then the letter with the highest probability (Hendrycks 2021).

The card's own form, with reasoning, is `mmlu`; most published tables use this one.
"""

from __future__ import annotations

from charter.ground.measure import counts
from charter.ground.measure.metric import Metric
from charter.ground.settings.room import Role
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.choices import FIVE_SHOT, LEAD, TAKES
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.metrics import higher
from charter.rooms.evaluate.reading import DEV, Row, draw_questions, place_of, read_split
from charter.rooms.evaluate.task import (
    LETTERS,
    Context,
    Query,
    Question,
    Rows,
    Task,
    accuracy,
    format_question,
    unanswered_rate,
)

CHANCE = 0.25
_SUBJECTS = """
abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory
professional_accounting professional_law professional_medicine professional_psychology public_relations
security_studies sociology us_foreign_policy virology world_religions
"""
SUBJECTS = tuple(_SUBJECTS.split())


def subject_metrics(task: str) -> tuple[Metric, ...]:
    """The share right in each of the 57 subjects, of a task whose rows have the subject as their group."""
    return tuple(
        higher(
            f"{task}_{subject}",
            counts.mean("correct", counts.equal(group=subject)),
            f"MMLU questions on {subject.replace('_', ' ')}",
            subject.replace("_", " ").capitalize(),
            kind="part",
            chance=CHANCE,
        )
        for subject in SUBJECTS
    )


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a question. Examples are the first of the subject's development split, as its authors use them."""
    pool = by_subject(read_split(context.source, DEV, parse))
    return asking.choose(context, [build_query(context, question, pool) for question in questions])


def build_query(context: Context, question: Question, pool: dict[str, list[Question]]) -> Query:
    """A question after the examples of its subject."""
    examples = pool.get(question.group, [])[: context.protocol.shots]
    if len(examples) < context.protocol.shots:
        # raises an error that says what is missing
        examples = context.examples(pool.get(question.group, []), question.group)
    shots = [(format_question(q), LETTERS[q.right[0]]) for q in examples]
    return Query(question, format_question(question), LEAD, shots, header(question.group))


def header(subject: str) -> str:
    """The line above the examples."""
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}."


def by_subject(pool: list[Question]) -> dict[str, list[Question]]:
    """Questions of each group, in their order."""
    groups: dict[str, list[Question]] = {}
    for question in pool:
        groups.setdefault(question.group, []).append(question)
    return groups


def parse(row: Row, name: str) -> list[Question]:
    """A row with subject, question, choices, and answer as a letter or a number from 0."""
    options = tuple(map(str, row["choices"]))
    subject = str(row["subject"])
    return [
        Question(
            f"{subject}-{row['row']}" if "row" in row else name,
            str(row["question"]).strip(),
            options,
            (place_of(row["answer"], options),),
            group=subject,
            meta={"thought": str(row.get("thought", "")), "row": str(row.get("row", ""))},
        )
    ]


TASK = Task(
    name="mmlu_plain",
    title="MMLU, by letter",
    group="Knowledge and reasoning",
    questions=draw_questions(parse),
    rows=rows,
    metrics=(
        accuracy("mmlu_plain", "MMLU questions, plain choice", places={"subjects": 1}, short="By letter"),
        unanswered_rate("mmlu_plain"),
        *subject_metrics("mmlu_plain"),
    ),
    data="mmlu",
    role=Role(kind="questions", default="shipped:mmlu.heldout"),
    standard="data:mmlu",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=likeliest,
    cost=(160, 0),
    chance=CHANCE,
    searched=True,
)
