"""Text files: their encodings, kinds and names."""

import hashlib

import pytest

from charter.ground.documents.document import Document, Limits, Unreadable, clean_name
from charter.ground.documents.reading import read_document

WORDS = "Grüße aus Köln.\r\nEine zweite Zeile, größer als die erste: naïve Œuvre für alle.\n"


def test_a_text_is_read_whole() -> None:
    data = WORDS.encode()
    document = read_document(data, "letter.txt")
    digest = hashlib.sha256(data).hexdigest()
    assert document == Document("letter.txt", "text", len(data), digest, WORDS)
    assert document.page_of(3) is None


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-32-le", b"\xff\xfe\0\0"),
        ("utf-32-be", b"\0\0\xfe\xff"),
        ("cp1252", b""),
    ],
)
def test_encodings(encoding: str, mark: bytes) -> None:
    assert read_document(mark + WORDS.encode(encoding), "a.txt").text == WORDS


def test_the_letter_that_tells_the_encoding_may_stand_anywhere() -> None:
    text = "plain words only, line by line\n" * 20_000 + WORDS
    assert read_document(text.encode("cp1252"), "a.txt").text == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no text"),
        (b" \n\t\xc2\xa0", "no text"),
        (b"a\0b", "NUL bytes"),
        ("a\0b".encode("utf-16"), "NUL bytes"),
        (b"\xff\xfe\x00\xd8a\0", "damaged"),  # a lone surrogate
        (b"\xff\xfea", "damaged"),
        (b"\x01\x02\x80\x81" * 50, "UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as error:
        read_document(data, "a.txt")
    assert str(error.value).endswith((".", ".)"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("a.JSON", "json"),
        ("a.md", "markdown"),
        ("a.py", "code"),
        ("Dockerfile", "code"),
        ("a.log", "text"),
        ("a", "text"),
        ("a.pdf", "text"),
    ],
)
def test_kinds_of_text_are_told_by_the_ending(name: str, kind: str) -> None:
    document = read_document(b'{"a": "\\ud800"}\r\n', name)
    assert (document.kind, document.text) == (kind, '{"a": "\\ud800"}\r\n')


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\plan.docx", "plan.docx"),
        ("a\0b\n\x1b[31mc.txt", "ab[31mc.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("\ud800.txt", ".txt"),
        ("..", "file"),
        ("", "file"),
        ("a/", "a"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("x" * 300, "x" * 200),
    ],
)
def test_names_are_cleaned(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


def test_a_file_and_a_text_over_the_limit_are_refused_with_both_numbers() -> None:
    with pytest.raises(Unreadable, match=r"1,048,577 bytes, and at most 1 MB"):
        read_document(b"x" * (2**20 + 1), "a.txt", Limits(file_mb=1))
    with pytest.raises(Unreadable, match=r"11 characters, and at most 10"):
        read_document(b"x" * 11, "a.txt", Limits(characters=10))
    assert read_document(b"x" * 10, "a.txt", Limits(characters=10)).text == "x" * 10


def test_pages_are_counted_from_one() -> None:
    document = Document("a", "pdf", 1, "", "aaabbb", (0, 3))
    assert [document.page_of(place) for place in (0, 2, 3, 5, 9)] == [1, 1, 2, 2, 2]
