"""Jinja whose work has an end: templates come with downloaded models, and one that loops for hours behind a word that
nobody looked for would stop whoever renders it.

A render may take so many turns (of loops, calls, filters and operators; long texts and lists count for more), so many
seconds, and make texts of a bounded length. Each is checked before the work is done. Only filters and methods whose
cost is known are there: what chat templates in use need.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from types import GeneratorType
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

TURNS = 5_000_000
SECONDS = 10.0
LONGEST = 2**25  # characters of a text
ENTRIES = 2**20  # of a list, and of all that it holds
CUT = 2**22  # characters of a text that is cut into a list
WIDEST = 10_000  # a number that says how wide something is to be
DEEPEST_INDENT = 16  # of JSON
BITS = 4096  # of a whole number
CHARACTERS = 64  # of a text that count as one turn

# as in transformers' templates, and what is harmless beside them
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
    [
        "dictsort",
        "groupby",
        "join",
        "max",
        "min",
        "pprint",
        "sort",
        "string",
        "sum",
        "tojson",
        "unique",
        "urlencode",
    ]
)
_WIDE_FORMAT = re.compile(r"\{[^{}]*:[^{}]*(?:\d{5}|\{)|%[^a-zA-Z%]*(?:\d{5}|\*)")


class Budget:
    """What one render has left."""

    def __init__(self) -> None:
        self.turns, self.until = TURNS, time.monotonic() + SECONDS

    def take(self, turns: int) -> None:
        """Raises SecurityError where nothing is left."""
        self.turns -= turns
        if self.turns < 0 or time.monotonic() > self.until:
            raise SecurityError(f"it takes more than {TURNS:,} turns or {SECONDS:g} seconds")


_BUDGET: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def budget() -> Iterator[None]:
    """Renders within the context have one budget together."""
    token = _BUDGET.set(Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def _concat(pieces: Iterable[str]) -> str:
    """A text out of what a template or a macro wrote."""
    texts, size = list[str](), 0
    for piece in pieces:
        texts.append(piece)
        if (size := size + len(piece)) > LONGEST:
            _spend(size, True)
    return "".join(texts)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Templates are rendered within `budget`."""

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
        """A filter of ours, counted as the others are."""
        self.filters[name] = _filter(name, work)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Has loops, joined texts, comparisons, tests and slices go through filters that count."""
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
            for other in comparison.ops:
                other.expr = self._wrap("charter_whole", other.expr)
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
        """An operator, unless what it makes is too large."""
        _budget().take(1)
        if operator == "**":
            raise SecurityError("** is not allowed")
        if operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, Sized) and isinstance(times, int):
                    _spend(len(one) * max(0, times), isinstance(one, str | bytes))
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
        """A call, unless it is of a method whose cost nobody bounds."""
        args = tuple(map(_to_list, args))
        __self._check_call(__obj, (*args, *kwargs.values()))
        value = super().call(__context, __obj, *args, **kwargs)
        _charge_length(value)
        return value

    def _check_call(self, work: Any, arguments: tuple[Any, ...]) -> None:
        _budget().take(1)
        if work is self.globals["range"]:
            return  # which has a bound of its own
        work = getattr(work, "__wrapped__", work)  # the sandbox puts its own in front of format
        owner, name = getattr(work, "__self__", None), getattr(work, "__name__", "")
        if isinstance(owner, str | bytes | list | dict | tuple):
            if name not in _METHODS:
                raise SecurityError(f"the method {name} is not allowed")
            _check_arguments(name, owner, arguments)
        else:
            for one in arguments:
                _charge_length(one)


def _filter(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes from the budget what it reads and makes."""
    wants = getattr(getattr(work, "jinja_pass_arg", None), "name", "")

    @pass_context
    def run_filter(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        _budget().take(1)
        value = _to_list(value) if name in _DEEP else value
        arguments = (*args, *kwargs.values())
        if name == "sum" and not all(isinstance(one, int | float | str) for one in arguments):
            raise SecurityError("sum adds numbers alone")
        if name == "tojson" and any(isinstance(one, int) and one > DEEPEST_INDENT for one in arguments):
            raise SecurityError(f"JSON is indented by {DEEPEST_INDENT} at most")
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
    """What a loop goes through."""
    if isinstance(value, Sized):
        _budget().take(1 + len(value))
        return value
    entries = list(islice(iter(value), ENTRIES + 1))
    _spend(len(entries), False)
    return entries


@pass_context
def _charge_turn(context: Context, value: Any) -> Any:
    """One turn of a loop: the clock is looked at."""
    _budget().take(1)
    return value


@pass_context
def _charge_read(context: Context, value: Any) -> Any:
    """What is read once: its length is taken."""
    _budget().take(1)
    _charge_length(value)
    return value


@pass_context
def _charge_whole(context: Context, value: Any) -> Any:
    """What is read with all that it holds."""
    _weigh(value)
    return value


@pass_context
def _join(context: Context, parts: list[Any]) -> str:
    """What stands between ~."""
    for part in parts:
        _weigh(part)
    texts = [str(part) for part in parts]
    _spend(sum(map(len, texts)), True)
    return "".join(texts)


def _to_list(value: Any) -> Any:
    """What map, select and the like give as they go along, as a list that can be weighed."""
    if not isinstance(value, GeneratorType):
        return value
    entries = list(islice(value, ENTRIES + 1))
    _spend(len(entries), False)
    return entries


def _budget() -> Budget:
    return _BUDGET.get()


def _spend(size: int, text: bool) -> None:
    """Takes what so many characters or entries cost."""
    if size > (LONGEST if text else ENTRIES):
        raise SecurityError("a text or list gets too long")
    _budget().take(size // CHARACTERS if text else size // 8)


def _charge_length(value: Any) -> None:
    """Takes the length of a value."""
    if isinstance(value, str | bytes | list | tuple | dict):
        _spend(len(value), isinstance(value, str | bytes))


def _weigh(value: Any) -> None:
    """Takes what a value has with all that it holds, each as often as it is held: lists that hold one another twice
    are small in memory and endless to read."""
    if not isinstance(value, list | tuple | dict):
        _budget().take(1)
        _charge_length(value)
        return
    stack, entries, characters = [value], 0, 0
    while stack:
        one = stack.pop()
        entries += 1
        if entries > ENTRIES or characters > LONGEST:
            raise SecurityError("a text or list gets too long")
        if isinstance(one, str | bytes):
            characters += len(one)
        elif isinstance(one, list | tuple | dict):
            if len(one) > ENTRIES:
                raise SecurityError("a text or list gets too long")
            stack += [*one, *one.values()] if isinstance(one, dict) else one
    _budget().take(entries // 8 + characters // CHARACTERS + 1)


def _check_arguments(name: str, owner: Any, arguments: tuple[Any, ...]) -> None:
    """What a method or filter reads, and what it may make at most, is taken beforehand."""
    for one in (owner, *arguments):
        _charge_length(one)
    if name in _WIDE and any(isinstance(one, int) and abs(one) > WIDEST for one in arguments):
        raise SecurityError(f"{name} takes no number over {WIDEST:,}")
    if name in _CUTTING and isinstance(owner, str | bytes) and len(owner) > CUT:
        raise SecurityError("a text that long can't be cut into a list")
    texts = [one for one in arguments if isinstance(one, str)]
    if isinstance(owner, str):
        if name == "replace":
            _spend(sum(owner.count(old) for old in texts) * sum(map(len, texts)), True)
        elif name in ("indent", "wordwrap", "expandtabs"):
            lines = owner.count("\n") + owner.count("\t") + 1
            most = sum(map(len, texts)) + sum(one for one in arguments if isinstance(one, int)) + 8
            _spend(lines * most if name != "wordwrap" else 2 * len(owner), True)
        elif name in ("format", "format_map"):
            _check_format(owner)
            for one in arguments:
                _weigh(one)
            _spend(sum(map(len, texts)) * (owner.count("{") + owner.count("%")), True)
    if name == "join":
        parts, between = (
            (owner, texts) if not isinstance(owner, str) else (next(iter(arguments), ()), [owner])
        )
        _weigh(parts)
        count = len(parts) if isinstance(parts, Sized) else 0
        length = sum(len(part) for part in parts if isinstance(part, str)) if count else 0
        _spend(length + count * sum(map(len, between)), True)


def _check_format(text: str) -> None:
    """Raises SecurityError for a format that says how wide something is to be, and says much."""
    if _WIDE_FORMAT.search(text):
        raise SecurityError("a format that wide is not allowed")
