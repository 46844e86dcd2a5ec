"""A guard model's verdicts become scores; what is no verdict is refused, and its false alarms stand in the thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.classifiers.guard import HAZARDS, Guard
from charter.ground.moderation.opening import open_classifier
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter.ground.text.dialogue import Message, assistant, system, user


def verdict(messages: Sequence[Message], k: int) -> str:
    """Calls a bomb unsafe, wherever in the conversation it stands."""
    return "\n\nunsafe\nS9,S1" if "bomb" in str(messages) else "safe"


def test_a_verdict_is_a_score_and_its_hazards_are_categories() -> None:
    model = toys.Scripted(say=verdict)
    guard = Guard(model, shipped_policy(), "guard")
    talk = [system("Be kind."), user("a bomb please"), assistant("No."), user("and now?")]
    bad, good = guard.prompts([talk, [user("bread please")]])
    assert bad.violation == 1 and bad.categories == {"weapons": 0.5, "violence": 0.5}
    assert good.violation == 0 and good.categories == {}
    assert [m["content"] for m in model.asked[0]] == ["a bomb please", "No.", "and now?"]
    (reply,) = guard.replies([([user("how?")], "With a bomb.")])
    assert reply.violation == 1 and model.asked[-1][-1] == assistant("With a bomb.")
    assert {category.id for category in shipped_policy().categories} >= set(HAZARDS.values())


def test_a_screen_acts_on_the_verdict_and_tells_its_false_alarms() -> None:
    guard = Guard(toys.Scripted(say=verdict), shipped_policy(), "guard")
    screen = Screen(shipped_policy(), [guard], {})
    assert screen.prompt([user("a bomb please")]).action == "block"
    assert screen.prompt([user("bread please")]).action == "allow"
    alarms = Guard(toys.Scripted(say=lambda messages, k: "Yes"), shipped_policy(), "alarms").thresholds.prompt
    assert alarms is not None and alarms.standard.hits == alarms.standard.n > 100
    assert alarms.standard.value == 0.5


def test_what_is_no_guard_is_said() -> None:
    with pytest.raises(CharterError, match="guard chatty answered 'Sure, I can help', expected safe or unsafe"):
        Guard(toys.Scripted(say=lambda m, k: "Sure, I can help"), shipped_policy(), "chatty").prompts([[user("a")]])
    with pytest.raises(CharterError, match="guard needs a model: write guard:REF"):
        open_classifier("guard", shipped_policy())
