"""Settings and roles that contradict each other, sentences that a cut reply is kept up to, and the forecast."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from charter.ground.settings.room import Given, Sizes
from charter.rooms.select.replies import whole_sentences
from charter.rooms.select.settings import Filters, Settings, check, estimate


def filled(*roles: str) -> dict[str, list[Given]]:
    """Each role with one input, or as many as it is named."""
    by_role: dict[str, list[Given]] = {}
    for role in roles:
        by_role.setdefault(role, []).append(Given(role))
    return by_role


@pytest.mark.parametrize(
    ("settings", "roles", "words"),
    [
        (Settings(), ("policy",), "there are no prompts"),
        (Settings(), ("prompts",), "needs the role policy"),
        (Settings(k=0), ("policy", "prompts", "candidates"), "k: 0 samples nothing; leave the role out"),
        (Settings(k=0), ("prompts",), "needs other replies"),
        (Settings(), ("policy", "prompts", "start"), "start answers the prompts of harmless"),
        (Settings(choose="median"), ("policy", "prompts"), "choose: median needs scores"),
        (Settings(weights=(1.0,)), ("policy", "prompts"), "weights needs scores"),
        (Settings(weights=(1.0,)), ("policy", "prompts", "graders", "graders"), "1 weights for 2 graders"),
        (Settings(filters=Filters(above_fixed=True)), ("policy", "prompts"), "above_fixed needs scores"),
        (
            Settings(filters=Filters(above_fixed=True)),
            ("policy", "harmless", "graders"),
            "above_fixed applies to the role prompts",
        ),
        (Settings(filters=Filters(refusal="require")), ("policy", "harmless"), "refusal applies to the role prompts"),
        (
            Settings(filters=Filters(above_draft=True)),
            ("policy", "prompts", "graders"),
            "above_draft needs the role candidates",
        ),
        (Settings(filters=Filters(above_draft=True)), ("policy", "prompts", "candidates"), "above_draft needs scores"),
    ],
)
def test_contradictions_are_one_line(settings: Settings, roles: tuple[str, ...], words: str) -> None:
    wrong = check(settings, filled(*roles))
    assert words in wrong and "\n" not in wrong


@pytest.mark.parametrize(
    ("settings", "roles"),
    [
        (Settings(k=1, temperature=0), ("policy", "harmless")),
        (Settings(k=0), ("start", "harmless")),
        (Settings(k=0, filters=Filters(above_draft=True)), ("prompts", "candidates", "graders")),
        (Settings(weights=(1.0, 2.0), filters=Filters(above_fixed=True)), ("policy", "prompts", "graders", "graders")),
    ],
)
def test_what_goes_together_is_let_through(settings: Settings, roles: tuple[str, ...]) -> None:
    assert check(settings, filled(*roles)) == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"k": 4, "temperature": 0}, "4 greedy replies are one and the same"),
        ({"weights": (1.0, -1.0)}, "none below 0"),
        ({"weights": (0.0, 0.0)}, "one above it"),
        ({"weights": (1.0, 2.0), "join": "min"}, "the least score has no weights"),
    ],
)
def test_settings_that_contradict_themselves(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(values)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two and", "One."),
        ("One! Two? Three", "One! Two?"),
        ('He said "stop." And then', 'He said "stop."'),
        ("Steps:\n1. Whisk it.\n2. Bake", "Steps:\n1. Whisk it."),
        ("Steps:\n1. Whisk it.\n2.", "Steps:\n1. Whisk it."),
        ("It was in 1999. Then", "It was in 1999."),
        ("It is big. It costs 3.", "It is big."),
        ("Ask for fruit, e.g. apples and", ""),
        ("Go there. Ask Mr. Smith for", "Go there."),
        ("no end at all", ""),
        ("", ""),
        ("All of it is whole.", "All of it is whole."),
        ("版は三つ。次は", "版は三つ。"),
    ],
)
def test_the_last_whole_sentence(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


def test_the_forecast_grows_with_what_is_sampled_and_read() -> None:
    sizes = Sizes(
        each={"prompts": (100,), "harmless": (50,)},
        parameters={"policy": 134_500_000, "graders": 134_500_000},
        threads=2,
    )
    four, eight = (estimate(Settings(k=k, limit=60), sizes).minutes for k in (4, 8))
    # 110 prompts, 8 replies of 96 tokens each, of which 0.8 are sampled; the fixed reply is read beside them
    assert eight == pytest.approx((880 * 96 * 0.8 / 250 + 990 * 96 / 700) / 60)
    assert four is not None and eight is not None and four < 0.6 * eight
    assert estimate(Settings(k=8, limit=60), sizes).rows == 110
    assert estimate(Settings(k=8, limit=60, keep=0), sizes).rows == 880
    assert estimate(Settings(), Sizes()).minutes is None
