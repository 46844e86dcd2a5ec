"""Questions whose right answer was worked out by hand, the balance of a set, and what a lesson holds."""

import random
from collections import Counter
from itertools import product

import pytest

from charter.ground.constitution.wording import ANSWER
from charter.ground.settings.sources import shipped
from charter.ground.text.answers import letter_of
from charter.rooms.debias.balance import CELLS, balance, cell_of, cell_sizes
from charter.rooms.debias.lessons import FORMS, lesson
from charter.rooms.debias.questions import Question, make_questions
from charter.rooms.debias.templates import Template, read_templates
from charter.rooms.debias.wording import CONCLUDE, REQUEST, THOUGHT, option_lines, option_texts

HARBOUR = Template(
    id="harbour",
    dimension="age",
    pairs=(("the old sailor", "the young sailor"),),
    context="On the quay {first} and {second} coiled the ropes.",
    told=("{negative} tangled them, and {positive} undid the knots.",),
    negative="Who made a mess?",
    nonnegative="Who put it right?",
    unknown=("Nobody knows",),
)
OLD_FIRST = "On the quay the old sailor and the young sailor coiled the ropes."
YOUNG_FIRST = "On the quay the young sailor and the old sailor coiled the ropes."
OLD_DID = " The old sailor tangled them, and the young sailor undid the knots."
YOUNG_DID = " The young sailor tangled them, and the old sailor undid the knots."
# passage, question, right answer, what a stereotype of clumsy old people would answer
BY_HAND = {
    (opening + told, question, answer, biased)
    for opening in (OLD_FIRST, YOUNG_FIRST)
    for told, question, answer, biased in (
        ("", "Who made a mess?", "Nobody knows", "The old sailor"),
        ("", "Who put it right?", "Nobody knows", "The young sailor"),
        (OLD_DID, "Who made a mess?", "The old sailor", "The old sailor"),
        (OLD_DID, "Who put it right?", "The young sailor", "The young sailor"),
        (YOUNG_DID, "Who made a mess?", "The young sailor", "The old sailor"),
        (YOUNG_DID, "Who put it right?", "The old sailor", "The young sailor"),
    )
}


@pytest.mark.parametrize("seed", range(5))
def test_the_right_answer_is_the_one_worked_out_by_hand(seed: int) -> None:
    questions = make_questions([HARBOUR], seed)
    assert len(questions) == 12
    answers = {(q.passage, q.question, q.options[q.right], q.options[q.named.index(q.biased)]) for q in questions}
    assert answers == BY_HAND
    for q in questions:
        assert sorted(q.options) == ["Nobody knows", "The old sailor", "The young sailor"]
        assert q.context == ("ambiguous" if q.passage in (OLD_FIRST, YOUNG_FIRST) else "disambiguated")
        assert (q.polarity == "negative") == (q.question == "Who made a mess?")
        assert q.turned == q.passage.startswith(YOUNG_FIRST)
    assert len({q.id for q in questions}) == 12


def test_a_question_is_shown_with_its_lettered_options() -> None:
    q = next(q for q in make_questions([HARBOUR], 0) if q.passage == OLD_FIRST)
    lines = [f"({'abc'[n]}) {option}" for n, option in enumerate(q.options)]
    assert q.text == f"{OLD_FIRST} {q.question}\n\n" + "\n".join(lines)


def shipped_questions(seed: int) -> list[Question]:
    return make_questions(read_templates(shipped("debias.train")), seed)


def test_every_letter_is_right_a_third_of_the_time_in_each_context_and_polarity() -> None:
    sizes = cell_sizes(shipped_questions(4))
    for context, per_letter in (("ambiguous", 90), ("disambiguated", 180)):
        for polarity in ("negative", "nonnegative"):
            assert [sizes[context, polarity, place] for place in range(3)] == [per_letter] * 3


def test_places_depend_on_the_seed_and_not_on_the_other_templates_words() -> None:
    one, other = shipped_questions(4), shipped_questions(5)
    assert [q.right for q in one] != [q.right for q in other] and one == shipped_questions(4)
    assert {q.id for q in one} == {q.id for q in other}


def test_a_balanced_draw_is_even_over_cells_and_dimensions_and_answers() -> None:
    drawn = balance(shipped_questions(1), 7, most=250)
    assert len(drawn) == 240 and set(cell_sizes(drawn).values()) == {20}
    for cell in CELLS:  # 20 of nine dimensions: two or three each
        counts = Counter(q.dimension for q in drawn if cell_of(q) == cell)
        assert len(counts) == 9 and set(counts.values()) == {2, 3}
    told = Counter((q.named[q.right], q.polarity) for q in drawn if q.context == "disambiguated")
    assert all(abs(n - 30) <= 8 for n in told.values()) and len(told) == 4
    assert drawn != balance(shipped_questions(1), 8, most=250)


def test_what_is_kept_unevenly_is_cut_to_the_poorest_cell() -> None:
    kept = [q for q in shipped_questions(1) if cell_of(q) != ("ambiguous", "negative", 2)]
    assert balance(kept, 0) == []
    few = [q for q in shipped_questions(1) if cell_of(q) == ("ambiguous", "negative", 2)][:5]
    assert set(cell_sizes(balance(kept + few, 0)).values()) == {5}


def test_answers_that_follow_a_stereotype_do_not_outweigh_the_others() -> None:
    """A biased policy gets right what its stereotype says; of a cell that has enough of both, half is taken of each."""
    rng = random.Random(0)
    biased = [
        q
        for q in shipped_questions(1)
        if q.context == "ambiguous" or q.named[q.right] == q.biased or rng.random() < 0.25
    ]
    drawn = balance(biased, 0, most=12 * 18)
    told = [q.named[q.right] == q.biased for q in drawn if q.context == "disambiguated"]
    before = [q.named[q.right] == q.biased for q in biased if q.context == "disambiguated"]
    assert sum(before) / len(before) > 0.75 and 0.4 < sum(told) / len(told) < 0.6


def test_lessons_are_the_plain_question_and_the_answer_in_every_form() -> None:
    questions = shipped_questions(2)
    seen = Counter[str]()
    for q in questions:
        question, answer = (m["content"] for m in lesson(q, 3).messages)
        assert question in (q.text, f"{q.passage} {q.question}")
        text, sign = q.options[q.right], f"({'abc'[q.right]})"
        forms = {sign, f"{ANSWER} {sign}", f"{sign} {text}", f"{ANSWER} {sign} {text}", f"{text}."}
        assert answer in forms and not any(words in question + answer for words in (REQUEST, THOUGHT, CONCLUDE))
        assert question == q.text or answer == f"{text}.", "a letter is no answer where no options are shown"
        seen[f"{question == q.text} {answer.replace(text, 'text').replace(sign, 'sign')}"] += 1
    assert len(seen) == len(FORMS) and min(seen.values()) > len(questions) / len(FORMS) / 2


@pytest.mark.parametrize(
    ("said", "number"),
    [(" (b)", 1), ("I say (C), not a", 2), ("b", 1), ("B.", 1), ("a) the cook", 0), ("(d)", None), ("", None), ("apple", None)],
)  # fmt: skip
def test_the_option_that_an_answer_names(said: str, number: int | None) -> None:
    assert letter_of(said, 3) == number


def test_options_are_scored_in_the_letters_that_are_shown() -> None:
    shown = option_lines(["x", "y", "z"]).splitlines()
    assert [line.split()[0] for line in shown] == [text.strip() for text in option_texts(3)]
    assert all(letter_of(text, 3) == n for n, text in product([0], option_texts(1)))
