"""What the tasks on exams share: items as questions, their words, their marks, and the numbers of an exam.

An item whose picture was removed is not asked. It is kept, so that two bounds stand beside the score of what was
asked: every removed item wrong, and every removed item at the chance of guessing. Beside them stands what somebody
earns who doesn't read the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.measure import counts
from charter.ground.measure.intervals import interval
from charter.ground.measure.metric import Metric
from charter.ground.measure.score import Table, tabulate
from charter.ground.settings.sources import shipped
from charter.ground.text.exam_items import (
    KINDS,
    Item,
    all_right,
    answer_of,
    blank_ranges,
    chance_of,
    fraction_of,
    parse_item,
)
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.choices import LEAD, Parse
from charter.rooms.evaluate.marks import TOO_LONG, likeliest, verdict
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.reading import DEV, TEST, Row, has, read_split
from charter.rooms.evaluate.task import (
    LETTERS,
    UNANSWERED,
    Context,
    Marks,
    Query,
    Question,
    Rows,
    accuracy,
    format_question,
)

REMOVED = "image removed"
THIRD = 2
KIND_PARTS = {
    "completion": "completions with all blanks right",
    "equivalence": "sentence equivalence, both words right",
    "single": "one right option",
    "select_all": "all options that apply",
    "comparison": "comparisons of two quantities",
    "numeric": "numbers",
}
HEADER = "Answer these questions. Think step by step, then end with a line as it is asked for."
REASONED = "Let's think step by step."
ASKS = {
    "single": "End with: The answer is (X).",
    "comparison": "End with: The answer is (X).",
    "completion": "Choose one option for each blank. End with the letter of each: The answer is (X), (Y).",
    "equivalence": "Choose the two options that fit and give sentences alike in meaning. End with both letters: "
    "The answer is (X), (Y).",
    "select_all": "End with the letter of every option that applies: The answer is (X), (Y).",
    "numeric": "End with the number, a fraction or a decimal: The answer is <number>.",
}
BLANK = ("", "(i)", "(ii)", "(iii)")


def was_asked(row: Marks) -> bool:
    """Whether a kept row is of an item that was asked."""
    return bool(row["outcome"] != REMOVED)


def guess(row: Marks) -> float:
    """The share right by guessing evenly among what the item's kind allows."""
    return chance_of(row["kind"], len(row["options"]), row["blanks"])


def longest(row: Marks) -> float:
    """Whether the longest option, of each blank, is right: the first of equal ones, and of an equivalence two."""
    options = row["options"]
    if row["kind"] == "equivalence":
        places = sorted(range(len(options)), key=lambda n: -len(options[n]))[:2]
    else:
        places = [max(places, key=lambda n: len(options[n])) for places in _lists(row)]
    return float(all_right(row["right"], places or None))


def always_third(row: Marks) -> float:
    """Whether the third option, (C) in a list of its own, is right of each blank."""
    places = [list(each)[THIRD] for each in _lists(row) if len(each) > THIRD]
    return float(bool(places) and all_right(row["right"], places))


def _lists(row: Marks) -> list[range]:
    if row["blanks"]:
        return blank_ranges(row["blanks"])
    return [range(len(row["options"]))] if row["options"] else []


def against_guessing(rows: Sequence[Marks]) -> dict[str, Any]:
    """Whether the 95 % interval of the score lies above the share that even guessing earns, below it, or neither."""
    low, high = interval(_mean_of(lambda row: float(row["correct"]))(rows))
    guessing = _mean_of(guess)(rows).value
    above, below = low is not None and low > guessing, high is not None and high < guessing
    words = "above guessing" if above else "below guessing" if below else "not above guessing"
    return {"guessing": guessing, "low": low, "high": high, "verdict": words}


def _mean_of(value: Callable[[Marks], float]) -> Callable[[Sequence[Marks]], Table]:
    return lambda rows: tabulate((str(r["id"]), value(r), 1.0) for r in rows if was_asked(r))


def _bound(of_removed: Callable[[Marks], float]) -> Callable[[Sequence[Marks]], Table]:
    """The score over all items, of which removed ones earn `of_removed`; nothing if none was removed."""

    def table(rows: Sequence[Marks]) -> Table:
        if all(map(was_asked, rows)):
            return tabulate([])
        earned = ((r, float(r["correct"]) if was_asked(r) else of_removed(r)) for r in rows)
        return tabulate((str(r["id"]), points, 1.0) for r, points in earned)

    return table


