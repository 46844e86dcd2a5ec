"""Loss by token position: buckets that double, and the fit of a power law plus a constant (card section 4.2).

The card's form is L(t) = c0 + c t^-a, with a = 0.59 and c0 = 0.31 over 200K tokens of Claude 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table, tabulate

BUCKETS = tuple(2**k for k in range(18))  # first positions; the last ends at 262,143


def bucket_of(position: int) -> int:
    """The first position of the bucket that a position, from 1, is in: 1, 2, 4, 8 ..."""
    return 1 << (position.bit_length() - 1)


def loss_of(start: int) -> Callable[[Sequence[Row]], Table]:
    """Nats a token in the bucket that starts there, clustered by document."""
    key = str(start)
    return lambda rows: tabulate(
        (str(r["id"]), r["nats"][key], r["tokens"][key]) for r in rows if key in r["nats"]
    )
