"""Runs rare computations in a thread that ends with them, in processes whose engine has its own thread.

A thread that has computed keeps OpenMP's helpers as long as it lives. If there are more helpers than processors, none
waits awake for the next product: all sleep, also the engine's, which on two cores is then half as fast.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def apart(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result or error of `work`, run in a new thread that ends with it. An interrupt doesn't wait for it."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work(*arguments, **named))
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="charter-apart", daemon=True)
    thread.start()
    error = answer.exception()
    thread.join()
    if error is not None:
        raise error
    return answer.result()
