"""Renders chat templates as transformers does, in a sandbox: they come with downloaded models.

Besides plain Jinja, templates may use loop controls, raise_exception, strftime_now, tojson and the
{% generation %} block of trainers, which has no effect here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template as Compiled
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import line_of
from charter.ground.text.bounded import BoundedEnvironment, budget

LONGEST_DATE = 100  # characters of a date's format
LONGEST_TEMPLATE = 2**15  # characters; the longest in use have some 20,000
TODAY = datetime(2024, 7, 26)  # the date that every template gets


class _Generation(Extension):
    """Accepts {% generation %} ... {% endgeneration %} and renders its body."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it as an instance attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(source: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any]) -> str:
    """The text that a template makes of messages. Raises CharterError with the template's own error."""
    compiled = _compile(source)
    try:
        # copies, because a template may change its messages
        copies = [dict(message) for message in messages]
        with budget():
            return compiled.render(messages=copies, tools=None, documents=None, **variables)
    except Exception as error:  # a strange template may raise anything
        raise CharterError(f"the chat template refuses these messages: {line_of(error)}") from None


@lru_cache(maxsize=32)
def _compile(source: str) -> Compiled:
    if len(source) > LONGEST_TEMPLATE:
        raise CharterError(
            f"the chat template has {len(source):,} characters; at most {LONGEST_TEMPLATE:,} are read"
        )
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.add_filter("tojson", _tojson)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(source)
    except Exception as error:  # of Jinja, or of Python, which compiles what Jinja writes
        raise CharterError(f"the chat template is not valid Jinja: {line_of(error)}") from None


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML characters
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    """Always the same date: a run that resumes or is verified tomorrow must make the same prompts."""
    if len(form) > LONGEST_DATE:
        raise TemplateError("the format of a date is too long")
    return TODAY.strftime(form)
