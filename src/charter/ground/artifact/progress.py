"""How a room reports its progress: a protocol that the command line implements, and a silent implementation."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

LEFT_IN_RUN = "left in the run"  # a value beside a bar: of all steps, in words


class Bar(Protocol):
    """One running count, for example the optimizer steps of a training loop."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """Adds n to the count; `shown` values (such as loss=1.23) stand beside the bar; `rate` is in tokens a
        second."""
        ...


class Progress(Protocol):
    """Where bars and one-line notes go."""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar of `total` units; an earlier, stopped process made `done` of them."""
        ...

    def note(self, text: str) -> None:
        """One line for the reader, above the bars."""
        ...


class SilentBar:
    """A bar that counts and shows nothing."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """Does nothing."""

    def __enter__(self) -> "SilentBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class SilentProgress:
    """Silent progress, for tests and for use as a library."""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar that shows nothing."""
        return SilentBar()

    def note(self, text: str) -> None:
        """Says nothing."""
