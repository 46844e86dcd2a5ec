"""QuALITY: questions on long stories, as many examples as the context holds (card section 4.3; Pang 2022).

Questions of a story are one cluster, and the model reads the story once. Examples come from the authors' training
split; data without one gives the first questions of its other stories, never of the story that is asked about. An
example is a whole story with its question, so a context of 8,192 tokens holds none. The task takes the largest number
of examples with which every question still fits, down to 0; it is part of the score's identity. `hard`: questions that
most annotators under time pressure got wrong, if the data marks them.
"""

from __future__ import annotations

from charter.ground.artifact.manifest import digest_text
from charter.ground.measure import counts
from charter.ground.settings.room import Role
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.choices import FIVE_SHOT, LEAD, TAKES
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.metrics import higher
from charter.rooms.evaluate.reading import TEST, Row, has, place_of, read_split
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

# The authors' test split has no labels: their development split is scored, and examples are those of training.
SCORED, EXAMPLES = ("dev", *TEST), ("train",)
HARD = "hard"
# The story of an example, its question, and the letter.
Example = tuple[str, str, str]


def questions(context: Context) -> list[Question]:
    """The drawn questions. Sets `context.facts["shots"]`, the number of examples that fit before each of them."""
    sample = context.draw(read_split(context.source, SCORED, parse))
    pool, wanted = examples(context), context.protocol.shots
    shots = min(wanted, *(len(_others(pool, question)) for question in sample))
    available = shots
    alone = [question for question in sample if asking.fits(context, build_query(question, []), 2)]
    while shots and not all(asking.fits(context, build_query(q, _others(pool, q)[:shots]), 2) for q in alone):
        shots -= 1
    context.facts["shots"] = shots
    context.facts["examples"] = "of the training split" if has(context.source, EXAMPLES) else "of other stories"
    if shots < wanted:
        why = f"{available} are there" + (
            f", {available - shots} don't fit into the context" if shots < available else ""
        )
        context.summary["shots"] = {"wanted": wanted, "asked": shots, "dropped": wanted - shots, "why": why}
        context.out.note(f"quality: {wanted - shots} of {wanted} examples dropped: {why}")
    if not any(question.group == HARD for question in sample):
        marked = any(question.group for question in sample)
        why = "no drawn question is marked hard" if marked else "the data marks no hard questions (`difficult`)"
        context.absent(why, "quality_hard")
    return sample


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a question."""
    pool, shots = examples(context), context.facts["shots"]
    return asking.choose(context, [build_query(question, _others(pool, question)[:shots]) for question in questions])


def examples(context: Context) -> list[Example]:
    """The first question of each story of the training split that is not scored; without such a split, of each scored
    story."""
    scored = read_split(context.source, SCORED, parse)
    pool = scored
    if has(context.source, EXAMPLES):
        stories = {question.cluster for question in scored}
        pool = [q for q in read_split(context.source, EXAMPLES, parse) if q.cluster not in stories]
    first: dict[str, Question] = {}
    for question in pool:
        first.setdefault(question.cluster, question)
    return [(name, format_question(q), LETTERS[q.right[0]]) for name, q in first.items()]


def _others(pool: list[Example], question: Question) -> list[tuple[str, str]]:
    """The examples on other stories than the question's."""
    return [(text, letter) for story, text, letter in pool if story != question.cluster]


def build_query(question: Question, shots: list[tuple[str, str]]) -> Query:
    return Query(question, format_question(question), LEAD, shots)


def parse(row: Row, name: str) -> list[Question]:
    """A story with its questions (article, questions with options, gold_label from 1, and difficult), or the hub's row
    with one question (article, question, options, answer from 0, and hard)."""
    story = str(row["article"]).strip()
    if "questions" in row:
        cluster = str(row.get("article_id") or name)
        entries = row["questions"]
    else:
        # rows of a story are one cluster
        cluster = str(row.get("article_id") or digest_text(story)[:12])
        entries = [{**row, "question_unique_id": name, "gold_label": int(row["answer"]) + 1}]
    questions = []
    for number, entry in enumerate(entries):
        options = tuple(str(o).strip() for o in entry["options"])
        place = place_of(int(entry["gold_label"]) - 1, options)
        hard = entry.get("difficult", entry.get("hard"))
        # false and true count as 0 and 1
        level = {None: "", 0: "easy", 1: HARD}[hard]
        key = str(entry.get("question_unique_id") or f"{cluster}/{number}")
        questions.append(Question(key, entry["question"].strip(), options, (place,), (), story, cluster, level))
    return questions


TASK = Task(
    name="quality",
    title="QuALITY",
    group="Reading",
    questions=questions,
    rows=rows,
    metrics=(
        accuracy("quality", "QuALITY questions on long stories"),
        unanswered_rate("quality"),
        higher("quality_hard", counts.mean("correct", counts.equal(group=HARD)), "QuALITY, hard"),
    ),
    role=Role(kind="questions", default="shipped:quality.heldout"),
    standard="data:quality",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=likeliest,
    cost=(2500, 0),
    chance=0.25,
    searched=True,
    version=8,
)
