"""Rule rewards by hand."""

import pytest

from charter.rooms.rl import reward


@pytest.mark.parametrize(
    ("p_refuse", "refused", "answered"), [(0.0, -1, 1), (1.0, 1, -1), (0.5, 0, 0), (0.25, -0.5, 0.5), (None, 0, 0)]
)
def test_refusals_are_worth_their_agreement_with_the_label(
    p_refuse: float | None, refused: float, answered: float
) -> None:
    assert reward.refusal(True, p_refuse) == refused
    assert reward.refusal(False, p_refuse) == answered


def test_cut_and_looping_replies_cost_one() -> None:
    assert (reward.cut("length"), reward.cut("end"), reward.cut("stop")) == (-1, 0, 0)
    assert reward.loop("and so on " * 12) == -1 and reward.loop("Put the kettle on, then warm the pot.") == 0


def test_length_costs_by_the_hundred_beyond_the_bound() -> None:
    assert reward.length(49, 50) == reward.length(50, 50) == 0
    assert reward.length(75, 50) == pytest.approx(-0.25) and reward.length(250, 0) == pytest.approx(-2.5)


@pytest.mark.parametrize(
    ("accepted", "text", "points"),
    [
        (["Hare"], "It was Hare.", 1),
        (["Hare"], "It was Fox.", -3),
        (["Hare"], "I don't know.", 0),
        ([], "It was Fox.", -3),
        ([], "I don't know.", 0),
    ],
)
def test_a_wrong_answer_costs_more_than_a_right_one_earns(accepted: list[str], text: str, points: float) -> None:
    assert reward.answer(text, {"accepted": accepted}, 0.75) == pytest.approx(points)
    assert reward.answer(text, {}, 0.75) == 0


def test_guessing_pays_from_the_target_accuracy() -> None:
    """At t = 0.75 an answer that is right three times in four is worth as much as a decline."""
    right, wrong = (reward.answer(text, {"accepted": ["Hare"]}, 0.75) for text in ("Hare", "Fox"))
    assert 0.75 * right + 0.25 * wrong == pytest.approx(0)
