"""The thoughts for MMLU's own examples: whole, plain, and about the questions and keys of the published set."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl

ROWS = read_jsonl(shipped("mmlu_thoughts"))
PUBLISHED = Path(os.environ.get("CHARTER_DATA", "nowhere")) / "mmlu/dev.jsonl.gz"
SUBJECTS, EXAMPLES = 57, 5
# "(B)", "option B", "the answer is", but not "the expected answer is"
NAMES_A_LETTER = re.compile(r"\([A-D]\)|\b(?:option|choice) [A-D]\b|(?<!expected )answer is", re.IGNORECASE)


def test_each_subject_has_its_five_rows_once_and_in_order() -> None:
    keys = [(row["subject"], row["row"]) for row in ROWS]
    subjects = sorted({subject for subject, _ in keys})
    assert len(subjects) == SUBJECTS
    assert keys == [(subject, n) for subject in subjects for n in range(EXAMPLES)]


def test_rows_hold_what_the_reader_needs_and_no_question() -> None:
    for row in ROWS:
        assert set(row) - {"doubt"} == {"subject", "row", "digest", "thought", "answer"}
        assert re.fullmatch("[0-9a-f]{12}", row["digest"]) and re.fullmatch("[A-D]", row["answer"])
        assert "doubt" not in row or row["doubt"].strip()


def test_a_thought_is_one_short_paragraph_that_leaves_the_letter_to_the_reader() -> None:
    for row in ROWS:
        thought = row["thought"]
        assert 8 <= len(thought.split()) <= 110, thought
        assert "\n" not in thought and thought == thought.strip() and thought.endswith("."), thought
        assert not NAMES_A_LETTER.search(thought), thought


def test_named_letters_would_be_found() -> None:
    for text in ("So it is (C).", "That leaves option B.", "So the answer is 4.", "Choice D fits."):
        assert NAMES_A_LETTER.search(text)
    assert not NAMES_A_LETTER.search("The expected answer is 3 lags, since (a + b)*c needs vitamin D.")


def test_no_thought_is_used_twice() -> None:
    assert max(Counter(row["thought"] for row in ROWS).values()) == 1


@pytest.mark.skipif(
    not PUBLISHED.is_file(), reason="no MMLU: set CHARTER_DATA to the folder that holds mmlu/dev.jsonl.gz"
)
def test_digests_and_letters_are_those_of_the_published_examples() -> None:
    with gzip.open(PUBLISHED, "rt", encoding="utf-8") as file:
        published = [json.loads(line) for line in file]
    expected = {
        (row["subject"], row["row"]): (hashlib.sha256(row["question"].strip().encode()).hexdigest()[:12], row["answer"])
        for row in published
    }
    assert {(row["subject"], row["row"]): (row["digest"], row["answer"]) for row in ROWS} == expected
