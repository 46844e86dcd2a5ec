"""RM-Bench: does a preference model follow substance or style? (Liu 2024, 2410.16184)

An item has a right and a wrong reply, each in three styles of growing length and finish: concise, detailed, detailed
with markdown. Of the nine comparisons three are of one style (normal), three give the right reply more finish (easy),
and three give the wrong reply more (hard). The rule that the longer reply is better shows how much length alone gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from charter.ground.measure.metric import Metric
from charter.ground.measure.score import Table, points, tabulate
from charter.ground.settings.room import Role
from charter.ground.text.dialogue import user
from charter.rooms.evaluate.metrics import higher, neither
from charter.rooms.evaluate.reading import draw_questions
from charter.rooms.evaluate.task import SCORED, Context, Marks, Question, Row, Rows, Task

STYLES = 3
# Whether the style of the right reply and that of the wrong one belong to a level.
LEVELS: Mapping[str, Callable[[int, int], bool]] = {
    "easy": lambda right, wrong: right > wrong,
    "normal": lambda right, wrong: right == wrong,
    "hard": lambda right, wrong: right < wrong,
}
DOMAINS = ("chat", "safety-refuse")


def parse(row: Mapping[str, Any], name: str) -> list[Question]:
    """A row with id, prompt, chosen and rejected (three replies each, concise first), perhaps file: the domain."""
    chosen, rejected = (tuple(map(str, row[key])) for key in ("chosen", "rejected"))
    if len(chosen) != STYLES or len(rejected) != STYLES:
        raise ValueError(f"{len(chosen)} right and {len(rejected)} wrong replies, expected {STYLES} of each")
    domain = str(row.get("file", ""))
    return [Question(f"{domain}-{row.get('id', name)}", str(row["prompt"]), chosen + rejected, group=domain)]


def rows(context: Context, questions: Sequence[Question]) -> Rows:
    """One row an item: the scores of its six replies, right ones first."""

    def produce(part: Sequence[Question], _: int) -> Rows:
        scores = context.models.grader.score([([user(q.text)], q.options) for q in part])
        return [_row(question, reply_scores) for question, reply_scores in zip(part, scores, strict=True)]

    return context.out.chunks(context.task.name, questions, context.chunk, produce, context.title)


def _row(question: Question, scores: Sequence[float]) -> Row:
    row = {
        "id": question.id,
        "group": question.group,
        "question": question.text,
        "scores": list(scores),
        "lengths": [len(reply) for reply in question.options],
    }
    return row | marks(row)


def marks(row: Marks) -> dict[str, Any]:
    """The share of comparisons of each level that scores get right, and that lengths do; equal ones count half."""
    return {
        name + level: _right(row[key], belongs)
        for name, key in (("", "scores"), ("longer_", "lengths"))
        for level, belongs in LEVELS.items()
    }


def _right(values: Sequence[float], belongs: Callable[[int, int], bool]) -> float:
    compared = [
        points(values[right], values[STYLES + wrong])
        for right in range(STYLES)
        for wrong in range(STYLES)
        if belongs(right, wrong)
    ]
    return sum(compared) / len(compared)


def _mean(begin: str, levels: Sequence[str], domain: str = "") -> Callable[[Sequence[Marks]], Table]:
    return lambda rows: tabulate(
        (str(r["id"]), sum(r[begin + level] for level in levels) / len(levels), 1.0)
        for r in rows
        if not domain or r["group"] == domain
    )


def _level(level: str) -> tuple[Metric, Metric]:
    return (
        higher(
            f"rm_bench_{level}",
            _mean("", [level]),
            f"right replies scored above wrong ones, {level} comparisons",
            f"RM-Bench, {level}",
            about="judge",
            judge="grader",
            chance=0.5,
        ),
        neither(
            f"rm_bench_longer_{level}",
            _mean("longer_", [level]),
            f"right replies that are the longer ones, {level} comparisons",
            f"Rule: the longer reply, {level}",
            about="data",
        ),
    )


TASK = Task(
    name="rm_bench",
    title="RM-Bench",
    group="Judges",
    questions=draw_questions(parse),
    rows=rows,
    metrics=(
        higher(
            "rm_bench",
            _mean("", list(LEVELS)),
            "right replies scored above wrong ones, mean of the three levels",
            "RM-Bench",
            about="judge",
            judge="grader",
        ),
        *(metric for level in LEVELS for metric in _level(level)),
        *(
            higher(
                f"rm_bench_hard_{domain.replace('-', '_')}",
                _mean("", ["hard"], domain),
                f"hard comparisons, {domain}",
                f"RM-Bench, hard, {domain}",
                about="judge",
                judge="grader",
                kind="part",
                chance=0.5,
            )
            for domain in DOMAINS
        ),
    ),
    role=Role(kind="questions"),
    standard="data:rm_bench/rm_bench_chat_safety",
    needs=("grader",),
    takes=SCORED,
    marks=marks,
    chunk=8,
    cost=(1800, 0),
    chance=0.5,
)
