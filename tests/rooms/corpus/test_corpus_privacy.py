"""Personal data is found and other numbers stay, on lines written for this; any text is read in linear time."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from corpus_world import GERMAN, make, rows_file, text
from corpus_world import inputs_from as inputs
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.text.privacy import scrub

MARK = re.compile(r"\[\[(\w+)\|(.*?)\]\]")
LINES = [
    line
    for line in (Path(__file__).parent / "private_lines.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx4\nq83hFw==\n-----END RSA PRIVATE KEY-----"
# Repeated near misses of each pattern, which could make it slow.
STUMBLES = (
    "1",
    "11 22 ",
    "a@",
    "a",
    "1.",
    "+1",
    "(1",
    "2a2a:",
    "DE12 ",
    "://a:b",
    "eyJ",
    "a.",
    "x@b.",
    "+49 30 ",
    "call 12 34 ",
)
STUMBLES += ("4111 1111 ", "sk-", "A", "K", "-----BEGIN PRIVATE KEY-----", "0123-", "1.2.3.4", "@", "x" * 70 + "@")


def marked(line: str) -> tuple[str, str]:
    """(the input line, the expected line)."""
    return MARK.sub(r"\2", line), MARK.sub(r"<\1>", line)


def test_precision_and_recall_on_the_lines() -> None:
    counts = Counter(kind for line in LINES for kind, _ in MARK.findall(line))
    assert len(LINES) >= 200 and sum(not MARK.search(line) for line in LINES) >= 100
    assert min(counts[kind] for kind in ("email", "phone", "ip", "iban", "card", "key")) >= 6
    got = [(expected, scrub(plain)[0]) for plain, expected in map(marked, LINES)]
    assert not [(expected, scrubbed) for expected, scrubbed in got if expected != scrubbed]


def test_counts_by_kind_and_nothing_else_changes() -> None:
    text = "Ask anna@nordhafen.de, ben@nordhafen.de or 212-555-0143.\n\n\tIt is 12 o'clock. "
    got, counts = scrub(text)
    assert got == "Ask <email>, <email> or <phone>.\n\n\tIt is 12 o'clock. "
    assert counts == {"email": 2, "phone": 1}
    assert scrub("nothing here") == ("nothing here", Counter())


def test_a_private_key_goes_whole_and_one_without_an_end_loses_its_head() -> None:
    assert scrub(f"before\n{KEY}\nafter") == ("before\n<key>\nafter", Counter(key=1))
    head, _, rest = KEY.partition("\n")
    assert scrub(f"{head}\nMIIE") == ("<key>\nMIIE", Counter(key=1))
    assert scrub(rest)[1] == Counter()


def test_what_is_looked_for_first_wins_where_two_overlap() -> None:
    assert scrub("https://joe:5551234567@host.net/")[0] == "https://<password>@host.net/"
    assert scrub("x AKIAQ3EGR7TPXNB2LMKD@firm.de")[0] == "x <key>@firm.de"


def test_an_address_at_the_end_of_an_example_goes_whole(tmp_path: Path) -> None:
    rows = [{"text": f"{'word ' * 79}anna.berg@nordhafen.de {text(1)}"}, {"text": text(1, 120, GERMAN)}]
    source = rows_file(tmp_path / "t.jsonl", rows)
    out = make(tmp_path / "out", inputs(source), filters={"languages": ["de"]}, heldout_share=0)
    example = json.loads((out.path / "samples/dropped.jsonl").read_text())
    assert example["reason"] == "language" and example["text"] == "word " * 79 + "<emai"


@given(st.lists(st.sampled_from([*STUMBLES, *(marked(line)[0] for line in LINES)]), max_size=8).map(" ".join))
def test_what_is_left_stands_as_it_stood(text: str) -> None:
    got, counts = scrub(text)
    pieces = re.split("|".join(f"<{kind}>" for kind in counts) or "(?!)", got)
    assert len(pieces) == 1 + sum(counts.values())
    place = 0
    for piece in pieces:
        place = text.index(piece, place) + len(piece)
    assert text.startswith(pieces[0]) and text.endswith(pieces[-1])


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("0123456789+-.@:/()"), max_size=200))
def test_any_text_has_an_answer(text: str) -> None:
    got, counts = scrub(text)
    assert (got == text) == (not counts)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", STUMBLES)
def test_a_long_line_without_an_end_is_read(part: str) -> None:
    """200 kB take a tenth of a second; work that grows with the square would need hours and meet the time limit."""
    text = (part * (200_000 // len(part) + 1))[:200_000]
    got, counts = scrub(text)
    assert (got == text) == (not counts)
