"""One sample of a request while it is written: uniform numbers, searches for stops and loops, constraint."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from charter.ground.generate.constraint import Constraint
from charter.ground.generate.detokenizer import TokenSearch
from charter.ground.generate.requests import Completion, Request
from charter.ground.text.tokenizer import Tokenizer

PERIODS = 128  # tokens of the longest phrase
TOKENS = 80  # of a loop at least, whatever its period
ROUNDS = 5  # of a phrase at least
LONG = 32  # tokens of a phrase that counts after four rounds


class LoopSearch:
    """Finds the loop of a reply while it is written: its last tokens repeat with one period and go on repeating.

    For each period p <= PERIODS, run_p counts the latest tokens that equal the token p before them. A reply loops once
    run_p + p >= `_least(p)`: then a phrase of p tokens stands there back to back. A token costs as many steps as it
    occurs among the last PERIODS tokens. `judge/detect.py` judges whole replies and also counts loops with small
    changes; this search stops sampling, so it must never stop a list, a table, code or a refrain.

    `settled`: how many of the tokens so far belong to no repetition that may become a loop, so that their text can be
    shown.
    """

    def __init__(self) -> None:
        self._count = 0
        self._places: dict[int, deque[int]] = {}
        self._runs: dict[int, int] = {}
        self.settled = 0

    def add(self, token: int) -> int | None:
        """The number of tokens to keep once the reply loops: up to the end of the phrase's first round."""
        places = self._places.setdefault(token, deque())
        while places and self._count - places[0] > PERIODS:
            places.popleft()
        self._runs = {self._count - place: self._runs.get(self._count - place, 0) + 1 for place in places}
        places.append(self._count)
        self._count += 1
        self.settled = self._count - max(self._runs.values(), default=0)
        ends = [self._count - run for period, run in self._runs.items() if run + period >= _least(period)]
        return min(ends, default=None)


def _least(period: int) -> int:
    """Tokens of a loop with this period, its first round included."""
    return max(TOKENS, period * (ROUNDS - 1 if period >= LONG else ROUNDS))


@dataclass(slots=True, eq=False)
class Sample:
    """A running sample."""

    request: Request
    index: int
    uniforms: list[float]
    most: int  # tokens at most
    search: TokenSearch | None  # None without stops
    completion: Completion
    constraint: Constraint | None = None
    error: Exception | None = None  # of the constraint
    loops: LoopSearch | None = field(init=False)

    def __post_init__(self) -> None:
        # a form decides by itself when its reply ends
        free = self.request.constraint is None
        self.loops = LoopSearch() if free and self.request.sampling.loop_stop else None

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes the error of a constraint, which ends this sample and no other."""
        try:
            yield
        except Exception as error:
            self.error = error

    def add(self, token: int, tokenizer: Tokenizer, ends: Collection[int]) -> bool:
        """Appends a token; True once the sample is complete, and then the completion has its text."""
        completion = self.completion
        completion.ids.append(token)
        length = self.loops.add(token) if self.loops is not None else None
        if token in ends:
            completion.text, completion.stop = tokenizer.decode(completion.ids[:-1]), "end"
        elif self.search is not None and (match := self.search.add(token)) is not None:
            text = tokenizer.decode(completion.ids)
            completion.text, completion.stop, completion.stopped_by = text[: match[0]], "stop", match[1]
        elif length is not None:
            completion.text, completion.stop = tokenizer.decode(completion.ids[:length]), "loop"
        elif len(completion.ids) >= self.most:
            completion.text, completion.stop = tokenizer.decode(completion.ids), "length"
        else:
            completion.held = len(completion.ids) - self.loops.settled if self.loops is not None else 0
            return False
        completion.done = True
        return True
