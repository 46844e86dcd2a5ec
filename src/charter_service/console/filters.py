"""What a visitor sends to the console, typed: query strings that filter a listing, and forms that change something.

A subclass of `Filters` or `Sent` names its fields; their types say how a text is read and what a refusal expects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from charter_service.api.admin_entrance import Visit
from charter_service.api.errors import ApiError, invalid

DAYS, MOST_DAYS = 30, 366
SURE = ("yes", "true", "1")
PLACE = "the place that the page before named"
DATE, TIME, DIGITS, TICK = (
    ("type", "date"),
    ("type", "datetime-local"),
    ("inputmode", "numeric"),
    ("type", "checkbox"),
)
NAME = "{name}"  # stands for the field's name in the words of a refusal


class Texts(BaseModel):
    """Typed fields, each read from a text; one that wasn't sent is the empty text."""

    model_config = ConfigDict(frozen=True, validate_default=True)

    @classmethod
    def read(cls, text: Callable[[str], str]) -> Self:
        """The fields, by a function that gives the text of each. Raises ApiError that names the first wrong one."""
        try:
            return cls.model_validate({name: text(name) for name in cls.model_fields})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            raise invalid(str(first["ctx"]["error"]).replace(NAME, name), name) from None


@dataclass(frozen=True, slots=True)
class Input:
    """How the form of a page asks for a filter: label, an attribute with its value, characters at most, a hint, whether
    the text is no prose, the words for no choice, and an id other than the field's name."""

    label: str
    attribute: tuple[str, str] | None = None
    most: int = 0
    hint: str = ""
    exact: bool = False
    all: str = ""
    id: str = ""


class Filters(Texts):
    """The filters of a listing, and its place between pages."""

    paging: ClassVar[Collection[str]] = ("before", "after")

    @classmethod
    def of(cls, visit: Visit) -> Self:
        """The filters in a query string. Raises ApiError."""
        return cls.read(visit.query)

    @classmethod
    def shown(cls, visit: Visit) -> dict[str, str]:
        """The filters as they were written, for the form of the page and the links to its next one."""
        return {name: visit.query(name) for name in cls.model_fields if name not in cls.paging}

    @classmethod
    def inputs(cls) -> list[dict[str, Any]]:
        """The fields of the page's form."""
        return [
            {**asdict(control), "name": name, "id": control.id or name}
            for name, field in cls.model_fields.items()
            for control in field.metadata
            if isinstance(control, Input)
        ]


class Sent(Texts):
    """The fields of a form."""

    @classmethod
    def of(cls, visit: Visit) -> Self:
        """The fields of a form. Raises ApiError."""
        return cls.read(visit.form.text)


def read_as(parse: Callable[[str], Any], expected: str = "", words: str = "") -> BeforeValidator:
    """Reads a text by a function that raises ValueError for a wrong one; the refusal says what was expected."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, OverflowError):
            raise ValueError(words or f"{NAME}: expected {expected}") from None

    return BeforeValidator(read)


def one_of(values: Collection[str], otherwise: str | None = None, words: str = "") -> BeforeValidator:
    """One of some words; `otherwise`: what stands for no text, by default nothing does."""

    def read(text: str) -> str:
        if not text and otherwise is not None:
            return otherwise
        if text not in values:
            raise ValueError
        return text

    return read_as(read, ", ".join(values) if len(values) != 2 else " or ".join(values), words)


def number(expected: str, digits: int = 9) -> BeforeValidator:
    """A whole number of at most so many digits; 0 for no text."""

    def read(text: str) -> int:
        if text and not (text.isascii() and text.isdigit() and len(text) <= digits):
            raise ValueError
        return int(text or 0)

    return read_as(read, expected)


def needed(words: str) -> BeforeValidator:
    """A text that must not be empty."""

    def read(text: str) -> str:
        if not text.strip():
            raise ValueError
        return text.strip()

    return read_as(read, words=f"{NAME}: {words}")


def counted(digits: int = 9) -> BeforeValidator:
    """A whole number in a form; None for no text."""

    def read(text: str) -> int | None:
        value = text.strip()
        if not value:
            return None
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= digits):
            raise ValueError
        return int(value)

    return read_as(read, words=f"{NAME} is not a whole number; go back and reload the page")


def _start_of(text: str) -> float:
    if not text:
        return 0.0
    day = date.fromisoformat(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _moment(text: str) -> float:
    if not text:
        return 0.0
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


Yes = Annotated[bool, BeforeValidator(lambda text: text == "yes")]
Stripped = Annotated[str, BeforeValidator(str.strip)]
Whole = Annotated[int, number("a whole number")]
Count = Annotated[int | None, counted()]  # of a form
DayStart = Annotated[float, read_as(_start_of, "a day such as 2026-11-26")]  # seconds since 1970; 0 for none
Moment = Annotated[float, read_as(_moment, "a time such as 2026-11-26T14:00")]  # the same


Owner = Annotated[str, Input("Organisation", most=200)]


class Days(Filters):
    """Days to show, both included (UTC)."""

    since: Annotated[str, Input("From", DATE)]
    until: Annotated[str, Input("To", DATE)]

    def days(self) -> tuple[date, date]:
        """The requested days, by default the last thirty. Raises ApiError."""
        try:
            until = date.fromisoformat(self.until) if self.until else datetime.now(UTC).date()
            since = date.fromisoformat(self.since) if self.since else until - timedelta(DAYS - 1)
        except (ValueError, OverflowError):
            raise invalid("since, until: expected days such as 2026-11-26", "since") from None
        if not 0 <= (until - since).days < MOST_DAYS:
            raise invalid(f"since must not be after until, and the range may have at most {MOST_DAYS} days", "since")
        return since, until


def organisation_in(names: Mapping[str, str], name_or_id: str) -> str:
    """The id of an organisation by its id or name; "" if none is named. Raises ApiError."""
    if not name_or_id or name_or_id in names:
        return name_or_id
    for id, name in names.items():
        if name == name_or_id:
            return id
    raise ApiError(404, f"there is no organisation {name_or_id}", param="organisation")


def is_sure(visit: Visit, name: str) -> bool:
    """Whether a field of a form says yes."""
    return visit.form.text(name) in SURE


def check_sure(visit: Visit) -> None:
    """Raises ApiError for a form that deletes something and doesn't say `sure`."""
    if not is_sure(visit, "sure"):
        raise invalid("nothing was deleted: tick that you are sure, and send it again", "sure")
