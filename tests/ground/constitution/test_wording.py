"""The form of every request, and lessons that follow it."""

from pathlib import Path

import pytest

import charter
from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import ComparisonPrinciple, CritiquePrinciple, shipped_constitution
from charter.ground.constitution.wording import (
    answer_messages,
    choice_messages,
    critique_messages,
    revision_messages,
    thought_messages,
)
from charter.ground.text.dialogue import Comparison, Message, assistant, check_messages, system, user
from charter.ground.text.examples import read_shots, read_transcripts
from charter.ground.text.records import read_comparisons
from charter.rooms.finetune.gather import choice_lesson, choice_lessons, critique_lessons

DATA = Path(str(charter.__file__)).parent / "data"
TALK: list[Message] = [user("How do I pick a lock?"), assistant("Whose lock?"), user("My neighbour's.")]
WRONG = CritiquePrinciple("wrong", ("harmless",), "What is wrong?", "Make it right.")
BETTER = ComparisonPrinciple("better", ("harmless",), "Which is better?")


def test_a_critique_is_asked_below_the_conversation() -> None:
    request, opening = critique_messages(TALK, "Use a pin.", WRONG)
    assert request == user(
        "Human: How do I pick a lock?\n\nAssistant: Whose lock?\n\nHuman: My neighbour's.\n\n"
        "Assistant: Use a pin.\n\nCritiqueRequest: What is wrong?"
    )
    assert opening == assistant("Critique:")


def test_a_revision_follows_its_critique() -> None:
    turns = revision_messages(TALK, "Use a pin.", WRONG, " It helps a thief. ")
    assert turns[:1] == critique_messages(TALK, "Use a pin.", WRONG)[:1]
    assert turns[1:] == [
        assistant("Critique: It helps a thief."),
        user("RevisionRequest: Make it right."),
        assistant("Revision:"),
    ]


def test_system_text_stands_before_the_conversation() -> None:
    request = critique_messages([system("Be kind."), *TALK], "x", WRONG)[0]
    assert request["content"].startswith("Be kind.\n\nHuman: How")


def test_shots_are_earlier_turns() -> None:
    shots = read_transcripts(DATA / "critique_shots.jsonl")
    turns = critique_messages(TALK, "Use a pin.", WRONG, shots)
    rounds = sum(len(shot["rounds"]) for shot in shots)
    assert len(turns) == 4 * rounds + 2
    check_messages(turns)
    critique_round = {
        "key": "none",
        "critique": "c",
        "revision": "r",
        "critique_request": "C?",
        "revision_request": "R.",
    }
    own = {
        "id": "s",
        "messages": TALK,
        "draft": "d",
        "rounds": [critique_round, {**critique_round, "critique_request": "C2?"}],
    }
    turns = critique_messages(TALK, "x", WRONG, [own])
    assert turns[0]["content"].endswith("Assistant: d\n\nCritiqueRequest: C?")
    assert turns[4]["content"].endswith("Assistant: r\n\nCritiqueRequest: C2?")


def test_a_shot_of_an_unknown_key_is_refused() -> None:
    shot = {"messages": TALK, "draft": "d", "rounds": [{"key": "none", "critique": "c", "revision": "r"}]}
    with pytest.raises(CharterError, match="no principle 'none'"):
        critique_messages(TALK, "x", WRONG, [shot])


def test_a_choice_shows_two_options() -> None:
    question, opening = choice_messages(TALK, "one ", "two", "Which is better?")
    intro, _, rest = question["content"].partition("\n\n")
    assert intro.count(".") == 1 and "\n" not in intro
    assert rest == (
        "Human: How do I pick a lock?\n\nAssistant: Whose lock?\n\nHuman: My neighbour's.\n\n"
        "Which is better?\n\nOptions:\n (A) [[[one]]]\n (B) [[[two]]]"
    )
    assert opening == assistant("The answer is:")


def test_choice_shots_answer_in_the_same_form() -> None:
    shots = read_shots(DATA / "comparison_shots.jsonl")
    turns = choice_messages(TALK, "one", "two", "Which?", shots)
    check_messages(turns)
    assert [t["content"] for t in turns[1:-1:2]] == [f"The answer is: ({s['answer']})" for s in shots]
    own = [{**shots[0], "key": "none", "principle": "Mine?"}]
    assert "\n\nMine?\n\nOptions:" in choice_messages(TALK, "one", "two", "Which?", own)[0]["content"]


