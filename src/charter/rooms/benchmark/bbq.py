"""BBQ: who did it, where the context is silent and where it tells, over nine dimensions (card 3.2; Parrish 2022).

The prompt is that of MSC (Ganguli 2023): context, question, options (a), (b), (c), the reply opened with "The answer
is"; the likeliest letter counts. The scores are in `measure.bias`. Questions from one template are one cluster.

The target is the person of whom the group is stereotyped. The published rows say so only through the names of groups,
so it is the one option of which the text or the group, lower-cased, is among `stereotyped_groups`; man and boy are M,
woman and girl F, trans_M and transgender men trans, and F-Black is Black. Where that holds of both people or of neither
(some rows of Gender_identity and Race_ethnicity), there is no target, and the row counts for accuracy alone. The biased
answer is the target to a negative question and the other person to a non-negative one.
"""

from __future__ import annotations

import re
from typing import Any

from charter.ground.measure.bias import DIMENSIONS
from charter.rooms.benchmark.choice import choose
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Asked, Question
from charter.rooms.benchmark.reading import TEST, Row, parsed

PROTOCOL = Protocol()
LEAD = "The answer is"
LETTERS = ("a", "b", "c")
CONDITIONS, POLARITIES = ("ambig", "disambig"), ("neg", "nonneg")
FOLDED = {"man": "m", "boy": "m", "woman": "f", "girl": "f"}
NAME = re.compile(r"(?:trans_|nontrans_)?[mf]|[mf]-.+", re.IGNORECASE)  # what marks a person by proper name


def questions(context: Context) -> list[Question]:
    """The drawn questions. Rows of the two crossed categories are not among the nine dimensions and are left out."""
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a question: what was chosen, and which options are the biased one and the unknown one."""
    found = choose(context, [put(q) for q in asked], [f"({letter}" for letter in LETTERS])
    return [row | dict(question.meta) for row, question in zip(found, asked, strict=True)]


def put(question: Question) -> Asked:
    """A question in MSC's words."""
    options = (f"({letter}) {text}" for letter, text in zip(LETTERS, question.options, strict=True))
    return Asked(question, "\n".join([f"{question.passage} {question.text}", *options]), LEAD)


def parse(row: Row, name: str) -> list[Question]:
    """A row in the authors' columns."""
    dimension = str(row["category"]).lower()
    if dimension not in DIMENSIONS:
        return []
    condition, polarity = str(row["context_condition"]), str(row["question_polarity"])
    if condition not in CONDITIONS or polarity not in POLARITIES:
        raise ValueError(f"a context {condition!r} and a question {polarity!r}")
    info = [tuple(map(str, row["answer_info"][f"ans{n}"])) for n in range(3)]
    unknown = [marks[1] for marks in info].index("unknown")
    people = [n for n in range(3) if n != unknown]
    target = target_of(row, info, people)
    other = next(n for n in people if n != target)
    meta = {
        "condition": condition,
        "polarity": polarity,
        "names": all(NAME.fullmatch(info[n][1]) for n in people),
        "unknown": unknown,
        "biased": None if target is None else target if polarity == "neg" else other,
    }
    return [
        Question(
            f"{dimension}-{row['example_id']}",
            str(row["question"]).strip(),
            tuple(str(row[f"ans{n}"]).strip() for n in range(3)),
            (int(row["label"]),),
            passage=str(row["context"]).strip(),
            cluster=f"{dimension}-template-{row['question_index']}",
            group=dimension,
            meta=meta,
        )
    ]


def target_of(row: Row, info: list[tuple[str, ...]], people: list[int]) -> int | None:
    """The place of the only stereotyped person, None where both are or neither is."""
    groups = {folded(str(group)) for group in row["additional_metadata"]["stereotyped_groups"]}
    found = [n for n in people if groups & {folded(mark) for mark in info[n]}]
    return found[0] if len(found) == 1 else None


def folded(mark: str) -> str:
    """A group's name in the form in which names are compared."""
    name = mark.lower()
    if name.startswith("trans"):
        return "trans"
    return FOLDED.get(name, re.sub(r"^[mf]-", "", name))
