"""Turns a failed validation into one line: which key or value is wrong and what is allowed."""

import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from charter.ground.artifact.errors import CharterError

Model = TypeVar("Model", bound=BaseModel)


def checked(
    model: type[Model], given: object, place: str | Path, worded: Callable[[str], str] = str
) -> Model:
    """Data as an instance of `model`. Raises CharterError: where it stands, and the first thing wrong in it, which
    `worded` may say in words of its own."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise CharterError(f"{place}: {worded(first_problem(error, model))}") from None


def suggest(word: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?' when one of the allowed names is close, then the allowed names."""
    names = list(allowed)
    folded = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    hint = f"did you mean {folded[close[0]]}? " if close else ""
    return f"{hint}allowed: {', '.join(names) if names else 'none'}"


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong in data validated against `model`, on one line; a misspelt key comes first."""
    problems = error.errors(include_url=False)
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    place = list(problem["loc"])
    name = ".".join(str(part) for part in place)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name}; {suggest(str(place[-1]), _fields_at(model, place[:-1]))}"
    if place and place[-1] == KEY and problem["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))
        return f"unknown key {'.'.join(map(str, place[:-1]))}; {suggest(str(place[-2]), allowed)}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    alternatives = [one for one in problems if _alternative(one, problem)]
    if alternatives:
        name = ".".join(str(part) for part in place[:-1])
    first, *others = dict.fromkeys(_words(one) for one in alternatives or [problem])
    words = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    return f"{name}{': ' if name else ''}{words}{_given(problem['input'])}"


KEY = "[key]"  # how pydantic names the key itself of a mapping
_UNION = re.compile(r"str|int|float|bool|none|\w+\[.*\]")
_WORDS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
    "finite_number": "must be a finite number",
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "list": "must be a list",
    "tuple": "must be a list",
    "dict": "must be a mapping of names to values",
    "model": "must be a mapping of names to values",
}


def _words(problem: ErrorDetails) -> str:
    """What is expected, in plain words; pydantic's own for what no recipe has met so far."""
    if (known := _WORDS.get(problem["type"])) is not None:
        return known.format(**problem.get("ctx", {}))
    if (known := _KINDS.get(problem["type"].partition("_")[0])) is not None:
        return known
    return problem["msg"][:1].lower() + problem["msg"][1:]


def _alternative(one: ErrorDetails, problem: ErrorDetails) -> bool:
    """Whether a problem is that of another form which the same value might have had: text, or a list of texts."""
    place = problem["loc"]
    same = one["input"] is problem["input"] and one["loc"][:-1] == place[:-1]
    return same and all(_UNION.fullmatch(str(loc[-1])) is not None for loc in (one["loc"], place) if loc)


def _given(value: object) -> str:
    """' (given 3)'; nothing of lists and mappings, which would fill the line."""
    if isinstance(value, list | dict | tuple | BaseModel):
        return ""
    shown = "nothing" if value is None else repr(value)
    return f" (given {shown if len(shown) <= 60 else shown[:57] + '...'})"


def _fields_at(model: type[BaseModel], place: list[int | str]) -> list[str]:
    """The field names (as written in YAML) of the class found by following a path of fields."""
    here: type[BaseModel] | None = model
    for part in place:
        if isinstance(part, int) or here is None:
            continue
        field = next((f for n, f in here.model_fields.items() if part in (n, f.alias)), None)
        here = _class_in(field.annotation) if field is not None else here
    return [field.alias or name for name, field in here.model_fields.items()] if here is not None else []


def _class_in(annotation: object) -> type[BaseModel] | None:
    """The pydantic class in an annotation such as Optional[Sampling] or list[Step]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if (found := _class_in(inner)) is not None:
            return found
    return None
