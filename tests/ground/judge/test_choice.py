"""Choices of a scripted labeller: scores, votes and thoughts, in both orders."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.lessons import Lesson
from charter.ground.constitution.wording import ANSWER, OPTIONS, THOUGHT, under_principle
from charter.ground.judge.choice import How, Question, choose, clamp, open_labeller
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.model.sentence_encoder import PACKAGE, is_installed
from charter.ground.text.dialogue import Message, user
from toys import Scripted, given, labeller_folder, policy

Asked = Sequence[Message]
GOOD, BAD = "The kind reply.", "The rude reply."
PRINCIPLE = "Which reply is kinder?"


def question(first: str = GOOD, second: str = BAD, id: str = "q") -> Question:
    return Question(id, [user("Say something.")], first, second, PRINCIPLE)


def shown_first(messages: Asked) -> str:
    text = messages[-2]["content"]
    return GOOD if text.index(GOOD) < text.index(BAD) else BAD


def labeller(p_good: float, p_first: float) -> Scripted:
    """Odds of the option shown first: those of the better reply times those of the place."""

    return biased(p_good, math.log(p_first / (1 - p_first)))


def biased(p_good: float, place: float) -> Scripted:
    """The same with the logit of the place."""

    def rate(messages: Asked, text: str) -> float:
        odds = place
        odds += math.log(p_good / (1 - p_good)) * (1 if shown_first(messages) == GOOD else -1)
        return odds if text == OPTIONS[0] else 0.0

    return Scripted(rate=rate)


def test_without_order_bias_the_label_is_the_labellers_probability() -> None:
    (choice,) = choose(labeller(0.8, 0.5), [question()], How())
    assert choice.p_first == pytest.approx(0.8) and choice.shown_first == pytest.approx(0.5)
    assert not choice.voted


def test_a_labeller_that_sees_only_the_order_is_at_chance_and_found_out() -> None:
    (choice,) = choose(labeller(0.5, 0.9), [question()], How())
    assert choice.p_first == pytest.approx(0.5) and choice.shown_first == pytest.approx(0.9)


@pytest.mark.parametrize("place", [0.0, 1.0, 2.0, 3.0, -40.0])
def test_a_place_that_adds_to_the_logit_changes_no_label(place: float) -> None:
    p_good = 1 / (1 + math.exp(-1.0))
    choice, other = choose(biased(p_good, place), [question(), question(BAD, GOOD, "r")], How())
    assert choice.p_first == pytest.approx(0.7310586) and other.p_first == pytest.approx(1 - 0.7310586)
    assert (choice.shown_first > 0.5) == (place > 0) or place == 0


def test_thoughts_that_disagree_between_the_orders_are_worth_nothing_however_sure_one_is() -> None:
    """In the one order the thought puts 30 nats on the good reply, in the other 5 on the bad one."""

    def rate(messages: Asked, text: str) -> float:
        sure = 30.0 if shown_first(messages) == GOOD else 5.0
        return sure if text == OPTIONS[0] else 0.0

    thinker = Scripted(lambda m, k: "Hm.", rate)
    (choice,) = choose(thinker, [question()], How(thought_tokens=5))
    assert choice.p_first == pytest.approx(0.5, abs=0.005)
    assert clamp(choice.p_first, 0.4) == choice.p_first


@pytest.mark.parametrize("p_order", [0.1, 0.5, 0.95])
def test_swapping_the_replies_mirrors_the_label_whatever_the_order_bias(p_order: float) -> None:
    straight, turned = choose(labeller(0.7, p_order), [question(), question(BAD, GOOD)], How())
    assert straight.p_first == pytest.approx(1 - turned.p_first)
    assert straight.shown_first == pytest.approx(turned.shown_first)
    assert straight.p_first > 0.5, "the verdict names the same reply in both orders"


def test_each_question_is_asked_once_in_each_order_under_its_principle() -> None:
    model = labeller(0.6, 0.5)
    choose(model, [question(id="a"), question(id="b")], How())
    assert [shown_first(m) for m in model.asked] == [GOOD, GOOD, BAD, BAD]
    for messages in model.asked:
        assert PRINCIPLE in messages[-2]["content"] and messages[-1]["content"] == ANSWER


def test_extreme_scores_do_not_overflow() -> None:
    extreme = Scripted(rate=lambda messages, text: -1e5 if text == OPTIONS[0] else 0.0)
    (choice,) = choose(extreme, [question()], How())
    assert choice.p_first == pytest.approx(0.5) and choice.shown_first == pytest.approx(0.0)


def test_votes_are_shares_and_marked_as_votes() -> None:
    def say(messages: Asked, k: int) -> str:
        letter = "A" if shown_first(messages) == GOOD else "B"
        return f" ({letter})" if k < 6 else " (B)" if letter == "A" else " (A)"

    voter = Scripted(say)
    (choice,) = choose(voter, [question()], How(votes=8, seed=3))
    assert choice.voted and choice.p_first == pytest.approx(6 / 8)
    assert len(set(voter.seeds)) == 2, "the orders are voted on with seeds of their own"
    assert choose(Scripted(say), [question()], How(votes=8, seed=3)) == [choice]


def test_votes_for_the_option_shown_first_cancel_out() -> None:
    (choice,) = choose(Scripted(lambda m, k: " (A)"), [question()], How(votes=4))
    assert choice.p_first == 0.5 and choice.shown_first == 1.0


def test_answers_without_a_letter_count_for_nothing() -> None:
    (choice,) = choose(Scripted(lambda m, k: " Beats me"), [question()], How(votes=4))
    assert choice.p_first == 0.5
    (choice,) = choose(
        Scripted(lambda m, k: " (A)" if k == 0 and shown_first(m) == GOOD else " no idea"), [question()], How(votes=4)
    )
    assert choice.p_first == pytest.approx((1.0 + 0.5) / 2)


def test_after_a_thought_the_letter_is_asked_for_behind_it() -> None:
    scorer = labeller(0.75, 0.5)
    scorer.say = lambda messages, k: f" Thought {k}. {ANSWER} (B)"
    (choice,) = choose(scorer, [question()], How(thought_tokens=20, thought_samples=3, seed=1))
    assert choice.p_first == pytest.approx(0.75) and not choice.voted
    opened, concluded = scorer.asked[:2], scorer.asked[2:]
    assert [m[-1]["content"] for m in opened] == [THOUGHT] * 2
    assert len(concluded) == 6
    for messages in concluded:
        text = messages[-1]["content"]
        assert text.startswith(f"{THOUGHT} Thought") and text.endswith(ANSWER)
        assert text.count(ANSWER) == 1, "what the thought concluded by itself is not asked twice"
    assert scorer.samplings[0].max_tokens == 20


def test_thoughts_are_averaged() -> None:
    def rate(messages: Asked, text: str) -> float:
        sure = "Thought 0" in messages[-1]["content"]
        return (100.0 if sure else 0.0) if (text == OPTIONS[0]) == (shown_first(messages) == GOOD) else 0.0

    thinker = Scripted(lambda m, k: f"Thought {k}.", rate)
    (choice,) = choose(thinker, [question()], How(thought_tokens=5, thought_samples=2))
    assert choice.p_first == pytest.approx((1.0 + 0.5) / 2)


def test_votes_after_a_thought_are_marked_too() -> None:
    thinker = Scripted(lambda m, k: " (A)")
    (choice,) = choose(thinker, [question()], How(thought_tokens=5, votes=2))
    assert choice.voted and choice.shown_first == 1.0


def test_shots_come_before_every_question() -> None:
    shot = {
        "messages": [user("Hm?")],
        "first": "x",
        "second": "y",
        "answer": "B",
        "thought": "t",
        "principle": "Which?",
    }
    model = labeller(0.6, 0.5)
    choose(model, [question()], How(shots=[shot]))
    assert all(m[1]["content"] == f"{ANSWER} (B)" and len(m) == 4 for m in model.asked)


def test_clamp() -> None:
    assert [clamp(p, 0.4) for p in (0.0, 0.45, 0.9)] == [0.4, 0.45, 0.6]
    assert clamp(0.97, 0.0) == 0.97


@pytest.mark.skipif(not is_installed(), reason=f"the package {PACKAGE} is not installed")
def test_a_reader_of_principles_scores_and_has_no_order(tmp_path: Path) -> None:
    reader = open_labeller(given("labeller", labeller_folder(tmp_path / "reader"), "checkpoint", "labeller"))
    assert isinstance(reader, PrincipleReader)
    straight, turned = choose(reader, [question(), question(BAD, GOOD)], How())
    (gap,) = reader.score([Lesson("q", PRINCIPLE, [user("Say something.")], GOOD, BAD)])
    assert straight.p_first == pytest.approx(1 / (1 + math.exp(-gap)), abs=1e-5) != 0.5
    assert straight.p_first + turned.p_first == pytest.approx(1.0, abs=1e-5)
    assert straight.shown_first == 0.5 and straight.orders[0] == pytest.approx(1 - straight.orders[1])
    with pytest.raises(CharterError, match="leave thought out"):
        choose(reader, [question()], How(thought_tokens=8))


def test_a_principle_stands_before_a_system_text_of_the_conversation(checkpoints: Path) -> None:
    messages = under_principle([{"role": "system", "content": "Be Bob."}, user("Hi")], "Is it kind?")
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"].index("Is it kind?") < messages[0]["content"].index("Be Bob.")
    assert not isinstance(open_labeller(policy(checkpoints / "policy", "labeller")), PrincipleReader)
