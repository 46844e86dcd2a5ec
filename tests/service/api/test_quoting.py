"""Citations: which passages of a reply are quotes, where they stand, and how they come in pieces."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from charter.ground.documents.document import Document
from charter_service.api.model_request import End, Piece
from charter_service.api.wire.citations import LONGEST, Citable, Quoting, Source
from charter_service.api.wire.messages import Writing

HERON = "The heron stands in the shallow water and waits. It does not move for an hour."
OTTER = "The otter sleeps on its back.\n\nIt holds a stone between its paws.\n\nIt wakes at dusk."
PAGES = "A page about cranes.\nThey dance in spring.\fAnother page, about storks.\nThey clatter with their bills."


def plain(text: str) -> Document:
    return Document("", "text", len(text), "", text)


def citable() -> Citable:
    starts = (0, OTTER.index("It holds"), OTTER.index("It wakes"))
    return Citable(
        [
            Source(0, plain(HERON), "Heron"),
            Source(1, plain(OTTER), None, starts),
            Source(2, Document("a.pdf", "pdf", 1, "", PAGES, (0, PAGES.index("\f") + 1)), "Birds", file_id="file_1"),
            Source(0, plain(OTTER.replace("otter", "stoat")), "Found", starts, origin="https://a.example"),
        ]
    )


CITABLE = citable()


def said(reply: str, cuts: list[int] | None = None) -> list[tuple[str, dict[str, Any] | None]]:
    """A reply's parts, neighbours without a citation put together; fed whole, or in pieces."""
    quoting, parts = Quoting(CITABLE), list[Any]()
    places = [0, *sorted(cuts or []), len(reply)]
    for start, end in itertools.pairwise(places):
        parts += quoting.feed(reply[start:end])
    merged: list[tuple[str, dict[str, Any] | None]] = []
    for text, citation in [*parts, *quoting.end()]:
        if citation is None and merged and merged[-1][1] is None:
            text = merged.pop()[0] + text
        merged.append((text, citation))
    assert "".join(text for text, _ in merged) == reply
    return merged


def cited(reply: str) -> list[tuple[str, str]]:
    return [(text, citation["cited_text"]) for text, citation in said(reply) if citation]


@pytest.mark.parametrize(
    ("reply", "passages"),
    [
        ('It says "stands in the shallow water" there.', ["stands in the shallow water"]),
        ("It says \u201cstands in the shallow water\u201d.", ["stands in the shallow water"]),
        ("Es hei\u00dft \u201estands in the shallow water\u201c.", ["stands in the shallow water"]),
        ("Il dit \u00abstands in the shallow water\u00bb.", ["stands in the shallow water"]),
        ("> It does not move for an hour.\n\nSo it is.", ["It does not move for an hour."]),
        ("So it is.\n> It does not move for an hour", ["It does not move for an hour"]),
        (
            'It "stands in the shallow water." Then "does not move for an hour".',
            ["stands in the shallow water", "does not move for an hour"],
        ),
        ('"stands in the shallow water"', ["stands in the shallow water"]),
        ('("stands in the shallow water")', ["stands in the shallow water"]),
        ('A 5" pipe "stands in the shallow water" here', ["stands in the shallow water"]),
        ('An "open mark and "stands in the shallow water" here', ["stands in the shallow water"]),
        ('"never said anywhere" and "stands in the shallow water"', ["stands in the shallow water"]),
        ('> "stands in the shallow water"', ["stands in the shallow water"]),
        ('It "stands in the shallow" water', ["stands in the shallow"]),
        ('It "stands in the deep water" there', []),
        ('It "waits" there', []),
        ('It "stands in the shallow water', []),
        ('It "stands in the\nshallow water" there', []),
        ('x"stands in the shallow water"', []),
        ('" stands in the shallow water"', []),
        ("1 > stands in the shallow water", []),
        ('"' * 50, []),
        ("", []),
    ],
)
def test_what_is_a_quote(reply: str, passages: list[str]) -> None:
    assert [passage for _, passage in cited(reply)] == passages


def test_no_quote_goes_from_one_document_into_another() -> None:
    assert cited(f'It says "{HERON[-20:]} {OTTER[:20]}" there') == []


def test_a_quote_longer_than_the_most_is_plain_text() -> None:
    long = Citable([Source(0, plain("all the same words " * 100))])
    quoting = Quoting(long)
    text = '"' + "all the same words " * 60 + '"'
    assert len(text) > LONGEST
    assert all(citation is None for _, citation in [*quoting.feed(text), *quoting.end()])


