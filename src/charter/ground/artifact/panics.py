"""Libraries in Rust that give up: what they raise then is no Exception, and passes whatever is there to catch one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from charter.ground.artifact.errors import CharterError

PANIC = "PanicException"  # of PyO3, which gives every library a class of its own


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up."""
    return type(error).__name__ == PANIC


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Raises CharterError, which begins with `what`, where a library gave up."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise CharterError(f"{what}: {said}") from None
