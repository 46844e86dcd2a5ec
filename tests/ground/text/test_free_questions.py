"""Facts and answers in free replies, checked by hand, and the rows that hold them."""

from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped
from charter.ground.text.answers import occurs, terms
from charter.ground.text.free_questions import read_facts, read_short_questions
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.tasks.facts import mark_facts
from charter.rooms.evaluate.tasks.quiz import mark_alias


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("Paris", "It is PARIS."),
        ("Saturn", "Saturn's rings are of ice."),
        ("tea bag", "Put the Tea-Bag into the pot."),
        ("tea bag", "Put the tea\nbag into the pot."),
        ("the Beatles", "Beatles, a band"),
        ("résumé", "Send your Résumé."),
        ("8", "A spider has 8."),
        ("100", "It boils at 100°C."),
        ("100", "It boils at 100C."),
        ("1000", "About 1,000 metres"),
        ("3.5", "roughly 3.5, I think"),
        ("CO2", "They take up CO₂ from the air."),
        ("twenty-four", "A day has twenty four hours."),
    ],
)
def test_a_phrase_occurs_as_whole_words(phrase: str, text: str) -> None:
    assert occurs(phrase, text)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("sun", "On Sunday it is closed."),
        ("ice", "The price is right."),
        ("tea bag", "A bag of tea."),
        ("8", "It has 18 legs, 8.5 eyes and 8,000 hairs."),
        ("5", "3.5"),
        ("eight", "8"),
        ("O2", "CO2"),
        ("the", "the"),
        ("", "anything"),
        ("water", ""),
    ],
)
def test_parts_of_words_and_of_numbers_do_not_count(phrase: str, text: str) -> None:
    assert not occurs(phrase, text)


def test_terms_by_hand() -> None:
    assert terms("The H2O boils at 1,000.5 °C, an 8-legged don't!") == [
        "h2o", "boils", "at", "1000.5", "c", "8", "legged", "don", "t",
    ]  # fmt: skip


def test_facts_with_alternatives_by_hand() -> None:
    facts = [["boil", "boiling"], ["water"], ["drain", "strain"]]
    reply = "Bring Water to a boil, then drain the pot."
    assert mark_facts({"facts": facts, "reply": reply}) == {"recalled": 1.0, "all_recalled": True}
    part = mark_facts({"facts": facts, "reply": "Boiling water."})
    assert part == {"recalled": pytest.approx(2 / 3), "all_recalled": False}
    none = mark_facts({"facts": facts, "reply": "I can't help with that, underwater or boiled."})
    assert none == {"recalled": 0.0, "all_recalled": False}


@pytest.mark.parametrize(
    ("reply", "right"), [("I think it was Shakespeare, in 1600.", 1.0), ("Christopher Marlowe", 0.0), ("", 0.0)]
)
def test_an_alias_told_in_a_sentence_is_right(reply: str, right: float) -> None:
    row = {"accepted": ["William Shakespeare", "Shakespeare"], "reply": reply}
    assert mark_alias(row) == {"correct": right}


ARC = {"id": "a", "answerKey": "2", "question": {"stem": "What do cows eat? "}}
ARC["question"]["choices"] = [{"text": "Bolts", "label": "1"}, {"text": "Grass", "label": "2"}]  # type: ignore[index]
ROWS: list[dict[str, Any]] = [
    {"id": "t", "question": "Who wrote Hamlet?", "golden_answers": ["Shakespeare", "The"], "split": "test"},
    {"id": "e", "question": "Shown elsewhere?", "golden_answers": ["Yes"], "split": "dev"},
    {"question": "Two twos?", "answer": {"value": "4", "aliases": ["four"]}},
    ARC,
    {"id": "h", "question": "Sky?", "choices": {"text": ["blue", "red"], "label": ["A", "B"]}, "answerKey": "A"},
]


def test_rows_of_triviaqa_and_arc_are_asked_freely(tmp_path: Path) -> None:
    questions = read_short_questions([toys.rows_file(tmp_path / "mixed.jsonl", ROWS)])
    assert [(d.id, d.messages[0]["content"], d.meta["accepted"]) for d in questions] == [
        ("t", "Who wrote Hamlet?", ["Shakespeare"]),
        ("mixed-00003", "Two twos?", ["4", "four"]),
        ("a", "What do cows eat?", ["Grass"]),
        ("h", "Sky?", ["blue"]),
    ]


def test_shipped_questions_that_serve_as_examples_are_left_out() -> None:
    for name in ("triviaqa.heldout", "arc.heldout"):
        scored = [r["id"] for r in read_jsonl(shipped(name)) if r["split"] == "test"]
        assert [d.id for d in read_short_questions([shipped(name)])] == scored


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"question": "Who?"}, "it has no answer"),
        ({"question": "Who?", "golden_answers": "me"}, "not a list of answers"),
        ({"question": "Who?", "golden_answers": ["The"]}, "no answer holds a word"),
        ({"question": "Who?", "golden_answers": ["<unk>"]}, "not published"),
        (ARC | {"answerKey": "7"}, "7"),
        ({"prompt": "Who?", "golden_answers": ["me"]}, "it has no question"),
    ],
)
def test_a_row_that_is_no_short_question_is_named(row: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(CharterError, match=rf"broken\.jsonl:1: not a short question \(.*{why}"):
        read_short_questions([toys.rows_file(tmp_path / "broken.jsonl", [row])])


def test_examples_alone_are_no_questions(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="the files hold no short question to ask"):
        read_short_questions([toys.rows_file(tmp_path / "shots.jsonl", [ROWS[1]])])


@pytest.mark.parametrize("facts", [None, [], "water", ["water"], [[]], [["water"], ["..."]], [[4]], [["The"]]])
def test_a_prompt_without_facts_is_named(facts: object, tmp_path: Path) -> None:
    row = toys.dialogue("w", "How?") | ({} if facts is None else {"facts": facts})
    with pytest.raises(CharterError, match=r"prompt w has the facts .* expected a list of facts"):
        read_facts([toys.rows_file(tmp_path / "facts.jsonl", [row])])


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    row = toys.dialogue("w", "How?") | {"facts": [["so"]]}
    files = [toys.rows_file(tmp_path / f"{n}.jsonl", [row]) for n in "ab"]
    with pytest.raises(CharterError, match="the id 'w' occurs more than once"):
        read_facts(files)
    quiz = [toys.rows_file(tmp_path / f"q{n}.jsonl", [ARC]) for n in "ab"]
    with pytest.raises(CharterError, match="the id 'a' occurs more than once"):
        read_short_questions(quiz)
