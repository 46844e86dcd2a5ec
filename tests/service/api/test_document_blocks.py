"""Documents in requests: read whole from base64 and files, screened by the policy, refused in plain words, and cited."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cachetools import LRUCache
from lobby import MODEL, Hall, Said, configuration, open_hall, until, watching

import toys
from charter.ground.documents.document import Document, Unreadable
from charter_service.api import file_store as document_texts
from charter_service.api.wire import sources

TEXT = "The heron stands in the shallow water and waits."
WORDS = "stands in the shallow water"
REPLY = f'It "{WORDS}" and does "nothing of the kind that anybody wrote".'


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text a page."""
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(len(pages)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>"]
    font = "<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    for number, text in enumerate(pages):
        show = f"BT /F 12 Tf 50 700 Td ({text}) Tj ET"
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {4 + 2 * number} 0 R/Resources{font}>>",
            f"<</Length {len(show)}>>stream\n{show}\nendstream",
        ]
    file, places = b"%PDF-1.7\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(file))
        file += f"{number} 0 obj{one}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(places) + 1}/Root 1 0 R>>\n"
    return file + f"{end}startxref\n{len(file)}\n%%EOF".encode()


def encoded(data: bytes | str, media_type: str = "text/plain") -> dict[str, Any]:
    content = data if isinstance(data, bytes) else data.encode()
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(content).decode()}


def block(source: dict[str, Any], cite: bool | None = None, **more: Any) -> dict[str, Any]:
    cited = {} if cite is None else {"citations": {"enabled": cite}}
    return {"type": "document", "source": source, **cited, **more}


def found(text: str, cite: bool | None = None) -> dict[str, Any]:
    cited = {} if cite is None else {"citations": {"enabled": cite}}
    parts = [{"type": "text", "text": "First."}, {"type": "text", "text": text}]
    return {"type": "search_result", "source": "https://a.example", "title": "A", "content": parts, **cited}


def body(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": [*blocks, {"type": "text", "text": "What does it say?"}]}
    return {"model": MODEL, "max_tokens": 30, "messages": [turn]} | more


class Desk:
    def __init__(self, hall: Hall, organisation: str = "acme") -> None:
        self.hall = hall
        self.headers = {"x-api-key": hall.key(organisation), "anthropic-version": "2023-06-01"}

    def ask(self, *blocks: dict[str, Any], path: str = "/v1/messages", **more: Any) -> httpx.Response:
        return httpx.post(self.hall.url + path, json=body(*blocks, **more), headers=self.headers, timeout=120)

    def refused(self, *blocks: dict[str, Any], status: int = 400, **more: Any) -> str:
        answer = self.ask(*blocks, **more)
        assert answer.status_code == status, answer.text
        message: str = answer.json()["error"]["message"]
        return message

    def upload(self, data: bytes, name: str = "a.txt") -> dict[str, Any]:
        answer = httpx.post(f"{self.hall.url}/v1/files", files={"file": (name, data)}, headers=self.headers)
        return {"type": "file", "file_id": answer.json()["id"]}


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


@pytest.fixture(scope="module")
def said() -> Said:
    return Said(*(REPLY[at : at + 3] for at in range(0, len(REPLY), 3)))


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, said: Said) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), configuration(files={"file_mib": 1}), said=said) as hall:
        yield hall


def prompt(said: Said) -> str:
    text: str = said.asked[-1].prompt[-1]["content"]  # type: ignore[index]
    return text


def test_every_source_gives_the_same_prompt(hall: Hall, said: Said) -> None:
    desk, prompts = Desk(hall), set[str]()
    plain = {"type": "text", "media_type": "text/plain", "data": TEXT}
    for source in (plain, encoded(TEXT), desk.upload(TEXT.encode())):
        answer = desk.ask(block(source, title="Birds", context="A note"))
        assert answer.status_code == 200, answer.text
        prompts.add(prompt(said))
        counted = desk.ask(block(source, title="Birds", context="A note"), path="/v1/messages/count_tokens")
        # `max_tokens` belongs to messages alone
        assert counted.status_code == 400
    assert len(prompts) == 1
    assert f'"Birds">\nA note\n{TEXT}' in prompts.pop()


