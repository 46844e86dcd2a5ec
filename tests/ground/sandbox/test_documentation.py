"""The tables of docs/concepts/sandbox.md count the attempts that the tests make, and their examples are such."""

from __future__ import annotations

import re
from pathlib import Path

from attempts import ATTEMPTS
from bombs import BOMBS
from forgeries import DROPPED, FORGERIES, LATE

TEXT = (Path(__file__).parents[3] / "docs" / "concepts" / "sandbox.md").read_text()


def test_the_counts_add_up_and_the_examples_are_attempts() -> None:
    tried = [str(function.__doc__) for function in (*ATTEMPTS.values(), *BOMBS.values())] + [
        *FORGERIES,
        *DROPPED,
        *LATE,
    ]
    assert len(set(tried)) == len(tried)
    section = TEXT.split("## Escapes tried")[1].split("\n## ")[0]
    assert f"makes {len(tried)} attempts" in section
    rows = re.findall(r"^\| .+ \| (\d+) \| (.+) \|$", section, re.M)
    assert sum(int(count) for count, _ in rows) == len(tried)
    examples = [example for _, listed in rows for example in listed.split("; ")]
    assert set(examples) <= set(tried)
