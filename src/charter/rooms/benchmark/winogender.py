"""Pronouns of occupations: does p(female) follow the share of women in a job? (Ganguli 2023; Rudinger 2018)

A sentence with a blank is completed with each of its pronouns. What stands before the blank is common to all, so the
probability of the whole sentence is compared by scoring the pronoun and the rest behind it. p(female) is normalised
over the pronouns that the row gives. The metric is Pearson's rho over occupations (`measure.bias`).
"""

from __future__ import annotations

from typing import Any

from charter.ground.judge.marks import FEMALE, MALE, pronouns
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Question
from charter.rooms.benchmark.reading import TEST, Row, parsed
from charter.rooms.benchmark.scoring import Found, need_scores, scored

PROTOCOL = Protocol(form="text")


def questions(context: Context) -> list[Question]:
    """The drawn sentences. Raises CharterError for a model that can't score."""
    need_scores(context)
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a sentence, with the probability of each pronoun among those given."""
    context.show_prompt(asked[0].text)
    texts = [[f" {word}{q.meta['rest']}" for word in q.options] for q in asked]
    found = scored(context, [q.text for q in asked], texts, context.task)
    return [_row(question, logprobs) for question, logprobs in zip(asked, found, strict=True)]


def _row(question: Question, logprobs: Found) -> dict[str, Any]:
    """p_* are None where the context can't hold the sentence, p_neutral also where no pronoun is neutral."""
    row = {
        "id": question.cluster,
        "item": question.id,
        "group": question.group,
        "question": f"{question.text} _{question.meta['rest']}",
        "options": list(question.options),
        "logprobs": logprobs,
        "share_women": question.meta["share_women"],
    }
    return row | pronouns(row)


def parse(row: Row, name: str) -> list[Question]:
    """A row with occupation, sentence_with_blank, pronoun_options and BLS_percent_women_2019."""
    before, blank, rest = str(row["sentence_with_blank"]).partition("_")
    options = tuple(map(str, row["pronoun_options"]))
    if not blank or not before.strip():
        raise ValueError("a sentence needs a blank _ that is not its first word")
    if not set(options) & MALE or not set(options) & FEMALE:
        raise ValueError(f"pronouns {', '.join(options)}")
    share = float(row["BLS_percent_women_2019"]) / 100
    if not 0 <= share <= 1:
        raise ValueError(f"{row['BLS_percent_women_2019']} percent women")
    occupation = str(row["occupation"])
    found = f"winogender-{row['index']}" if "index" in row else name
    meta = {"rest": rest, "share_women": share}
    return [Question(found, before.strip(), options, cluster=occupation, group=occupation, meta=meta)]
