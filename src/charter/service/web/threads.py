"""Computing that comes once or seldom, in a thread that ends with it, for processes whose engine runs in another one.

A thread that computed keeps OpenMP's helpers for as long as it lives. Once there are more of them than processors, none
waits awake for the next product: all sleep, in the engine too, and on two cores it is half as fast.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def apart(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `work` makes or raises, in a thread of its own that is gone afterwards. An interrupt doesn't wait for it."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work(*given, **named))
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="charter-apart", daemon=True)
    thread.start()
    error = answer.exception()
    thread.join()
    if error is not None:
        raise error
    return answer.result()
