"""Panics of libraries in Rust: they raise no Exception, so that `except Exception` doesn't catch them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from charter.ground.artifact.errors import CharterError

PANIC = "PanicException"  # of PyO3; every library has a class of its own


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of a library in Rust."""
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
