"""How a command explains itself: what it does, its options, examples that can be typed, and the page that says more."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand, TyperGroup, TyperOption

# -h everywhere: groups and commands inherit it.
CONTEXT = {"help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """A command whose help says nothing of the type of a flag, which takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, `--help` included."""
        return without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands, likewise."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, `--help` included."""
        return without_types(super().get_params(ctx))


def without_types(params: list[Any]) -> list[Any]:
    """The same parameters; a flag without a word for its value gets an empty one in the place of its type."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag and param.metavar is None:
            param.metavar = ""
    return params


def epilog(examples: Sequence[str], page: str) -> str:
    """The end of a command's help: examples of its use, without `charter`, and the page of the documentation."""
    lines = [f"  charter {example}" for example in examples]
    title = "Examples" if len(examples) > 1 else "Example"
    return escape("\n".join([f"{title}:", *lines, "", f"Page of the documentation: {page}"]))
