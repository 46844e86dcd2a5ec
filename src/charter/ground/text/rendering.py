"""Renders chat templates as transformers does, in a sandbox and with bounded work: they come with downloaded models,
and one could loop for hours.

Besides plain Jinja, templates may use loop controls, raise_exception, strftime_now, tojson and the
{% generation %} block of trainers, which has no effect here. Only filters and methods of known cost are allowed: those
that chat templates in use need.

A render has a budget of turns (of loops, calls, filters and operators; long texts and lists cost more) and of seconds,
and its texts have a bounded length. Each limit is checked before the work is done.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from itertools import islice
from types import GeneratorType
from typing import Any, NoReturn

from jinja2 import Template as Compiled
from jinja2 import TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.foreign import line_of

TURNS = 5_000_000
SECONDS = 10.0
LONGEST = 2**25  # characters of a text
ENTRIES = 2**20  # of a list, nested ones included
CUT = 2**22  # characters of a text that is split into a list
WIDEST = 10_000  # largest width
DEEPEST_INDENT = 16  # of JSON
BITS = 4096  # of a whole number
CHARACTERS = 64  # of a text that count as one turn

# those of transformers' templates, and other harmless ones
FILTERS = """abs attr batch capitalize center count d default dictsort e escape first float forceescape format groupby
indent int items join last length list lower map max min pprint reject rejectattr replace reverse round safe select
selectattr slice sort string striptags sum title tojson trim truncate unique upper urlencode wordcount wordwrap"""
METHODS = """capitalize casefold center copy count endswith expandtabs find format format_map get index isalnum isalpha
isdigit islower isnumeric isspace istitle isupper items join keys ljust lower lstrip partition removeprefix removesuffix
replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper values
zfill"""
_METHODS = frozenset(METHODS.split())
_WIDE = frozenset(
    ["batch", "center", "expandtabs", "indent", "ljust", "rjust", "slice", "truncate", "wordwrap", "zfill"]
)
_CUTTING = frozenset(
    ["batch", "groupby", "list", "map", "rsplit", "slice", "split", "splitlines", "wordcount", "wordwrap"]
)
_DEEP = frozenset(
    ["dictsort", "groupby", "join", "max", "min", "pprint", "sort", "string", "sum", "tojson", "unique", "urlencode"]
)
_WIDE_FORMAT = re.compile(r"\{[^{}]*:[^{}]*(?:\d{5}|\{)|%[^a-zA-Z%]*(?:\d{5}|\*)")
_BUDGET: ContextVar[Budget] = ContextVar("budget")
LONGEST_DATE = 100  # characters of a date's format
LONGEST_TEMPLATE = 2**15  # characters; the longest in use have some 20,000
TODAY = datetime(2024, 7, 26)  # the date that every template gets


class Budget:
    """The remaining budget of one render."""

    def __init__(self) -> None:
        self.turns, self.until = TURNS, time.monotonic() + SECONDS

    def take(self, turns: int) -> None:
        """Takes turns from the budget. Raises SecurityError if it is used up."""
        self.turns -= turns
        if self.turns < 0 or time.monotonic() > self.until:
            raise SecurityError(f"it takes more than {TURNS:,} turns or {SECONDS:g} seconds")


@contextmanager
def budget() -> Iterator[None]:
    """Gives all renders within the context one shared budget."""
    token = _BUDGET.set(Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def _concat(pieces: Iterable[str]) -> str:
    """Joins what a template or a macro wrote."""
    texts, size = list[str](), 0
    for piece in pieces:
        texts.append(piece)
        if (size := size + len(piece)) > LONGEST:
            _spend(size, True)
    return "".join(texts)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """An environment whose templates must be rendered within `budget`."""

    concat = staticmethod(_concat)
    intercepted_binops = frozenset(("+", "*", "**", "%", "//", "-", "/"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: _filter(name, self.filters[name]) for name in FILTERS.split()}
        self.filters |= {
            "charter_counted": _charge_loop,
            "charter_turn": _charge_turn,
            "charter_read": _charge_read,
            "charter_whole": _charge_whole,
            "charter_joined": _join,
        }
        self.finalize = _charge_whole
        self.globals.pop("lipsum", None)

    def add_filter(self, name: str, work: Callable[..., Any]) -> None:
        """Adds a filter of our own, which counts like the others."""
        self.filters[name] = _filter(name, work)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Wraps loops, concatenations, comparisons, tests and slices in filters that count."""
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = self._wrap("charter_counted", loop.iter)
            turn = self._wrap("charter_turn", nodes.Const(0, lineno=loop.lineno, environment=self))
            loop.body.insert(0, nodes.ExprStmt(turn, lineno=loop.lineno, environment=self))
        for concat in list(tree.find_all(nodes.Concat)):
            parts = nodes.List(list(concat.nodes), lineno=concat.lineno, environment=self)
            concat.nodes = [self._wrap("charter_joined", parts)]
        for comparison in list(tree.find_all(nodes.Compare)):
            comparison.expr = self._wrap("charter_whole", comparison.expr)
            for operand in comparison.ops:
                operand.expr = self._wrap("charter_whole", operand.expr)
        for test in list(tree.find_all(nodes.Test)):
            if test.name not in ("defined", "undefined"):
                test.node = self._wrap("charter_read", test.node)
        for part in list(tree.find_all(nodes.Getitem)):
            if isinstance(part.arg, nodes.Slice):
                part.node = self._wrap("charter_read", part.node)
        return tree

    def _wrap(self, name: str, node: nodes.Node) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=self)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Applies an operator, unless the result is too large."""
        _budget().take(1)
        if operator == "**":
            raise SecurityError("** is not allowed")
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, Sized) and isinstance(times, int):
                    _spend(len(sequence) * max(0, times), isinstance(sequence, str | bytes))
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _spend(len(left) + len(right), isinstance(left, str | bytes))
        elif operator == "%" and isinstance(left, str | bytes):
            _check_format(str(left))
            _weigh(right)
        value = super().call_binop(context, operator, left, right)
        if isinstance(value, int) and value.bit_length() > BITS:
            raise SecurityError("a number gets too large")
        return value

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a function, unless it is a method without a bounded cost."""
        args = tuple(map(_to_list, args))
        __self._check_call(__obj, (*args, *kwargs.values()))
        value = super().call(__context, __obj, *args, **kwargs)
        _charge_length(value)
        return value

    def _check_call(self, work: Any, arguments: tuple[Any, ...]) -> None:
        _budget().take(1)
        if work is self.globals["range"]:
            return  # it has its own bound
        work = getattr(work, "__wrapped__", work)  # the sandbox wraps format
        owner, name = getattr(work, "__self__", None), getattr(work, "__name__", "")
        if isinstance(owner, str | bytes | list | dict | tuple):
            if name not in _METHODS:
                raise SecurityError(f"the method {name} is not allowed")
            _check_arguments(name, owner, arguments)
        else:
            for argument in arguments:
                _charge_length(argument)