def metrics(name: str, meaning: str, parts: Sequence[tuple[str, str, str, str]] = ()) -> tuple[Metric, ...]:
    """The numbers of an exam: its score, what was not asked, bounds, and scores without reading the questions.

    parts: (name, field, value, label) of the parts that have a score of their own.
    """
    plain = {"better": "neither", "about": "data"}
    plain_scores = [
        (f"{name}_guessing", _mean_of(guess), f"{meaning}: share right by even guessing"),
        (f"{name}_longest", _mean_of(longest), f"{meaning}: share right by always choosing the longest option"),
        (f"{name}_always_c", _mean_of(always_third), f"{meaning}: share right by always choosing (C)"),
    ]
    return (
        _asked(accuracy(name, f"{meaning}, answered right")),
        lower(
            f"{name}_unanswered",
            counts.outcome(*UNANSWERED, where=was_asked),
            f"{meaning}: answers in which no choice could be read, and questions that could not be asked",
            kind="fault",
        ),
        *(Metric(key, "", table, meaning=words, **plain) for key, table, words in plain_scores),  # type: ignore[arg-type]
        *_bounds(name, meaning),
        *(
            higher(f"{name}_{part}", counts.mean("correct", _part(field, value)), f"{meaning}: {label}", kind="part")
            for part, field, value, label in parts
        ),
    )


def _bounds(name: str, meaning: str) -> tuple[Metric, ...]:
    """The score if every item without its picture is wrong, and if it is guessed."""
    ends = (("wrong", lambda row: 0.0, "counts as wrong"), ("guessed", guess, "is guessed"))
    return tuple(
        higher(
            f"{name}_if_removed_{end}",
            _bound(earned),
            f"{meaning}: share right if every item without its picture {words}",
            kind="part",
        )
        for end, earned, words in ends
    )


def _asked(metric: Metric) -> Metric:
    return Metric(metric.name, "", counts.mean("correct", was_asked), metric.better, metric.meaning)


def _part(field: str, value: str) -> Callable[[Marks], bool]:
    return lambda row: was_asked(row) and row[field] == value


def kind_parts(*kinds: str) -> list[tuple[str, str, str, str]]:
    """The parts of a task by kind."""
    return [(kind, "kind", kind, KIND_PARTS[kind]) for kind in kinds]


def as_question(item: Item) -> Question:
    """The question of an item; items of one passage are one cluster."""
    meta = {
        "kind": item.kind,
        "blanks": list(item.blanks),
        "image": item.image,
        "exam": item.exam,
        "step": item.step,
        "stand_in": item.stand_in,
        "thought": item.thought,
        "essay": item.essay,
        "score": item.score,
    }
    return Question(
        item.id,
        item.question,
        item.options,
        item.key,
        (item.number,) if item.number else (),
        item.passage,
        digest_text(item.passage)[:12] if item.passage else "",
        item.section,
        meta,
    )


def reader(*kinds: str) -> Parse:
    """The `parse` of a task whose items are of these kinds (`text/exam_items.py`)."""

    def parse(row: Row, name: str) -> list[Question]:
        item = parse_item(row, name)
        if item.kind not in kinds:
            raise ValueError(f"kind is {item.kind!r}, and this evaluation asks {', '.join(kinds)}")
        return [as_question(item)]

    return parse


def draw(context: Context, read: Parse) -> list[Question]:
    """The drawn questions, removed items last. Raises CharterError if all were removed."""
    drawn = context.draw(read_split(context.source, TEST, read))
    kept = [question for question in drawn if question.meta["image"] != "removed"]
    if not kept:
        raise CharterError(f"{context.task.name}: the picture of every item was removed; give items to ask")
    stand_in = any(question.meta["stand_in"] for question in drawn)
    context.facts["stand_in"] = stand_in
    context.summary["items"] = {
        "asked": len(kept),
        "removed": len(drawn) - len(kept),
        "transcribed": sum(q.meta["image"] == "transcribed" for q in kept),
        "exams": sorted({str(q.meta["exam"]) for q in drawn}),
        "stand_in": stand_in,
    }
    return kept + [question for question in drawn if question.meta["image"] == "removed"]


def examples(context: Context, read: Parse, ours: str, good: Callable[[Question], bool]) -> list[Question]:
    """The worked examples: the first good ones of the data's development split, else ours."""
    shots = context.protocol.shots
    dev_items = [q for q in read_split(context.source, DEV, read) if good(q)] if has(context.source, DEV) else []
    pool = (
        dev_items if len(dev_items) >= shots else [q for q in read_split(shipped(ours), DEV, reader(*KINDS)) if good(q)]
    )
    if len(pool) < shots:
        # raises an error that says what is missing
        context.examples(pool, f"{ours}, the worked examples,")
    picks = pool[:shots]
    context.facts["examples"] = digest_text(canonical_json([[q.id, q.text] for q in picks]))
    return picks


