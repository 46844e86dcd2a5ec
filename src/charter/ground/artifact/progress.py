"""How a room tells how far it is: a protocol that the command line fills in, and a silent implementation."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

LEFT_IN_RUN = "left in the run"  # among the values that stand next to a bar: of all steps, in words


class Bar(Protocol):
    """One running count, for example the optimizer steps of a training loop."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """Adds n to what is done; `shown` values (such as loss=1.23) stand next to the bar; `rate` is in tokens a
        second."""
        ...


class Progress(Protocol):
    """Where bars and one-line notes go."""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar of `total` units of which `done` were made by an earlier, stopped process."""
        ...

    def note(self, text: str) -> None:
        """One line for the reader, above the bars."""
        ...


class SilentBar:
    """Counts nothing and shows nothing."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """Does nothing."""

    def __enter__(self) -> "SilentBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class SilentProgress:
    """For tests and for use as a library."""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar that shows nothing."""
        return SilentBar()

    def note(self, text: str) -> None:
        """Says nothing."""
