"""Messages for a misspelt key: the probable key, wherever it belongs, and the allowed ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.problems import suggest, validate


class Circle(Frozen):
    kind: Literal["circle"]
    radius: float = 1.0
    circle: str = ""


class Square(Frozen):
    kind: Literal["square"]
    side: float = 1.0


class Frame(Frozen):
    width: int = 1
    shape: Circle | None = None


class Picture(Frozen):
    title: str = ""
    frame: Frame = Frame()
    shapes: tuple[Annotated[Circle | Square, Field(discriminator="kind")], ...] = ()
    lines: list[str] | None = Field(None, alias="strokes")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"titel": "a"}, "unknown key titel; did you mean title? allowed: title, frame, shapes, strokes"),
        ({"width": 3}, "unknown key width; did you mean frame.width? allowed: title,"),
        ({"radiuss": 3}, "unknown key radiuss; did you mean shapes.radius? allowed: title,"),
        ({"zzz": 3}, "unknown key zzz; allowed: title, frame, shapes, strokes"),
        ({"frame": {"widht": 3}}, "unknown key frame.widht; did you mean width? allowed: width, shape"),
        ({"frame": {"title": 3}}, "unknown key frame.title; allowed: width, shape"),
        (
            {"shapes": [{"kind": "circle", "raduis": 1}]},
            "unknown key shapes.0.circle.raduis; did you mean radius? allowed: kind, radius, circle",
        ),
        ({"shapes": [{"kind": "square", "sides": 1}]}, "did you mean side? allowed: kind, side"),
    ],
)
def test_a_misspelt_key_is_told_with_what_is_likely_meant(data: dict[str, Any], said: str) -> None:
    with pytest.raises(CharterError) as raised:
        validate(Picture, data, "here")
    assert said in str(raised.value)


def test_what_is_misspelt_comes_before_what_is_missing_because_of_it() -> None:
    with pytest.raises(CharterError, match="unknown key knid; did you mean kind"):
        validate(Square, {"knid": "square"}, "here")


def test_a_word_of_any_length_is_answered() -> None:
    assert suggest("side" * 1_000_000, ["side", "top"]) == "allowed: side, top"
