"""What reads texts for the probe: a model as a function from windows of a text to vectors.

A window is a piece of a text with some of what was said before it. Vectors are remembered by window, for each
organisation alone: a shorter time would tell others what was read.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from charter.ground.artifact.steps import Steps
from charter.ground.text.tokenizer import Tokenizer

REMEMBERED = 4096  # windows


@dataclass(frozen=True, slots=True)
class Window:
    """Ids of what stands before, and of the text that the vector is taken over, which is never empty."""

    before: tuple[int, ...]
    ids: tuple[int, ...]


class Growth(Protocol):
    """The windows of one text that grows at its end, for one thread at a time; what it keeps is freed with it."""

    def steps(self, windows: Sequence[Window]) -> Steps[Tensor]:
        """As `Reader.vectors`, within 1e-4, a window a step."""
        ...


class Reader(ABC):
    """A frozen model that reads windows. One text is read at a time, whatever the thread."""

    tokenizer: Tokenizer
    width: int  # features of a vector

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Window], Tensor] = OrderedDict()
        self.lock = threading.Lock()

    @abstractmethod
    def windows(self, text: str, before: str = "") -> list[Window]:
        """The windows of a text, the last one reaching its end; one of the text's opening where it is empty."""

    @abstractmethod
    def growing(self) -> Growth:
        """A reader of one text as it is written."""

    @abstractmethod
    def _computed(self, windows: Sequence[Window]) -> list[Tensor]:
        """One vector a window, [F] float32 on the CPU each."""

    def vectors(self, windows: Sequence[Window], whose: str = "") -> Tensor:
        """One vector a window, [N, F] float32 on the CPU; the same alone or among others within 1e-4. Only `whose`
        windows they were before gets them from memory."""
        with self.lock:
            known = {w: self._known[whose, w] for w in windows if (whose, w) in self._known}
            fresh = [w for w in dict.fromkeys(windows) if w not in known]
            made = dict(zip(fresh, self._computed(fresh), strict=True))
            found = torch.stack([made[w] if w in made else known[w] for w in windows])
            self._known.update({(whose, w): vector for w, vector in made.items()})
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def forget(self) -> None:
        """Forgets all windows."""
        with self.lock:
            self._known.clear()


def cut(ids: Sequence[int], before: Sequence[int], window: int, stride: int) -> list[Window]:
    """Windows of `window` ids that begin every `stride` ids, each behind the same `before`."""
    starts = range(0, max(1, len(ids) - window + stride), stride)
    return [Window(tuple(before), tuple(ids[at : at + window])) for at in starts]
