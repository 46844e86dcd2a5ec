"""What a reply may be held to while it is sampled: the engine asks before every token, and tells what was drawn.

Letters: V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Constraint(Protocol):
    """The state of one sample under a grammar. The engine owns one for each sample and uses it from one thread."""

    def restrict(self, logits_V: Tensor, left: int) -> None:
        """Sets the logits of tokens that may not come next to minus infinity, in place.

        `left`: tokens that may still be written, the one that is drawn now included. Once the text is complete only
        tokens that end a reply remain.
        """
        ...

    def accept(self, token: int) -> None:
        """Goes on to the state after a token that `restrict` left open."""
        ...