def test_places() -> None:
    def place(words: str) -> dict[str, Any]:
        ((_, citation),) = [one for one in said(f'So "{words}" it is') if one[1]]
        assert citation is not None
        return citation

    words = "stands in the shallow water"
    start = HERON.index(words)
    assert place(words) == {
        "type": "char_location",
        "cited_text": words,
        "document_index": 0,
        "document_title": "Heron",
        "file_id": None,
        "start_char_index": start,
        "end_char_index": start + len(words),
    }
    assert place("holds a stone between") == {
        "type": "content_block_location",
        "cited_text": "It holds a stone between its paws.",
        "document_index": 1,
        "document_title": None,
        "file_id": None,
        "start_block_index": 1,
        "end_block_index": 2,
    }
    assert place("between its paws. It wakes at dusk") | {"type": ""} == place("between its paws. It wakes at dusk") | {
        "type": "",
        "cited_text": "It holds a stone between its paws.\n\nIt wakes at dusk.",
        "start_block_index": 1,
        "end_block_index": 3,
    }
    assert place("clatter with their bills") == {
        "type": "page_location",
        "cited_text": "clatter with their bills",
        "document_index": 2,
        "document_title": "Birds",
        "file_id": "file_1",
        "start_page_number": 2,
        "end_page_number": 3,
    }
    found = place("The stoat sleeps on its back")
    assert found == {
        "type": "search_result_location",
        "cited_text": "The stoat sleeps on its back.",
        "search_result_index": 0,
        "source": "https://a.example",
        "title": "Found",
        "start_block_index": 0,
        "end_block_index": 1,
    }


ALPHABET = [
    '"',
    "\u201c",
    "\u201d",
    "\u201e",
    "\u00ab",
    "\u00bb",
    "\n",
    "> ",
    " ",
    ".",
    "x",
    *HERON.split(),
    HERON[:48],
    f'"{HERON[4:30]}"',
    f"\u201c{HERON[:48]}\u201d",
    f'"{OTTER[:28]}.',
    OTTER[:28],
]


def test_pieces_change_nothing() -> None:
    dice = random.Random(1)
    quotes = 0
    for _ in range(400):
        reply = "".join(dice.choice(ALPHABET) + dice.choice(["", " "]) for _ in range(dice.randrange(1, 25)))
        whole = said(reply)
        quotes += sum(1 for _, citation in whole if citation)
        assert said(reply, list(range(1, len(reply)))) == whole
        assert said(reply, [dice.randrange(len(reply) + 1) for _ in range(4)]) == whole
    assert quotes > 20


def test_text_is_held_back_only_while_it_may_be_a_quote() -> None:
    quoting = Quoting(CITABLE)
    assert "".join(one.text for one in quoting.feed("No quote here")) == "No quote here"
    assert quoting.feed(' "stands in the shallow') == [(" ", None)]
    assert quoting.feed(" water and") == []
    assert [one.text for one in quoting.feed(' waits." So')] == ['"stands in the shallow water and waits."', " So"]
    free = Quoting(CITABLE)
    passed = "".join(one.text for one in free.feed(' "something that no document says, ' + "and more " * 5))
    assert len(passed) > 40  # long before a closing mark


def events_and_message(pieces: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    writing = Writing("m", 5, reader=None, quoting=Quoting(CITABLE))
    events = [writing.begin()]
    for number, piece in enumerate(pieces, 1):
        events += writing.add(Piece(0, piece, (), number))
    events += writing.add(End(0, "end", output_tokens=9))
    return events, writing.message


def read(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that a client puts together from a stream."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open and event["index"] == len(blocks)
            blocks.append(event["content_block"] | {})
            is_open = True
            if "citations" in blocks[-1]:
                blocks[-1]["citations"] = list(blocks[-1]["citations"])
                assert blocks[-1]["citations"] == []
        elif event["type"] == "content_block_delta":
            assert is_open and event["index"] == len(blocks) - 1
            delta = event["delta"]
            if delta["type"] == "text_delta":
                blocks[-1]["text"] += delta["text"]
            else:
                blocks[-1]["citations"].append(delta["citation"])
        elif event["type"] == "content_block_stop":
            assert is_open
            is_open = False
    assert not is_open
    return blocks


REPLY = 'Well: "stands in the shallow water" and "does not move for an hour" "holds a stone between".\n'


def test_a_stream_adds_up_to_the_message() -> None:
    events, message = events_and_message(list(REPLY))
    assert read(events) == message["content"] == events_and_message([REPLY])[1]["content"]
    assert [(block["text"], bool(block.get("citations"))) for block in message["content"]] == [
        ("Well: ", False),
        ('"stands in the shallow water"', True),
        (" and ", False),
        ('"does not move for an hour"', True),
        (' "holds a stone between"', True),
        (".\n", False),
    ]
    kinds = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert kinds.count("citations_delta") == 3


def test_no_block_is_blank() -> None:
    _, message = events_and_message(['"stands in the shallow water"', "\n"])
    assert [block["text"] for block in message["content"]] == ['"stands in the shallow water"']


def test_a_citing_request_prepares_its_texts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Citable([Source(0, plain(f"the words of request {n} stand here"))]) for n in range(12)]

    def again(text: str) -> None:
        raise AssertionError("a text was prepared again")

    monkeypatch.setattr("charter.ground.documents.quotes.fold_text", again)
    for n, citable in enumerate(many):
        cited = citable.cite(f"words of request {n} stand")
        assert cited is not None and cited["start_char_index"] == 4
        assert citable.cite("words of request none stand") is None


def test_an_unfound_quote_cuts_no_block() -> None:
    _, message = events_and_message(list('It is "a thing that nobody wrote" and no more.'))
    assert message["content"] == [{"type": "text", "text": 'It is "a thing that nobody wrote" and no more.'}]
