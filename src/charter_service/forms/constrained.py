"""Constrained decoding of one sample: before every token, an ending that fits the budget is known.

Invariant: `plan` is a list of tokens that completes the document from its present state. The grammar has verified it,
and the judge of a schema too if the grammar says less than the schema. With the end token it fits into the tokens that
are left. A token that agrees with the plan shortens it. After any other token the plan is tried as it is, then a new
ending is searched; if none fits, the token is refused and drawn again. When no token is left to spare, only the plan is
open.

Letters: V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from llguidance import LLMatcher
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import MOST_REFUSALS
from charter_service.forms.alphabet import Alphabet
from charter_service.forms.ending import BLANKS, STEPS, WRITING_STEPS, Ending, Hints, Numbers, Search

TRIES = 24  # endings offered to a judge before a token is refused
MOST_BYTES = 16384  # of an ending
# of processor time, for refused tokens of one step: all others wait meanwhile
REFUSED_SECONDS = 0.2
FIRST_SECONDS = 10.0  # of processor time, for the judge before anything is written
JUDGE_SECONDS = 0.1  # of processor time, for the judge after one token; then it is not called again
_NO_HINTS = Hints()


class Document:
    """A text under a grammar, with a known ending.

    `matcher` reads tokens, `twin` the same grammar byte by byte. `quoted`: the text is JSON. `judge` decides
    whether a whole text is valid. `hints` help the search.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        matcher: LLMatcher,
        twin: LLMatcher,
        quoted: bool,
        judge: Callable[[bytes], bool] | None = None,
        hints: Hints = _NO_HINTS,
    ) -> None:
        self._alphabet, self._matcher, self._twin, self._judge = alphabet, matcher, twin, judge
        self._hints = hints
        self._numbers = Numbers() if quoted else None
        self._unread: list[int] = []  # bytes that the twin hasn't read yet
        self._text = bytearray()
        self._bits = alphabet.mask()
        self._judging = FIRST_SECONDS  # seconds that the judge has left
        self.plan: list[int] = []
        self.planned_only = False  # the grammar's engine gave up: follow the plan to the end

    def copy(self) -> Document:
        """An independent copy of this state."""
        copies = self._matcher.deep_copy(), self._twin.deep_copy()
        document = Document(self._alphabet, *copies, False, self._judge, self._hints)
        document._numbers = self._numbers.copy() if self._numbers else None
        document._unread, document._text = list(self._unread), bytearray(self._text)
        document.plan, document.planned_only = list(self.plan), self.planned_only
        return document

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        if self.planned_only:
            return not self.plan
        if not self._matcher.is_accepting():
            return False
        return self._judge is None or not self.plan or self._fits(lambda: self._completes(()))

    @property
    def closed(self) -> bool:
        """Whether only the end can follow."""
        return (self.planned_only and not self.plan) or self._matcher.is_stopped()

    def shut(self) -> Tensor | None:
        """Tokens that may not come next, as booleans [V]; None if only the plan is open."""
        if not self.planned_only and self._matcher.is_stopped():
            self.planned_only = bool(self.plan)
            return torch.ones(self._alphabet.size, dtype=torch.bool) if not self.plan else None
        if not self.planned_only:
            self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
            self.planned_only = self._matcher.is_error()
        if self.planned_only:
            return None
        shut = self._alphabet.forbidden(self._bits)
        if self._separates:
            shut |= self._alphabet.opening_with(BLANKS)
        return torch.from_numpy(shut)

    @property
    def _separates(self) -> bool:
        """Whether a colon or comma of JSON is due: nobody writes a blank before these, but the grammar allows it."""
        if not self.plan or self._numbers is None or self._numbers.quotes.inside:
            return False
        return self._alphabet.tokens[self.plan[0]][:1] in (b":", b",")

    def begin(self, most: int) -> bool:
        """Search the first ending, of `most` tokens at most; False if there is none."""
        return self._seek(most, STEPS)

    def take(self, token: int, most: int) -> bool:
        """Append a token if an ending of at most `most` tokens fits after it; otherwise nothing changes."""
        if self.plan and token == self.plan[0]:
            if not self.planned_only:
                self._matcher.consume_token(token)
            self._read(self._alphabet.tokens[token])
            self.plan = self.plan[1:]
            return True
        text = self._alphabet.tokens[token]
        if self.planned_only or not text or (self._numbers and self._numbers.copy().feed(text)):
            return False
        if self._matcher.try_consume_tokens([token]) != 1:
            return False
        before = self._numbers.copy() if self._numbers else None
        behind = len(self._unread)
        self._read(text)
        if self._fits(lambda: self._keeps_plan(text, most) or self._seek(most, WRITING_STEPS)):
            return True
        self._numbers = before
        del self._text[len(self._text) - len(text) :]
        if self._unread:
            del self._unread[behind:]
        else:
            self._twin.rollback(len(text))
        self._matcher.rollback(1)
        return False

    def feed(self, text: bytes, most: int) -> bool:
        """As `take` with the bytes of a token's rest; for the first bytes of a document only."""
        tokens = self._alphabet.cut(text) if text else []
        if tokens is None:
            return False
        return all(self.take(token, most) for token in tokens)

    def _fits(self, question: Callable[[], bool]) -> bool:
        """The answer to `question`, or False if the judge runs out of time: then the plan that it accepted stays."""
        self._judging = JUDGE_SECONDS
        try:
            return question()
        except CharterError:
            return False

    def _read(self, text: bytes) -> None:
        self._text += text
        self._unread += text
        if self._numbers:
            self._numbers.feed(text)

    def _keeps_plan(self, text: bytes, most: int) -> bool:
        """Whether the plan still ends the document after these bytes: as an empty plan, as it is, or without them."""
        if self._completes(()):
            self.plan = []
            return True
        if len(self.plan) <= most and self._completes(self.plan):
            return True
        first = self._alphabet.tokens[self.plan[0]] if self.plan else b""
        if len(text) < len(first) and first.startswith(text):
            tokens = self._alphabet.cut(first[len(text) :])
            if tokens is not None and len(tokens) + len(self.plan) - 1 <= most:
                plan = tokens + self.plan[1:]
                if self._completes(plan):
                    self.plan = plan
                    return True
        return False

    def _completes(self, plan: Sequence[int]) -> bool:
        """Whether these tokens complete the document here."""
        tokens = [*plan, self._alphabet.end]
        # a matcher that stopped because nothing can follow takes no end token either
        if self._matcher.validate_tokens(tokens) != len(tokens) if plan else not self._matcher.is_accepting():
            return False
        if self._judge is None:
            return True
        if self._judging < 0:
            raise CharterError("checking a document against the schema takes too long; simplify the schema")
        began = time.thread_time()
        try:
            return self._judge(bytes(self._text) + self._alphabet.spell(plan))
        finally:
            self._judging -= time.thread_time() - began

    def _seek(self, most: int, steps: int) -> bool:
        """Search an ending of at most `most` tokens in at most `steps` steps; it becomes the plan."""
        if self._unread:
            if self._twin.try_consume_tokens(self._unread) != len(self._unread):
                return False
            self._unread = []
        pieces = [self._alphabet.tokens[token] for token in self.plan]
        quotes = self._numbers.quotes if self._numbers else None
        search = Search(self._twin, quotes, pieces, self._hints, min(MOST_BYTES, 64 + 16 * most), steps)
        for ending in self._endings(search):
            fresh = self._alphabet.cut(ending.fresh)
            if fresh is None:
                continue
            plan = fresh + (self.plan[ending.known_from :] if ending.known_from is not None else [])
            if len(plan) <= most and self._completes(plan):
                self.plan = plan
                return True
        return False

    def _endings(self, search: Search) -> Iterator[Ending]:
        if (first := search.shortest()) is not None:
            yield first
        if self._judge is not None:
            yield from search.others(TRIES)


