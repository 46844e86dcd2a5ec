"""One sample of a request while it is written: it has its own uniform numbers, its searches for stops and loops, and
its constraint."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from charter.ground.generate.constraint import Constraint
from charter.ground.generate.detokenizer import TokenSearch
from charter.ground.generate.loops import LoopSearch
from charter.ground.generate.requests import Completion, Request
from charter.ground.text.tokenizer import Tokenizer


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
        whole = self.loops.add(token) if self.loops is not None else None
        if token in ends:
            completion.text, completion.stop = tokenizer.decode(completion.ids[:-1]), "end"
        elif self.search is not None and (match := self.search.add(token)) is not None:
            text = tokenizer.decode(completion.ids)
            completion.text, completion.stop, completion.stopped_by = text[: match[0]], "stop", match[1]
        elif whole is not None:
            completion.text, completion.stop = tokenizer.decode(completion.ids[:whole]), "loop"
        elif len(completion.ids) >= self.most:
            completion.text, completion.stop = tokenizer.decode(completion.ids), "length"
        else:
            completion.held = len(completion.ids) - self.loops.settled if self.loops is not None else 0
            return False
        completion.done = True
        return True
