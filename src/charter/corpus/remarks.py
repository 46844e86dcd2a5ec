"""What the room tells whoever waits for it: one line each on what was passed over, and one on what was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from charter.corpus.counting import Examined
from charter.corpus.page import short

_MOST = 6  # reasons that a line names


def on_faults(examined: Examined) -> str:
    """What could not be read, with the first of it."""
    first = examined.first_fault
    place = f"{first['file']}:{first['line']}" if first["line"] else first["file"]
    more = examined.faults - 1
    beside = "samples/refused.jsonl" + (f" names it and {more:,} more" if more else " names it")
    return f"can't be read: {place} of {first['source']} ({first['detail']}); {beside}"


def on_kept(counts: Mapping[str, float], dropped: Mapping[str, int]) -> str:
    """How much of the input was kept, why the rest was not, and how much is held out."""
    kept = (
        f"kept {counts['documents_unique']:,.0f} of {counts['documents_read']:,.0f} documents, "
        f"{short(counts['unique_bytes'])}B of {short(counts['bytes_read'])}B"
    )
    reasons = f" ({in_words(dropped)})" if dropped else ""
    return f"{kept}{reasons}, {counts['documents_heldout']:,.0f} of them held out; report.html says more"


def in_words(dropped: Mapping[str, int]) -> str:
    """The reasons, the most frequent first: 36 short, 4 exact copy."""
    largest = Counter(dropped).most_common(_MOST)
    rest = sum(dropped.values()) - sum(count for _, count in largest)
    said = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in largest]
    return ", ".join([*said, f"{rest:,} for other reasons"] if rest else said)
