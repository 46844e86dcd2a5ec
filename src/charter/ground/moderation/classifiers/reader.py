"""Readers of texts for the probe: a model as a function from windows of a text to vectors.

A window is a piece of a text with some of the text before it. Vectors are cached by window, separately for each
organisation: otherwise a shorter time would show others what was read.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.artifact.steps import Steps, drain
from charter.ground.text.packing import microbatches
from charter.ground.text.tokenizer import Tokenizer

REMEMBERED = 4096  # windows


@dataclass(frozen=True, slots=True)
class Window:
    """Ids of the text before, and of the text that the vector covers, which is never empty."""

    before: tuple[int, ...]
    ids: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of tokens read."""
        return len(self.before) + len(self.ids)


class Reader(ABC):
    """A frozen model that reads windows. A lock lets only one thread read at a time."""

    tokenizer: Tokenizer
    width: int  # features of a vector
    row_tokens: int  # most tokens of windows read together

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Window], Tensor] = OrderedDict()
        self.lock = threading.Lock()

    @abstractmethod
    def windows(self, text: str, before: str = "") -> list[Window]:
        """The windows of a text; the last one reaches its end, and an empty text has one."""

    @abstractmethod
    def read_together(self, windows: Sequence[Window]) -> Sequence[Tensor]:
        """One vector per window, [F] float32 on the CPU each, for windows that fit into one row."""

    def open_stream(self) -> StreamReader:
        """A reader of one text as it grows."""
        return StreamReader(self)

    @torch.no_grad()
    def _compute(self, windows: Sequence[Window]) -> list[Tensor]:
        """One vector per window; windows of similar sizes are read together."""
        order = sorted(range(len(windows)), key=lambda n: windows[n].size)
        vectors: dict[int, Tensor] = {}
        for group in microbatches([windows[n].size for n in order], self.row_tokens):
            members = [order[n] for n in group]
            vectors |= dict(zip(members, self.read_together([windows[n] for n in members]), strict=True))
        return [vectors[n] for n in range(len(windows))]

    def vectors(self, windows: Sequence[Window], whose: str = "") -> Tensor:
        """One vector per window, [N, F] float32 on the CPU; batching changes it by at most 1e-4. Cached vectors serve
        only the owner `whose`."""
        with self.lock:
            cached = {w: self._known[whose, w] for w in windows if (whose, w) in self._known}
            fresh = [w for w in dict.fromkeys(windows) if w not in cached]
            computed = dict(zip(fresh, self._compute(fresh), strict=True))
            stacked = torch.stack([computed[w] if w in computed else cached[w] for w in windows])
            self._known.update({(whose, w): vector for w, vector in computed.items()})
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return stacked

    def forget(self) -> None:
        """Forgets all windows."""
        with self.lock:
            self._known.clear()


class StreamReader:
    """The windows of one text that grows at its end, such as a stream; its memory is freed with it. Windows of the
    last call are not read again. For one thread at a time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[Window, Tensor] = {}

    def vectors(self, windows: Sequence[Window]) -> Tensor:
        """As `Reader.vectors`, within 1e-4."""
        return drain(self.steps(windows))

    def steps(self, windows: Sequence[Window]) -> Steps[Tensor]:
        """As `Reader.vectors`, within 1e-4, one window per step."""
        vectors = dict[Window, Tensor]()
        for window in windows:
            if window in self._known:
                vectors[window] = self._known[window]
                continue
            if vectors:
                yield
            with self._reader.lock:
                vectors[window] = self._read(window)
        self._known = vectors
        return torch.stack([vectors[w] for w in windows])

    def _read(self, window: Window) -> Tensor:
        """The vector of a new window."""
        (vector,) = self._reader._compute([window])
        return vector


def cut(ids: Sequence[int], before: Sequence[int], window: int, stride: int) -> list[Window]:
    """Windows of `window` ids that begin every `stride` ids, each after the same `before`."""
    starts = range(0, max(1, len(ids) - window + stride), stride)
    return [Window(tuple(before), tuple(ids[at : at + window])) for at in starts]
