"""How a command stands in `charter --help`: its function, examples and page, alone or in a group."""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """A command: the function, the page of the documentation, and examples without `charter`."""

    run: Callable[..., None]
    page: str
    examples: tuple[str, ...]


class Family(NamedTuple):
    """A group of commands, and what one does with them."""

    does: str
    commands: Mapping[str, Entry]


Panels = Mapping[str, Mapping[str, Entry | Family]]


def entry(run: Callable[..., None], page: str, *examples: str) -> Entry:
    """A command with its page and its examples."""
    return Entry(run, page, examples)
