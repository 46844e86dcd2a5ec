"""The lists of docs/concepts/sandbox.md name the attempts that the tests make, all of them, and counts them right."""

from __future__ import annotations

import re
from pathlib import Path

from attempts import ATTEMPTS
from bombs import BOMBS
from forgeries import DROPPED, FORGERIES, LATE

TEXT = (Path(__file__).parents[3] / "docs" / "concepts" / "sandbox.md").read_text()


def test_every_attempt_has_a_row_and_the_count_is_theirs() -> None:
    tried = [str(function.__doc__) for function in (*ATTEMPTS.values(), *BOMBS.values())] + [
        *FORGERIES,
        *DROPPED,
        *LATE,
    ]
    section = TEXT.split("## Escapes tried")[1].split("\n## ")[0]
    lists = re.findall(r"^- \*\*.+\*\*: (.+)\.$", section, re.M)
    assert sorted(attempt for line in lists for attempt in line.split("; ")) == sorted(tried)
    assert len(set(tried)) == len(tried)
    assert f"makes {len(tried)} attempts" in section
