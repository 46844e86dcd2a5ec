"""Quotes are found only where they stand, and in linear time."""

import pytest

from charter.ground.documents.document import Document
from charter.ground.documents.quotes import LEAST, Quote, find_quote, quoted, quotes_in

TEXT = (
    "The committee met on Monday.  It said: \u201cno fee\u2014none\u2014will be\ncharged\u201d.\n\n"
    "An ef\ufb01cient exam-\nple of re\u0301sume\u0301s, well-known and co\u00adopera-\n  tive; now here it ends\u2026\n"
)


def document(text: str, pages: tuple[int, ...] = ()) -> Document:
    return Document("a.pdf", "pdf", len(text), "", text, pages)


@pytest.mark.parametrize(
    ("words", "original"),
    [
        ("committee met on Monday. It said", "committee met on Monday.  It said"),
        ('said: "no fee-none-will be charged".', "said: \u201cno fee\u2014none\u2014will be\ncharged\u201d."),
        ("efficient example of r\u00e9sum\u00e9s", "ef\ufb01cient exam-\nple of re\u0301sume\u0301s"),
        ("exam-ple of r\u00e9sum\u00e9s", "exam-\nple of re\u0301sume\u0301s"),
        ("well\u2011known and cooperative", "well-known and co\u00adopera-\n  tive"),
        ("now here it ends...", "now here it ends\u2026"),
    ],
)
def test_layout_and_typography_do_not_matter(words: str, original: str) -> None:
    quote = find_quote(words, document(TEXT))
    assert quote is not None
    assert TEXT[quote.start : quote.end] == original


@pytest.mark.parametrize(
    "words",
    [
        "The committee met on Tuesday.",
        "the committee met on monday",
        "nowhere it ends\u2026",  # a space is missing
        "wellknown and cooperative",  # a hyphen is
        "met on Mon day. It said",
        "met on Mon-day. It said",
        "committee",  # too short
        "\u2014 - \u2014 -            \u2014",
        "",
        "x" * 30_000,
    ],
)
def test_what_does_not_stand_there_is_not_found(words: str) -> None:
    assert find_quote(words, document(TEXT)) is None


def test_the_first_passage_with_the_same_spaces_counts() -> None:
    text = "a long nowhere sentence, a long now here sentence"
    assert find_quote("long now here sentence", document(text)) == Quote(27, 49, None)


def test_a_quote_names_its_page_also_far_into_a_document() -> None:
    text = "\u00e9 word\n" * 30_000 + "the passage in question"
    start = text.index("the passage")
    quote = find_quote("the passage in question", document(text, (0, 10, start)))
    assert quote == Quote(start, len(text), 3)


def test_all_marks_of_quotation_and_block_quotes_are_read() -> None:
    texts = [document("other words stand here"), document("one two three four. " * 3 + "five six seven eight")]
    for reply in (
        'It says "one two three four."',
        "It says \u201cone two three four\u201d.",
        "Es sagt \u201eone two three four,\u201c so.",
        "Il dit \u00abone two three four\u00bb.",
        "It says:\n\n> one two\n> three four.\n\nSo.",
    ):
        (passage,) = quotes_in(reply, texts)
        assert passage.document == 1
        assert passage.quote.start == 0
        assert "one two" in reply[passage.start : passage.end]
        assert reply[passage.start] not in '"\u201c\u201e\u00ab> '


def test_of_a_quotation_in_a_block_quote_the_longer_that_stands_there_counts() -> None:
    text = 'He wrote: "one two three four", and left.'
    (whole,) = quotes_in(f"> {text}", [document(text)])
    assert (whole.start, whole.end) == (2, 2 + len(text))
    reply = '> "one two three four" (letter, page 1)'
    (inner,) = quotes_in(reply, [document(text)])
    assert reply[inner.start : inner.end] == "one two three four"


def test_code_and_short_words_are_no_quotations() -> None:
    assert list(quoted('```\nx = "one two three four"\n```\nand "tiny"')) == []
    assert len(list(quoted('```\nx = 1\n```\n"one two three four" and ~~~'))) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "reply",
    [
        '"' * 200_000,
        "\u201c" * 200_000,
        "\u201e" * 100_000 + "\u201c" * 100_000,
        "> \n" * 100_000,
        "```\n" * 50_000,
        "> > > " * 50_000,
        '"' + "a" * 200_000,
        " " * 200_000 + ">",
    ],
    ids=range(8),
)
def test_replies_made_to_be_slow_are_read_in_linear_time(reply: str) -> None:
    assert quotes_in(reply, [document("word " * 10)]) == []


def test_of_very_many_quotations_the_longest_are_looked_up() -> None:
    reply = "".join(f'"passage number {place}" ' for place in range(1000, 2000)) + '"the longest passage of all"'
    found = quotes_in(reply, [document(reply.replace('"', ""))])
    assert len(found) == 500
    assert reply[found[-1].start : found[-1].end] == "the longest passage of all"


@pytest.mark.timeout(60)
def test_documents_made_to_be_slow_are_searched_in_linear_time() -> None:
    assert find_quote("a" * 5000 + "b", document("a" * 1_000_000)) is None
    assert find_quote("ab " * 6000, document("a b" * 300_000)) is None
    assert find_quote("now here" * LEAST, document("\n \n" * 1_000_000)) is None