def _filter(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a filter so that it takes the cost of its input and output from the budget."""
    wants = getattr(getattr(work, "jinja_pass_arg", None), "name", "")

    @pass_context
    def run_filter(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        _budget().take(1)
        value = _to_list(value) if name in _DEEP else value
        arguments = (*args, *kwargs.values())
        if name == "sum" and not all(isinstance(argument, int | float | str) for argument in arguments):
            raise SecurityError("sum adds only numbers")
        if name == "tojson" and any(isinstance(argument, int) and argument > DEEPEST_INDENT for argument in arguments):
            raise SecurityError(f"the largest indent of JSON is {DEEPEST_INDENT}")
        (_weigh if name in _DEEP else _charge_length)(value)
        _check_arguments(name, value, arguments)
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        before = (first[wants],) if wants in first else ()
        output = work(*before, value, *args, **kwargs)
        _charge_length(output)
        return output

    return run_filter


@pass_context
def _charge_loop(context: Context, value: Any) -> Any:
    """The values of a loop, charged by their number."""
    if isinstance(value, Sized):
        _budget().take(1 + len(value))
        return value
    entries = list(islice(iter(value), ENTRIES + 1))
    _spend(len(entries), False)
    return entries


@pass_context
def _charge_turn(context: Context, value: Any) -> Any:
    """Charges one turn of a loop, which checks the clock."""
    _budget().take(1)
    return value


@pass_context
def _charge_read(context: Context, value: Any) -> Any:
    """Charges the length of a value that is read once."""
    _budget().take(1)
    _charge_length(value)
    return value


@pass_context
def _charge_whole(context: Context, value: Any) -> Any:
    """Charges a value with all that it contains."""
    _weigh(value)
    return value


@pass_context
def _join(context: Context, parts: list[Any]) -> str:
    """Joins the operands of ~."""
    for part in parts:
        _weigh(part)
    texts = [str(part) for part in parts]
    _spend(sum(map(len, texts)), True)
    return "".join(texts)


def _to_list(value: Any) -> Any:
    """The lazy values of map, select and the like as a list, so that they can be charged."""
    if not isinstance(value, GeneratorType):
        return value
    entries = list(islice(value, ENTRIES + 1))
    _spend(len(entries), False)
    return entries


def _budget() -> Budget:
    return _BUDGET.get()


def _spend(size: int, text: bool) -> None:
    """Takes the cost of `size` characters or entries."""
    if size > (LONGEST if text else ENTRIES):
        raise SecurityError("a text or list gets too long")
    _budget().take(size // CHARACTERS if text else size // 8)


def _charge_length(value: Any) -> None:
    """Takes the cost of a value's length."""
    if isinstance(value, str | bytes | list | tuple | dict):
        _spend(len(value), isinstance(value, str | bytes))


def _weigh(value: Any) -> None:
    """Takes the cost of a value with all that it contains, each as often as it occurs: lists that contain one another
    twice are small in memory and endless to read."""
    if not isinstance(value, list | tuple | dict):
        _budget().take(1)
        _charge_length(value)
        return
    stack, entries, characters = [value], 0, 0
    while stack:
        entry = stack.pop()
        entries += 1
        if entries > ENTRIES or characters > LONGEST:
            raise SecurityError("a text or list gets too long")
        if isinstance(entry, str | bytes):
            characters += len(entry)
        elif isinstance(entry, list | tuple | dict):
            if len(entry) > ENTRIES:
                raise SecurityError("a text or list gets too long")
            stack += [*entry, *entry.values()] if isinstance(entry, dict) else entry
    _budget().take(entries // 8 + characters // CHARACTERS + 1)


def _check_arguments(name: str, owner: Any, arguments: tuple[Any, ...]) -> None:
    """Takes the cost of what a method or filter reads, and of the most that it may make, before it runs."""
    for argument in (owner, *arguments):
        _charge_length(argument)
    if name in _WIDE and any(isinstance(argument, int) and abs(argument) > WIDEST for argument in arguments):
        raise SecurityError(f"{name} takes no number over {WIDEST:,}")
    if name in _CUTTING and isinstance(owner, str | bytes) and len(owner) > CUT:
        raise SecurityError("the text is too long to split into a list")
    texts = [argument for argument in arguments if isinstance(argument, str)]
    if isinstance(owner, str):
        if name == "replace":
            _spend(sum(owner.count(old) for old in texts) * sum(map(len, texts)), True)
        elif name in ("indent", "wordwrap", "expandtabs"):
            lines = owner.count("\n") + owner.count("\t") + 1
            most = sum(map(len, texts)) + sum(argument for argument in arguments if isinstance(argument, int)) + 8
            _spend(lines * most if name != "wordwrap" else 2 * len(owner), True)
        elif name in ("format", "format_map"):
            _check_format(owner)
            for argument in arguments:
                _weigh(argument)
            _spend(sum(map(len, texts)) * (owner.count("{") + owner.count("%")), True)
    if name == "join":
        parts, between = (owner, texts) if not isinstance(owner, str) else (next(iter(arguments), ()), [owner])
        _weigh(parts)
        count = len(parts) if isinstance(parts, Sized) else 0
        length = sum(len(part) for part in parts if isinstance(part, str)) if count else 0
        _spend(length + count * sum(map(len, between)), True)


def _check_format(text: str) -> None:
    """Raises SecurityError for a format with a large or variable width."""
    if _WIDE_FORMAT.search(text):
        raise SecurityError("the width of a format is too large")


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
        raise CharterError(f"the chat template has {len(source):,} characters; at most {LONGEST_TEMPLATE:,} are read")
    environment = BoundedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
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
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    """Always the same date: a run that resumes or is verified tomorrow must make the same prompts."""
    if len(form) > LONGEST_DATE:
        raise TemplateError("the format of a date is too long")
    return TODAY.strftime(form)
