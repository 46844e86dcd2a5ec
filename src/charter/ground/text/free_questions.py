"""Questions that a model answers in its own words, with the facts or accepted answers that make an answer right.

A fact is a list of alternatives, of which one must occur: [["boil", "boiling"], ["water"]]. A short question lists all
accepted answers. A multiple-choice question becomes its stem, and the right option is the one accepted answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.answers import terms
from charter.ground.text.columns import plain_name, raw_rows
from charter.ground.text.dialogue import Dialogue, prompt_of, user
from charter.ground.text.records import check_distinct, files_of, read_dialogues

Row = Mapping[str, Any]
# What stands behind a question whose answer may be declined, in training and in measuring.
BRIEFLY = "Answer in a few words."
UNTOLD = "<unk>"  # the answer in the test split that TriviaQA's authors publish
EXAMPLES = ("dev", "train")  # values of the column `split` for rows that serve as examples elsewhere


def read_facts(paths: Iterable[Path]) -> list[Dialogue]:
    """Prompts with their required facts under meta["facts"]. Raises CharterError for a row without any."""
    dialogues = []
    for path in paths:
        for dialogue in map(prompt_of, read_dialogues(path)):
            if not _is_facts(facts := dialogue.meta.get("facts")):
                raise CharterError(
                    f"{path}: prompt {dialogue.id} has the facts {facts!r}; expected a list of facts, each a list of "
                    'alternatives with a word or number in each: [["boil", "boiling"], ["water"]]'
                )
            dialogues.append(dialogue)
    check_distinct("the prompts with facts", (d.id for d in dialogues))
    return dialogues


def read_short_questions(paths: Iterable[Path]) -> list[Dialogue]:
    """Questions as prompts, with the accepted answers under meta["accepted"], from rows in TriviaQA's or ARC's columns.
    Rows that the column `split` marks as examples are left out. Raises CharterError naming file:line."""
    questions = [d for path in paths for file in files_of(path, "questions") for d in _read_short(file)]
    if not questions:
        raise CharterError("the files hold no short question to ask, or only examples (split dev or train)")
    check_distinct("the short questions", (d.id for d in questions))
    return questions


def accepted_answers(row: Row) -> tuple[str, ...]:
    """All answers of a TriviaQA row: `golden_answers`, or `answer` with value and aliases.

    Raises KeyError if the row has neither, ValueError if they are not a list.
    """
    answers = row["golden_answers"] if "golden_answers" in row else row["answer"]
    if isinstance(answers, dict):
        answers = [answers["value"], *answers.get("aliases", ())]
    accepted = tuple(dict.fromkeys(str(a).strip() for a in answers))
    if isinstance(answers, str) or not all(accepted) or not accepted:
        raise ValueError("golden_answers is not a list of answers")
    if accepted == (UNTOLD,):
        raise ValueError("the answers of the test split are not published; name the file of the validation split")
    return accepted


def stem_and_options(row: Row) -> tuple[str, tuple[str, ...], int]:
    """Stem, options and index of the right option of an ARC row, in the authors' form (question.stem and
    question.choices) or the hub's (question, choices.text and .label). It has three to five options, lettered or
    numbered.

    Raises KeyError, TypeError or ValueError for other rows.
    """
    question = row["question"]
    if isinstance(question, str):
        stem, texts, labels = question, row["choices"]["text"], row["choices"]["label"]
    else:
        stem, choices = question["stem"], question["choices"]
        texts, labels = [c["text"] for c in choices], [c["label"] for c in choices]
    return stem.strip(), tuple(texts), list(labels).index(row["answerKey"])


def _is_facts(facts: object) -> bool:
    """Whether facts are lists of alternatives, each with something to look for."""
    return _is_filled(facts, lambda fact: _is_filled(fact, lambda a: isinstance(a, str) and bool(terms(a))))


def _is_filled(value: object, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(holds, value))


def _read_short(file: Path) -> Iterator[Dialogue]:
    for number, (place, row) in enumerate(raw_rows(file), 1):
        if row.get("split") in EXAMPLES:
            continue
        try:
            yield _short_question(row, f"{plain_name(file)}-{number:05d}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
            raise CharterError(
                f"{place}: not a short question ({why}; its columns are {', '.join(map(str, row))}); expected question "
                "with golden_answers (TriviaQA), or a stem with choices and answerKey (ARC)"
            ) from None


def _short_question(row: Row, name: str) -> Dialogue:
    if "answerKey" in row:
        stem, options, right = stem_and_options(row)
        accepted: tuple[str, ...] = (options[right],)
    else:
        stem, accepted = row["question"].strip(), accepted_answers(row)
    accepted = tuple(answer for answer in accepted if terms(answer))  # of "The" nothing remains to look for
    if not stem or not accepted:
        raise ValueError("the question is empty, or no answer holds a word or number")
    id = str(row.get("id") or row.get("question_id") or name)
    return Dialogue(id, (user(stem),), meta={"accepted": list(accepted)})
