"""Jinja whose work has an end: templates come with downloaded models, and one that loops for hours behind a word that
nobody looked for would stop whoever renders it.

A render may take so many turns (of loops, calls, filters and operators; long texts and lists count for more), so many
seconds, and make texts of a bounded length. Each is checked before the work is done. Only filters and methods whose
cost is known are there: what chat templates in use need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

TURNS = 5_000_000
SECONDS = 10.0
LONGEST = 2**26  # characters of a text, entries of a list
WIDEST = 10_000  # a number that says how wide something is to be
BITS = 4096  # of a whole number
CHARACTERS = 64  # of a text that count as one turn

# as in transformers' templates, and what is harmless beside them
FILTERS = """abs attr batch capitalize center count d default dictsort e escape first float forceescape groupby indent
int items join last length list lower map max min reject rejectattr replace reverse round safe select selectattr slice
sort string striptags sum title tojson trim truncate unique upper wordcount"""
METHODS = """capitalize casefold center copy count decode encode endswith find format format_map get index isalnum
isalpha isdigit islower isnumeric isspace istitle isupper items join keys ljust lower lstrip partition removeprefix
removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
values zfill"""
_METHODS = frozenset(METHODS.split())


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
    found, size = list[str](), 0
    for piece in pieces:
        found.append(piece)
        if (size := size + len(piece)) > LONGEST:
            _spend(size)
    return "".join(found)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Templates are rendered within `budget`."""

    concat = staticmethod(_concat)
    intercepted_binops = frozenset(("+", "*", "**", "%", "//", "-", "/"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: _filter(self.filters[name]) for name in FILTERS.split()}
        self.filters |= {"charter_counted": _counted, "charter_joined": _joined}
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)

    def add_filter(self, name: str, work: Callable[..., Any]) -> None:
        """A filter of ours, counted as the others are."""
        self.filters[name] = _filter(work)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Has every loop and every joined text go through a filter that counts."""
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = self._through("charter_counted", loop.iter)
        for joined in list(tree.find_all(nodes.Concat)):
            parts = nodes.List(list(joined.nodes), lineno=joined.lineno, environment=self)
            joined.nodes = [self._through("charter_joined", parts)]
        return tree

    def _through(self, name: str, node: nodes.Node) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=self)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator, unless what it makes is too large."""
        _budget().take(1)
        if operator == "**":
            raise SecurityError("** is not allowed")
        if operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, Sized) and isinstance(times, int):
                    _spend(len(one) * max(0, times))
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _spend(len(left) + len(right))
        elif operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("a text before % is not allowed; use ~ or format")
        found = super().call_binop(context, operator, left, right)
        if isinstance(found, int) and found.bit_length() > BITS:
            raise SecurityError("a number gets too large")
        return found

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call, unless it is of a method whose cost nobody bounds."""
        __self._check_call(__obj, args)
        found = super().call(__context, __obj, *args, **kwargs)
        _spend(_size(found))
        return found

    def _check_call(self, work: Any, given: tuple[Any, ...]) -> None:
        _budget().take(1)
        if work is self.globals["range"]:
            return  # which has a bound of its own
        _check_widths(given)
        work = getattr(work, "__wrapped__", work)  # the sandbox puts its own in front of format
        owner, name = getattr(work, "__self__", None), getattr(work, "__name__", "")
        if isinstance(owner, str | bytes | list | dict | tuple):
            if name not in _METHODS:
                raise SecurityError(f"the method {name} is not allowed")
            _spend(_size(owner) + _made(owner, name, given))
        else:
            _spend(sum(_size(one) for one in given))


def _filter(work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes from the budget what it reads and makes."""
    wants = getattr(work, "jinja_pass_arg", None)
    wants_name = getattr(wants, "name", "")

    @pass_context
    def counted(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        _budget().take(1)
        _check_widths((*args, *kwargs.values()))
        _spend(_size(value))
        if isinstance(value, str) and getattr(work, "__name__", "") == "do_replace":
            _spend(_made(value, "replace", args))
        if isinstance(value, str) and getattr(work, "__name__", "") == "do_indent":
            width = args[0] if args else kwargs.get("width", 4)
            _spend(len(width if isinstance(width, str) else " " * int(width)) * (value.count("\n") + 1))
        if getattr(work, "__name__", "") == "sync_do_join" and args:
            _spend(len(str(args[0])) * len(value) if isinstance(value, Sized) else 0)
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        given = (first[wants_name],) if wants_name in first else ()
        found = work(*given, value, *args, **kwargs)
        _spend(_size(found))
        return found

    return counted


@pass_context
def _counted(context: Context, value: Any) -> Any:
    """What a loop goes through; its turns are taken before the first."""
    if isinstance(value, Sized):
        _budget().take(1 + len(value))
        return value
    found = list(islice(iter(value), _budget().turns + 1))
    _budget().take(1 + len(found))
    return found


@pass_context
def _joined(context: Context, parts: list[Any]) -> str:
    """What stands between ~."""
    texts = [str(part) for part in parts]
    _spend(sum(map(len, texts)))
    return "".join(texts)


def _budget() -> Budget:
    return _BUDGET.get()


def _spend(size: int) -> None:
    """Takes what so many characters or entries cost."""
    if size > LONGEST:
        raise SecurityError("a text or list gets too long")
    _budget().take(size // CHARACTERS)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0


def _made(owner: Any, name: str, given: tuple[Any, ...]) -> int:
    """Characters that a method of a text may make at most, beside those of its owner."""
    if name == "replace" and isinstance(owner, str) and len(given) >= 2:
        old, new = str(given[0]), str(given[1])
        return owner.count(old) * len(new)
    if name == "join" and given and isinstance(given[0], Sized):
        parts = list(given[0]) if isinstance(given[0], list | tuple | dict | str) else []
        return len(owner) * len(parts) + sum(len(part) for part in parts if isinstance(part, str))
    if name in ("format", "format_map") and isinstance(owner, str):
        if any(len(run) > 4 for run in _numbers(owner)) or "{" in owner.replace("{{", "").partition(":")[2]:
            raise SecurityError("a format that wide is not allowed")
        return sum(len(part) for part in given if isinstance(part, str)) * (owner.count("{") + 1)
    return 0


def _numbers(text: str) -> list[str]:
    return "".join(char if char.isdigit() else " " for char in text).split()


def _check_widths(given: tuple[Any, ...]) -> None:
    """Raises SecurityError for a number that would make something very wide."""
    if any(isinstance(one, int) and not isinstance(one, bool) and abs(one) > WIDEST for one in given):
        raise SecurityError(f"a number over {WIDEST:,} can't be given to a filter or function")