class Held:
    """The constraint of one sample: a document that is complete within its tokens."""

    def __init__(self, alphabet: Alphabet, document: Document) -> None:
        self._alphabet, self._document = alphabet, document
        self._refused: list[int] = []
        self._spent = 0.0  # seconds spent on refused tokens
        self._remaining = 0

    @property
    def closed(self) -> bool:
        """Whether the document is complete and nothing can follow it."""
        return self._document.complete and self._document.closed

    def restrict(self, logits_V: Tensor, remaining: int) -> None:
        """See Constraint.restrict."""
        self._remaining, document = remaining, self._document
        spare = remaining - 1 - len(document.plan)
        tries = len(self._refused) < MOST_REFUSALS and self._spent < REFUSED_SECONDS
        shut = document.shut() if spare > 0 and tries else None
        if shut is None:
            keep_only(logits_V, document.plan[:1] or self._alphabet.ends)
            return
        shut[list(self._alphabet.ends)] = not document.complete
        if self._refused:
            shut[self._refused] = True
        if document.plan:
            shut[document.plan[0]] = False
        logits_V[: len(shut)].masked_fill_(shut.to(logits_V.device), -torch.inf)
        logits_V[len(shut) :] = -torch.inf

    def accept(self, token: int) -> bool:
        """See Constraint.accept."""
        if token in self._alphabet.ends:
            return True
        began = time.thread_time()
        if not self._document.take(token, self._remaining - 2):
            self._refused.append(token)
            self._spent += time.thread_time() - began
            return False
        self._refused, self._spent = [], 0.0
        return True


class Triggered:
    """Free text until `marker` is written, then a document; then free text once more if `again` is set.

    A token that crosses the marker's end must continue as the document begins, and the marker may not be completed if
    no document would fit: such tokens are refused.
    """

    def __init__(self, alphabet: Alphabet, start: Document, marker: bytes, again: bool = False) -> None:
        self._alphabet, self._start, self._marker, self._again = alphabet, start, marker, again
        self._held: Held | None = None
        self._seen = b""
        self._refused: list[int] = []
        self._remaining = 0

    def restrict(self, logits_V: Tensor, remaining: int) -> None:
        """See Constraint.restrict."""
        self._remaining = remaining
        if self._held is not None and self._again and self._held.closed:
            self._held, self._seen = None, b""
        if self._held is not None:
            self._held.restrict(logits_V, remaining)
        elif len(self._refused) >= MOST_REFUSALS:
            keep_only(logits_V, self._alphabet.ends)
        elif self._refused:
            logits_V[self._refused] = -torch.inf

    def accept(self, token: int) -> bool:
        """See Constraint.accept."""
        if self._held is not None:
            return self._held.accept(token)
        if token in self._alphabet.ends:
            return True
        text = self._seen + (self._alphabet.tokens[token] if token < self._alphabet.size else b"")
        at = text.find(self._marker)
        if at >= 0:
            document = self._start.copy()
            remainder = text[at + len(self._marker) :]
            fits = (
                len(document.plan) <= self._remaining - 2
                if not remainder
                else document.feed(remainder, self._remaining - 2)
            )
            if not fits:
                self._refused.append(token)
                return False
            self._held, text = Held(self._alphabet, document), b""
        self._seen = text[-len(self._marker) :]
        self._refused = []
        return True


def keep_only(logits_V: Tensor, tokens: Sequence[int] | frozenset[int]) -> None:
    """Forbid all tokens but these."""
    open_tokens = list(tokens)
    values = logits_V[open_tokens].clone()
    logits_V.fill_(-torch.inf)
    logits_V[open_tokens] = values
