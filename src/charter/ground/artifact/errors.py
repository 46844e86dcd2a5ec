"""The one error that a person sees: what is wrong, what is expected and what to do, on one line. The wait for people is
an error too, and a panic of a library in Rust is turned into one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CharterError(Exception):
    """A mistake or a refusal that a person can act on; its message is always one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Waiting(CharterError):
    """A step needs input from people; its message begins with "waits for" and says what to do. Nothing is wrong: the
    work goes on at the next start of the run."""


PANIC = "PanicException"  # of PyO3; every library has a class of its own


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of a library in Rust: it is no Exception, so `except Exception` doesn't catch it."""
    return type(error).__name__ == PANIC


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Turns a panic into a CharterError that begins with `what`."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        message = " ".join(str(error).split())[:200]
        raise CharterError(f"{what}: {message}") from None
