"""Turns a failed validation into one line: the wrong key or value, and what is allowed."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.aliases import our_name

Model = TypeVar("Model", bound=BaseModel)


def validate(
    model: type[Model], data: object, place: str | Path, reword: Callable[[str], str] = str
) -> Model:
    """Data as an instance of `model`. Raises CharterError with `place` and the first problem, which `reword` may
    rephrase."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise CharterError(f"{place}: {reword(first_problem(error, model))}") from None


def suggest(word: str, allowed: Iterable[str]) -> str:
    """'did you mean X? ' if one of the allowed names is close or means what other tools call so, then all names."""
    names = list(allowed)
    guess = our_name(word, names) or near(word, names)
    hint = f"did you mean {guess}? " if guess else ""
    return f"{hint}allowed: {', '.join(names) if names else 'none'}"


def near(word: str, names: Sequence[str], alike: float = 0.6) -> str | None:
    """The name that a word probably misspells; `alike` is the least similarity, from 0 to 1."""
    folded = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word[:LONGEST_WORD].lower(), folded, n=1, cutoff=alike)
    return folded[close[0]] if close else None


def suggest_key(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """Suggests the meaning of an unknown key in data for `model`, as `suggest` does. For a key of another part it names
    the place."""
    *above, last = place
    word, here = str(last), _fields_at(model, above)
    elsewhere = _nested_keys(model)
    guess = word if word in elsewhere else our_name(word, [*here, *elsewhere, *elsewhere.values()])
    guess = guess or near(word, here) or near(word, list(elsewhere), alike=0.8)
    if guess and guess not in here:
        return f"did you mean {elsewhere.get(guess, guess)}? {suggest('', here)}"
    return suggest(word, here)


def misspelt_first(problems: Sequence[ErrorDetails]) -> ErrorDetails:
    """The problem to report: an unknown key before other problems, which it may cause."""
    return next((one for one in problems if one["type"] == UNKNOWN), problems[0])


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem in data validated against `model`, on one line; a misspelt key comes first."""
    problems = error.errors(include_url=False)
    problem = misspelt_first(problems)
    place = list(problem["loc"])
    name = ".".join(str(part) for part in place)
    if problem["type"] == UNKNOWN:
        return f"unknown key {name}; {suggest_key(model, place)}"
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
    return f"{name}{': ' if name else ''}{words}{_describe_value(problem['input'])}"


UNKNOWN = "extra_forbidden"  # pydantic's name of this problem
LONGEST_WORD = 100  # characters to compare: the input may have any length
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
    """The expectation in plain words, or pydantic's message for other types of problems."""
    if (words := _WORDS.get(problem["type"])) is not None:
        return words.format(**problem.get("ctx", {}))
    if (words := _KINDS.get(problem["type"].partition("_")[0])) is not None:
        return words
    return problem["msg"][:1].lower() + problem["msg"][1:]


def problem_words(problem: ErrorDetails) -> str:
    """The expectation, and the value that doesn't meet it, without its place."""
    return f"{_words(problem)}{_describe_value(problem['input'])}"


def _alternative(one: ErrorDetails, problem: ErrorDetails) -> bool:
    """Whether a problem concerns another allowed form of the same value: text, or a list of texts."""
    place = problem["loc"]
    same = one["input"] is problem["input"] and one["loc"][:-1] == place[:-1]
    return same and all(_UNION.fullmatch(str(loc[-1])) is not None for loc in (one["loc"], place) if loc)


def _describe_value(value: object) -> str:
    """' (given 3)'; "" for lists and mappings, which would fill the line."""
    if isinstance(value, list | dict | tuple | BaseModel):
        return ""
    text = "nothing" if value is None else repr(value)
    return f" (given {text if len(text) <= 60 else text[:57] + '...'})"


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The field names (as written in YAML) of the class at the end of a path of fields."""
    here, in_mapping = [model], False
    for part in place:
        if isinstance(part, int):
            continue
        if in_mapping:  # a name in a mapping, whose values are of the classes here
            in_mapping = False
            continue
        if len(here) > 1:  # pydantic names which of several forms it read
            here = [one for one in here if _is_form(one, part)] or here
            continue
        field = next((f for one in here for n, f in one.model_fields.items() if part in (n, f.alias)), None)
        here = _classes_in(field.annotation) if field is not None else []
        in_mapping = field is not None and _is_mapping(field.annotation)
    return list(dict.fromkeys(name for one in here for name in _names(one)))


@lru_cache(maxsize=64)
def _nested_keys(model: type[BaseModel]) -> dict[str, str]:
    """The keys of a model's parts, each with its first place: {"max_output": "models.max_output"}."""
    places: dict[str, str] = {}
    waiting, seen = [("", model)], {model}
    for above, one in waiting:
        for name, field in one.model_fields.items():
            key = field.alias or name
            at = above + key
            if above:
                places.setdefault(key, at)
            inner = [each for each in _classes_in(field.annotation) if each not in seen]
            seen.update(inner)
            waiting += [(f"{at}.", each) for each in inner]
    return places


def _is_mapping(annotation: object) -> bool:
    """Whether an annotation is a mapping, or has one among its forms."""
    return get_origin(annotation) in (dict, Mapping) or any(_is_mapping(one) for one in get_args(annotation))


def _is_form(model: type[BaseModel], tag: str) -> bool:
    """Whether a part of a place means this form: its name, or the value of its tag."""
    return tag == model.__name__ or any(tag in get_args(f.annotation) for f in model.model_fields.values())


def _names(model: type[BaseModel]) -> Iterator[str]:
    return (field.alias or name for name, field in model.model_fields.items())


def _classes_in(annotation: object) -> list[type[BaseModel]]:
    """The pydantic classes in an annotation such as Optional[Sampling] or list[Step | Group]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _classes_in(inner)]
