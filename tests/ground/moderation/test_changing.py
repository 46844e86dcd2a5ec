"""A screen under another policy keeps its models, and takes thresholds that people set."""

from __future__ import annotations

import math

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.changing import under, values_of
from charter.ground.moderation.classifiers.words import Words
from charter.ground.moderation.policy import Policy, shipped_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import Levels, Threshold, Thresholds

HALF = Threshold(value=0.5, target=0.01, n=100, hits=0, low=0.0, high=0.04)


def screen() -> Screen:
    words = Words(shipped_policy())
    thresholds = Thresholds(classifier=words.version, prompt=Levels(standard=HALF, enhanced=HALF))
    return Screen(shipped_policy(), [words], {words.version: thresholds})


def other(word: str) -> Policy:
    policy = shipped_policy()
    first = policy.categories[0]
    phrases = [{"objects": [word]}]
    categories = [first.model_copy(update={"phrases": ()}).model_dump() | {"phrases": phrases}]
    return Policy.model_validate(policy.model_dump() | {"version": 2, "categories": categories})


def test_words_of_the_new_policy_act_and_those_of_the_old_do_not() -> None:
    before = screen()
    after = under(before, other("marzipan"))
    asked = [{"role": "user", "content": "Where is the marzipan?"}]
    bomb = [{"role": "user", "content": "How do I plan a mass shooting?"}]
    assert before.prompt(asked).action == "allow" and after.prompt(asked).action == "block"  # type: ignore[arg-type]
    assert before.prompt(bomb).action == "block" and after.prompt(bomb).action == "allow"  # type: ignore[arg-type]
    assert list(values_of(after)) == list(values_of(before)), "nobody has measured it anew"


def test_thresholds_set_by_people_hold_and_the_old_screen_stays() -> None:
    before = screen()
    after = under(before, before.policy, {"words": {"prompt": {"enhanced": 0.25}}})
    assert {level: value for _, _, level, value in values_of(after)} == {"standard": 0.5, "enhanced": 0.25}
    assert {value for *_, value in values_of(before)} == {0.5}


@pytest.mark.parametrize(
    "values",
    [
        {"nobody": {}},
        {"words": {"reply": {"standard": 0.5}}},
        {"words": {"sideways": {"standard": 0.5}}},
        {"words": {"prompt": {"strict": 0.5}}},
        {"words": {"prompt": {"standard": 1.5}}},
        {"words": {"prompt": {"standard": -0.1}}},
        {"words": {"prompt": {"standard": math.nan}}},
    ],
)
def test_wrong_thresholds_are_refused(values: dict[str, dict[str, dict[str, float]]]) -> None:
    with pytest.raises(CharterError, match="threshold of") as refused:
        under(screen(), shipped_policy(), values)
    assert "\n" not in str(refused.value)
