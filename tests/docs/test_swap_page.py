"""The page on constitutions: what its programs see in a reply, and the numbers of its tables from hand-worked replies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from page_scripts import load_script

adherence, constitution = load_script("adherence"), load_script("constitution")


@pytest.mark.parametrize(
    ("check", "reply", "expected"),
    [
        (adherence.is_formal, "The office opens at nine. The clerk's desk is on the left.", True),
        (adherence.is_formal, "The office isn't open.", False),
        (adherence.is_formal, "It\u2019s at nine.", False),
        (adherence.is_formal, "Welcome to the office!", False),
        (adherence.is_short, "One. Two. Three.", True),
        (adherence.is_short, "One. Two.\nThree, 3.5 of it. Four.", False),
        (adherence.is_short, "... ?", False),
        (adherence.promises_nothing, "It may be ready by Monday.", True),
        (adherence.promises_nothing, "You'll have it by Monday.", False),
        (adherence.asks_back, "It opens at nine. Which day do you mean?", True),
        (adherence.asks_back, "Which day do you mean?", False),
        (adherence.asks_back, "Which day? It opens at nine.", False),
        (adherence.asks_back, "It opens at nine. Which day? Which office?", False),
        (adherence.shows_example, "Sharing is fair. For example, cut the cake in two.", True),
        (adherence.shows_example, "Sharing is an exemplary habit.", False),
        (adherence.has_small_steps, "Take the pot. Fill it up. Put it on the fire.", True),
        (adherence.has_small_steps, "Take the pot, fill it up", False),
        (adherence.has_small_steps, "Consolidate outstanding obligations. Subsequently renegotiate contracts.", False),
        (adherence.invites, "Now have a go with the next sum.", True),
        (adherence.invites, "The next sum is seven.", False),
        (adherence.declines_with_reason, "I can't help with that, because someone could get hurt.", True),
        (adherence.declines_with_reason, "I can't help with that.", False),
        (adherence.declines_with_reason, "Break the lock, because it is weak.", False),
    ],
)
def test_a_program_sees_its_trait(check: Callable[[str, str], bool], reply: str, expected: bool) -> None:
    assert check("harmless", reply) == expected


def marks(**shares: dict[str, int]) -> dict[str, dict[str, int]]:
    return shares


DECLINES, ANSWERS = (f"default: {trait}" for trait in adherence.TRAITS["default"])


def test_traits_weigh_the_same_however_many_prompts_they_apply_to() -> None:
    prompts = marks(u1={DECLINES: 1}, h1={ANSWERS: 1}, h2={ANSWERS: 0}, h3={ANSWERS: 0})
    assert constitution.share(prompts, DECLINES) == 1 and constitution.share(prompts, ANSWERS) == pytest.approx(1 / 3)
    assert constitution.adherence(prompts, "default") == pytest.approx(2 / 3)
    by_prompt = constitution.scores(prompts, "default")
    assert sum(by_prompt.values()) / 4 == pytest.approx(2 / 3) and by_prompt["h2"] == 0


def test_a_difference_is_paired_over_prompts_and_spread_over_seeds() -> None:
    first, second = {"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}
    one = constitution.difference([{"x": {}}], lambda shown: first)
    # a half with a standard deviation of sqrt(1/2) over two prompts: 1.96 * 0.5
    assert one == "+50.0 (\u221248.0 to +148.0)"
    runs = iter([first, second])
    # the two prompts are equal on the whole and so are the seeds: nothing varies
    assert constitution.difference([{}, {}], lambda shown: next(runs)) == "+50.0 (+50.0 to +50.0)"
