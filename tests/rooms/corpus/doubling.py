"""Work for the processes of a test: light, because each of them imports it."""

import os
import signal
from collections.abc import Callable

from charter.ground.artifact.errors import CharterError


def doubling(offset: int) -> Callable[[int], int]:
    """Doubles a number and adds `offset`; 99 is refused, and at 98 the process is killed."""

    def work(piece: int) -> int:
        if piece == 99:
            raise CharterError("99 is refused")
        if piece == 98:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * piece + offset

    return work