def test_counting_reads_documents_too(hall: Hall) -> None:
    desk = Desk(hall)
    wanted = body(block(encoded(TEXT)))
    del wanted["max_tokens"]
    counted = httpx.post(f"{hall.url}/v1/messages/count_tokens", json=wanted, headers=desk.headers)
    assert counted.json()["input_tokens"] == desk.ask(block(encoded(TEXT))).json()["usage"]["input_tokens"]


def test_a_pdf_stands_whole_in_the_prompt_with_its_pages(hall: Hall, said: Said) -> None:
    desk, data = Desk(hall), pdf("Page of cranes", f"Here: {TEXT}")
    for source in (encoded(data, "application/pdf"), desk.upload(data, "a.pdf")):
        assert desk.ask(block(source)).status_code == 200
        assert f"[page 1] Page of cranes [page 2] Here: {TEXT}" in " ".join(prompt(said).split())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({**encoded(TEXT), "data": "@@@@"}, "the data is not base64"),
        ({**encoded(TEXT), "data": "aGVs\nbG8="}, "the data is not base64"),
        ({**encoded(TEXT), "data": "aGVsbG8"}, "the data is not base64"),
        ({**encoded(TEXT), "data": "h\u00e9"}, "the data is not base64"),
        ({**encoded(TEXT), "data": ""}, "There is no text in this file"),
        (encoded(b"\x89PNG\r\n\x1a\n\0\0\0", "application/pdf"), "This file is a picture"),
        (encoded(b"\0\1\2", "text/plain"), "NUL bytes"),
        (encoded(TEXT, "image/png"), "media_type 'image/png' can't be read; expected one of application/pdf"),
        (encoded(TEXT, ""), "media_type '' can't be read"),
        (encoded(TEXT, "application/pdf"), "media_type says application/pdf, but the bytes are text"),
        (encoded(pdf(TEXT), "text/plain"), "media_type says text/plain, but the bytes are pdf"),
        (encoded(pdf(TEXT)[:200], "application/pdf"), "pdf"),
        (encoded(b"x" * (2**20 + 3)), "the document has 1,048,5"),
        ({"type": "url", "url": "https://a.example/a.pdf"}, "fetches nothing from elsewhere"),
        ({"type": "file", "file_id": "file_1"}, "there is no file 'file_1'"),
        ({"type": "file", "file_id": "\0"}, "there is no file"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(hall: Hall, source: dict[str, Any], words: str) -> None:
    status = 404 if source["type"] == "file" else 400
    said = Desk(hall).refused(found("x"), block(source), status=status)
    assert said.startswith("messages.0.content.1.source: ")
    assert words.lower() in said.lower()


def test_base64_over_the_body_is_refused_as_a_body(hall: Hall) -> None:
    huge = {"type": "base64", "media_type": "text/plain", "data": "A" * (33 * 2**20)}
    assert "over 32 MiB" in Desk(hall).refused(block(huge), status=413)


def test_a_document_longer_than_the_context_is_refused_with_numbers(hall: Hall) -> None:
    long = "heron " * 2000
    assert "prompt is too long: 2" in Desk(hall).refused(block(encoded(long)))


def test_many_documents_are_bounded(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(hall)
    assert "at most 100 documents to read, found 101" in desk.refused(*[block(encoded(TEXT))] * 101)
    monkeypatch.setattr(sources, "MOST_CHARACTERS", 100)
    assert "have 144 characters, 100 are allowed" in desk.refused(*[block(encoded(TEXT))] * 4)


def test_a_document_is_read_once(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an organisation, also by requests at once; what another has read is not known to it."""
    read, counted = document_texts.read_document, list[str]()

    def counting(data: bytes, name: str, *more: Any) -> Document:
        counted.append(name)
        return read(data, name, *more)

    monkeypatch.setattr(document_texts, "read_document", counting)
    desk, other = Desk(hall), Desk(hall, "other")
    source = encoded("A text that is new to this server.")
    with ThreadPoolExecutor(4) as threads:
        assert {a.status_code for a in threads.map(lambda _: desk.ask(block(source)), range(4))} == {200}
    assert len(counted) == 1
    assert other.ask(block(source)).status_code == 200
    assert len(counted) == 2
    file = desk.upload(b"A text that is new to this server.")
    assert desk.ask(block(file)).status_code == 200
    assert len(counted) == 2


def test_kept_texts_are_bounded(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, texts = Desk(hall), hall.service.texts
    kept: LRUCache[Any, Document] = LRUCache(100, texts._kept.getsizeof)
    monkeypatch.setattr(texts, "_kept", kept)
    for number in range(5):
        assert desk.ask(block(encoded(f"{TEXT} {number}"))).status_code == 200
    assert kept.currsize <= 100 and kept.currsize == sum(len(d.text) for d in kept.values())


def test_a_document_that_can_not_be_read_is_not_kept(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Document:
        raise Unreadable("Reading took over 20 s; send a part of it.")

    with monkeypatch.context() as patch:
        patch.setattr(document_texts, "read_document", failing)
        assert "took over 20 s" in Desk(hall).refused(block(encoded("A text that fails once.")))
    assert Desk(hall).ask(block(encoded("A text that fails once."))).status_code == 200


def test_a_packed_bomb_is_refused_in_a_sentence(hall: Hall) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"\0" * 30 * 2**20)
    media = f"{sources.OFFICE}wordprocessingml.document"
    desk = Desk(hall)
    for source in (encoded(packed.getvalue(), media), desk.upload(packed.getvalue(), "a.docx")):
        said = desk.refused(block(source))
        assert said.startswith("messages.0.content.0.source: ") and "\n" not in said
        assert "100 times its size" in said


def test_slow_documents_of_one_leave_others_their_turn(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five that hang: another organisation's document is read, and messages without documents are answered."""
    read, gate, begun = document_texts.read_document, threading.Event(), list[str]()

    def hanging(data: bytes, name: str, *more: Any) -> Document:
        if b"slow" in data:
            begun.append(name)
            assert gate.wait(60)
        return read(data, name, *more)

    monkeypatch.setattr(document_texts, "read_document", hanging)
    bad, good = Desk(hall, "bad"), Desk(hall, "good")
    with ThreadPoolExecutor(5) as threads:
        try:
            slow = [threads.submit(bad.ask, block(encoded(f"slow {n}"))) for n in range(5)]
            until(lambda: begun and hall.service.texts.threads.waiting == 5)
            assert good.ask(block(encoded("A text of the other organisation."))).status_code == 200
            assert bad.ask(found("x")).status_code == 200
            assert len(begun) == 1
        finally:
            gate.set()
        assert {one.result().status_code for one in slow} == {200}


CITED = [
    (lambda desk: {"type": "text", "media_type": "text/plain", "data": TEXT}, "char_location"),
    (lambda desk: encoded(TEXT), "char_location"),
    (lambda desk: desk.upload(TEXT.encode()), "char_location"),
    (lambda desk: encoded(pdf("Cranes", TEXT), "application/pdf"), "page_location"),
    (lambda desk: desk.upload(pdf("Cranes", TEXT), "a.pdf"), "page_location"),
    (
        lambda desk: {"type": "content", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": TEXT}]},
        "content_block_location",
    ),
]


@pytest.mark.parametrize("number", range(len(CITED)))
def test_a_verbatim_quote_is_cited_streamed_or_not(hall: Hall, number: int) -> None:
    make, kind = CITED[number]
    desk = Desk(hall)
    source = make(desk)
    blocks = [
        block({"type": "text", "media_type": "text/plain", "data": "Nothing here."}, True),
        block(source, True, title="Birds"),
    ]
    message = desk.ask(*blocks).json()
    texts = [part["text"] for part in message["content"]]
    assert texts == ["It ", f'"{WORDS}"', REPLY[REPLY.index(" and does") :]]
    (citation,) = message["content"][1]["citations"]
    assert (citation["type"], citation["document_index"], citation["document_title"]) == (kind, 1, "Birds")
    assert citation["file_id"] == source.get("file_id")
    assert WORDS in citation["cited_text"]
    if kind == "char_location":
        assert TEXT[citation["start_char_index"] : citation["end_char_index"]] == citation["cited_text"] == WORDS
    elif kind == "page_location":
        assert (citation["start_page_number"], citation["end_page_number"]) == (2, 3)
    else:
        assert (citation["start_block_index"], citation["end_block_index"]) == (1, 2)
    parts = events(desk.ask(*blocks, stream=True))
    deltas = [part["delta"] for part in parts if part["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == REPLY
    assert [delta["citation"] for delta in deltas if delta["type"] == "citations_delta"] == [citation]


def test_search_results_and_documents_of_tools_are_cited(hall: Hall) -> None:
    desk = Desk(hall)
    message = desk.ask(found("Nothing here.", True), found(TEXT, True)).json()
    (citation,) = message["content"][1]["citations"]
    assert citation == {
        "type": "search_result_location",
        "cited_text": TEXT,
        "search_result_index": 1,
        "source": "https://a.example",
        "title": "A",
        "start_block_index": 1,
        "end_block_index": 2,
    }
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    results = [block(encoded(TEXT), True), found("Nothing here.", True)]
    turns = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": results}]},
    ]
    message = desk.ask(messages=turns).json()
    assert message["content"][1]["citations"][0]["document_index"] == 0


def test_without_citations_a_quote_is_plain_text(hall: Hall, said: Said) -> None:
    desk = Desk(hall)
    for cite in (None, False):
        assert desk.ask(block(encoded(TEXT), cite)).json()["content"] == [{"type": "text", "text": REPLY}]
        assert said.asked[-1].prompt[0]["role"] == "user"  # type: ignore[index]
    desk.ask(block(encoded(TEXT), True))
    assert "word for word" in said.asked[-1].prompt[0]["content"]  # type: ignore[index]
    desk.ask(block(encoded(TEXT), True), system="Be brief.")
    assert said.asked[-1].prompt[0]["content"].startswith("Be brief.\n\n")  # type: ignore[index]


@pytest.mark.parametrize(
    ("blocks", "more", "words"),
    [
        ([block(encoded(TEXT), True), block(encoded(TEXT))], {}, "messages.0.content.1.citations: "),
        ([block(encoded(TEXT), True), found(TEXT)], {}, "enable them for all or for none"),
        ([found(TEXT), block(encoded(TEXT), True)], {}, "messages.0.content.0.citations"),
        (
            [block(encoded(TEXT), True)],
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "output_config.format: can't be combined with citations",
        ),
        ([block(encoded(TEXT), citations={"enabled": 1})], {}, "citations.enabled"),
        ([block(encoded(TEXT), citations={"on": True})], {}, "citations.on"),
    ],
)
def test_what_cannot_be_combined(hall: Hall, blocks: list[Any], more: dict[str, Any], words: str) -> None:
    assert words in Desk(hall).refused(*blocks, **more)


def test_a_cited_answer_is_sent_back_as_the_text_that_it_was(hall: Hall, said: Said) -> None:
    desk, question = Desk(hall), body(block(encoded(TEXT), True))["messages"]
    content = desk.ask(block(encoded(TEXT), True)).json()["content"]
    turns = [*question, {"role": "assistant", "content": content}, {"role": "user", "content": "And then?"}]
    assert desk.ask(messages=turns).status_code == 200
    assert said.asked[-1].prompt[2] == {"role": "assistant", "content": REPLY}  # type: ignore[index]


def test_the_policy_screens_documents(tmp_path: Path) -> None:
    config, bad = configuration(policy={"state": "on"}), f"{TEXT} FORBIDDEN"
    said = Said("Yes")
    with open_hall(tmp_path, config, screen=watching("FORBIDDEN"), said=said) as hall:
        desk = Desk(hall)
        for source in (encoded(bad), desk.upload(bad.encode()), encoded(pdf(bad), "application/pdf")):
            assert desk.ask(block(source)).json()["stop_reason"] == "refusal"
        assert said.asked == []
        assert desk.ask(block(encoded(TEXT))).json()["stop_reason"] == "end_turn"


def test_the_next_question_finds_the_document_in_the_cache(tmp_path: Path) -> None:
    """Of the second question's tokens, those up to the end of the first were read already."""
    long = toys.policy_folder(tmp_path / "long", shape=replace(toys.SHAPE, max_positions=8192))
    with open_hall(tmp_path, checkpoints={"policy": long}) as hall:
        desk = Desk(hall)
        source = desk.upload("\n".join(f"{n}. {TEXT}" for n in range(100)).encode())
        first = body(block(source, True) | {"cache_control": {"type": "ephemeral"}}, temperature=0, max_tokens=4)
        assert desk.ask(**first).status_code == 200
        turns = [*first["messages"], {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "Go on"}]
        usage = desk.ask(**first | {"messages": turns}).json()["usage"]
        total = usage["input_tokens"] + usage["cache_read_input_tokens"]
        assert usage["cache_read_input_tokens"] >= 0.95 * total, usage