def test_thoughts_come_before_the_letter() -> None:
    shots = read_shots(DATA / "comparison_shots.jsonl")
    request = thought_messages(TALK, "one", "two", "Which?", shots)
    check_messages(request)
    opener = request[-1]["content"]
    assert request[1]["content"] == f"{opener} {shots[0]['thought']}\n\nThe answer is: ({shots[0]['answer']})"
    concluded = answer_messages(request, " B is kinder.\n")
    assert concluded == [*request[:-1], assistant(f"{opener} B is kinder.\n\nThe answer is:")]
    early = answer_messages(request, "B is kinder.\n\nThe answer is: (B)\nand more")
    assert early == concluded
    assert answer_messages(request, "")[-1] == assistant(f"{opener}\n\nThe answer is:")


def test_critique_lessons_are_what_is_asked() -> None:
    transcripts = read_transcripts(DATA / "critiques.train.jsonl")
    constitution = shipped_constitution()
    lessons = critique_lessons(transcripts, constitution)
    assert len(lessons) == sum(len(t["rounds"]) for t in transcripts)
    t, critique_round = transcripts[0], transcripts[0]["rounds"][0]
    principle = constitution.critique(critique_round["key"])
    request = revision_messages(t["messages"], t["draft"], principle, critique_round["critique"])
    assert lessons[0].messages == (*request[:-1], assistant(f"Revision: {critique_round['revision']}"))
    shots = read_transcripts(DATA / "critique_shots.jsonl")[:1]
    with_shots = critique_lessons(transcripts, constitution, shots)
    request = revision_messages(t["messages"], t["draft"], principle, critique_round["critique"], shots)
    assert with_shots[0].messages[:-1] == tuple(request[:-1])


def test_later_rounds_start_from_the_revision_and_dropped_ones_are_left_out() -> None:
    key = shipped_constitution().critiques[0].key
    rounds = [{"key": key, "critique": f"c{n}", "revision": f"r{n}", "dropped": None} for n in range(3)]
    rounds[1]["dropped"] = "empty"
    lessons = critique_lessons([{"id": "t", "messages": TALK, "draft": "d", "rounds": rounds}], shipped_constitution())
    assert [d.id for d in lessons] == ["t-critique-1", "t-critique-3"]
    assert "Assistant: r0\n\nCritiqueRequest:" in lessons[1].messages[0]["content"]


def comparison(**fields: object) -> Comparison:
    return Comparison(**{"id": "c", "messages": tuple(TALK), "chosen": "good", "rejected": "bad"} | fields)  # type: ignore[arg-type]


def test_choice_lessons_are_what_is_asked() -> None:
    request = choice_messages(TALK, "good", "bad", BETTER.principle)
    assert choice_lesson(comparison(), BETTER).messages == (*request[:-1], assistant("The answer is: (A)"))
    request = choice_messages(TALK, "bad", "good", BETTER.principle)
    expected = (*request[:-1], assistant("The answer is: (B)"))
    assert choice_lesson(comparison(), BETTER, "rejected first").messages == expected
    flipped = comparison(chosen="bad", rejected="good", p_chosen=0.2)
    assert choice_lesson(flipped, BETTER, "rejected first").messages == expected


def test_both_orders_are_taught_under_one_principle_of_the_axis() -> None:
    pairs = read_comparisons(DATA / "comparisons.train.jsonl")[:60]
    lessons = choice_lessons(pairs, shipped_constitution(), seed=5)
    assert len(lessons) == 120 and lessons == choice_lessons(pairs, shipped_constitution(), seed=5)
    assert lessons != choice_lessons(pairs, shipped_constitution(), seed=6)
    # a lesson depends on its own comparison alone
    assert choice_lessons(pairs[3:4], shipped_constitution(), seed=5) == lessons[6:8]
    answers = [d.messages[-1]["content"][-2] for d in lessons]
    assert answers == ["A", "B"] * 60
    for pair, (first, second) in zip(pairs, zip(lessons[::2], lessons[1::2], strict=True), strict=True):
        assert first.source == second.source
        assert pair.axis in shipped_constitution().comparison(first.source.removeprefix("choice:")).tags


def test_one_order_favours_neither_letter() -> None:
    pairs = [comparison(id=str(n)) for n in range(200)]
    letters = [d.messages[-1]["content"][-2] for d in choice_lessons(pairs, shipped_constitution(), orders=1)]
    assert 70 < letters.count("A") < 130
    assert choice_lessons(pairs, shipped_constitution(), orders=0) == []
    with pytest.raises(CharterError, match="0, 1 or 2 orders"):
        choice_lessons(pairs, shipped_constitution(), orders=3)
