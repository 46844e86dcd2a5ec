"""Turns a failed validation into one line: which key or value is wrong and what is allowed."""

import difflib
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel, ValidationError


def suggest(word: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?' when one of the allowed names is close, then the allowed names."""
    names = list(allowed)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(names) if names else 'none'}"


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong in data validated against `model`, on one line; a misspelt key comes first."""
    problems = error.errors(include_url=False)
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    place = list(problem["loc"])
    name = ".".join(str(part) for part in place)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name}; {suggest(str(place[-1]), _fields_at(model, place[:-1]))}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = repr(problem["input"])
    shown = given if len(given) <= 60 else given[:57] + "..."
    return f"{name or model.__name__}: {message[:1].lower()}{message[1:]} (given {shown})"


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