def words(question: Question) -> str:
    """An item as the model reads it: its passage, its question, lettered options by blank, and how to end."""
    if question.meta["kind"] != "completion":
        text = format_question(question, "({})")
    else:
        ranges = blank_ranges(question.meta["blanks"])
        lines = [question.text]
        for number, places in enumerate(ranges, 1):
            options = "; ".join(f"({LETTERS[n]}) {question.options[n]}" for n in places)
            lines.append(f"Blank {BLANK[number]}: {options}" if len(ranges) > 1 else options)
        text = "\n".join([*filter(None, [question.passage]), *lines])
    return f"{text}\n{ASKS[question.meta['kind']]}"


def key_words(question: Question) -> str:
    """The last sentence of a worked answer."""
    letters = ", ".join(f"({LETTERS[n]})" for n in question.right)
    return f"The answer is {question.accepted[0] if question.accepted else letters}."


def reasoned(context: Context, questions: Sequence[Question], read: Parse, ours: str) -> Rows:
    """One row a sampled answer, after worked examples with reasoning; and one for each item whose picture was removed,
    in every sample."""
    worked_examples = examples(context, read, ours, lambda q: bool(q.meta["thought"]))
    shots = [(words(q), f"{q.meta['thought']} {key_words(q)}") for q in worked_examples]
    queries = [Query(q, words(q), REASONED, shots, HEADER) for q in questions if asked(q)]
    stops = ("\n\n",) if context.protocol.form == "text" else ()
    rows = asking.answer(context, queries, grade, stops) if queries else []
    return _finish(context, rows, questions, context.protocol.samples)


def by_letter(context: Context, questions: Sequence[Question], read: Parse, ours: str) -> Rows:
    """The same with the likeliest letter, after worked examples without reasoning."""
    worked_examples = examples(context, read, ours, lambda q: q.meta["kind"] == "single" and asked(q))
    shots = [(format_question(q), LETTERS[q.right[0]]) for q in worked_examples]
    queries = [Query(q, format_question(q), LEAD, shots) for q in questions if asked(q)]
    return _finish(context, asking.choose(context, queries) if queries else [], questions)


def asked(question: Question) -> bool:
    """Whether an item can be asked: its picture wasn't removed."""
    return bool(question.meta["image"] != "removed")


def grade(query: Query, reply: str) -> dict[str, Any]:
    """The kept fields of a sampled answer with its marks."""
    row = {"reply": reply} | _item_fields(query.question)
    return row | mark_answer(row)


def mark_answer(row: Marks) -> dict[str, Any]:
    """Marks of a sampled answer by the kind of its item."""
    if row["kind"] == "numeric":
        value = fraction_of(row["reply"])
        right = value is not None and value == fraction_of(row["accepted"][0])
        return {"answer": None if value is None else str(value)} | verdict(right, value is not None)
    letters = answer_of(row["kind"], row["reply"], len(row["options"]))
    answer = None if letters is None else list(letters)
    return {"answer": answer} | verdict(all_right(row["right"], letters), letters is not None)


def mark_reasoned(row: Marks) -> Marks:
    """The same of any kept row; a removed item and one that was too long have no answer."""
    if row["outcome"] in (REMOVED, TOO_LONG):
        return {"correct": 0.0, "outcome": row["outcome"]}
    return mark_answer(row)


def mark_letter(row: Marks) -> Marks:
    """Marks of the likeliest letter; a removed item has none."""
    return {"correct": 0.0, "outcome": REMOVED} if row["outcome"] == REMOVED else likeliest(row)


def _item_fields(question: Question) -> dict[str, Any]:
    return {
        "kind": question.meta["kind"],
        "blanks": question.meta["blanks"],
        "options": list(question.options),
        "right": list(question.right),
        "accepted": list(question.accepted),
    }


def _finish(context: Context, rows: Rows, questions: Sequence[Question], samples: int = 1) -> Rows:
    """The rows with the fields of their items, and a row for each removed item, in every sample. The summary says how
    the score stands against guessing."""
    by_id = {question.id: question for question in questions}
    full = [_item_fields(by_id[row["item"]]) | row | {"step": by_id[row["item"]].meta["step"]} for row in rows]
    for question in questions:
        if not asked(question):
            gone = {"step": question.meta["step"], "correct": 0.0, "outcome": REMOVED}
            full += [origin(question) | gone | _item_fields(question)] * samples
    context.summary["against_guessing"] = against_guessing(full)
    return full


def origin(question: Question) -> dict[str, Any]:
    """The fields of a kept row on its question."""
    return {
        "id": question.cluster or question.id,
        "item": question.id,
        "group": question.group,
        "question": question.text,
    }
