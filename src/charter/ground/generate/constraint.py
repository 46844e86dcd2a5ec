"""The interface of constraints on a reply: the engine asks before every token and reports the token it drew.

Whether a document can still be ended within the budget after a token is known only once that token is tried, and
there are too many to try them all before the draw. So a token may be refused after the draw. One step of a sample:

    while True:
        constraint.restrict(logits_V, remaining)
        token = draw(logits_V)
        if constraint.accept(token):
            break

which draws from the distribution over the tokens that keep the promise (rejection). Every draw of a step takes a fresh
uniform number; the same one would hand a refused token's probability to its neighbour. Refusals are rare and bounded
(`MOST_REFUSALS` a step); after that only tokens known to fit are open.

Letters: V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

MOST_REFUSALS = 32


class Constraint(Protocol):
    """The state of one sample under a grammar. The engine owns one for each sample and uses it from one thread."""

    def restrict(self, logits_V: Tensor, remaining: int) -> None:
        """Sets the logits of tokens that may not come next to minus infinity, in place.

        `remaining`: tokens that may still be written, including the one drawn now. Once the text is complete, only
        tokens that end a reply remain. Called again after a refusal, it also closes the refused tokens.
        """
        ...

    def accept(self, token: int) -> bool:
        """Goes on to the state after a token that `restrict` left open; False if no ending would fit after it.
        Then only the token is closed, nothing else changes, and `restrict` and the draw are repeated."""
        ...
