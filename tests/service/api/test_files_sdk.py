"""Anthropic's own client, as it is published: it uploads a file, asks about it, and reads citations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lobby import MODEL, Hall, Said, open_hall

anthropic = pytest.importorskip("anthropic", minversion="2", reason="anthropic's client of 2026 is not installed")

TEXT = "The heron stands in the shallow water and waits."
REPLY = 'It "stands in the shallow water", they say.'


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), said=Said(*REPLY.partition("shallow"))) as hall:
        yield hall


@pytest.fixture
def client(hall: Hall) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=hall.url, api_key=hall.key(), max_retries=0, timeout=30.0) as ours:
        yield ours


def request_about(id: str) -> dict[str, Any]:
    document = {
        "type": "document",
        "source": {"type": "file", "file_id": id},
        "title": "Birds",
        "citations": {"enabled": True},
    }
    turn = {"role": "user", "content": [document, {"type": "text", "text": "What does it do?"}]}
    return {"model": MODEL, "max_tokens": 40, "messages": [turn], "betas": ["files-api-2025-04-14"]}


def test_a_file_is_uploaded_cited_listed_and_deleted(client: Any, tmp_path: Path) -> None:
    (tmp_path / "birds.txt").write_text(TEXT)
    file = client.beta.files.upload(file=tmp_path / "birds.txt")
    assert (file.filename, file.mime_type, file.size_bytes, file.type) == ("birds.txt", "text/plain", 48, "file")
    assert file.downloadable is False and file.created_at.year >= 2026
    message = client.beta.messages.create(**request_about(file.id))
    (citation,) = message.content[1].citations
    assert (citation.type, citation.cited_text, citation.document_title) == (
        "char_location",
        "stands in the shallow water",
        "Birds",
    )
    assert TEXT[citation.start_char_index : citation.end_char_index] == citation.cited_text
    with client.beta.messages.stream(**request_about(file.id)) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert "citation" in kinds
    assert [part.text for part in final.content] == [part.text for part in message.content]
    assert final.content[1].citations == message.content[1].citations
    assert "".join(part.text for part in final.content) == REPLY
    again = client.beta.messages.create(
        **request_about(file.id)
        | {
            "messages": [
                *request_about(file.id)["messages"],
                {"role": "assistant", "content": [part.to_dict() for part in message.content]},
                {"role": "user", "content": "And then?"},
            ]
        }
    )
    assert again.content[1].citations == message.content[1].citations
    assert client.beta.files.retrieve_metadata(file.id) == file
    with pytest.raises(anthropic.BadRequestError, match="not downloadable"):
        client.beta.files.download(file.id)
    assert client.beta.files.delete(file.id).id == file.id
    with pytest.raises(anthropic.NotFoundError, match="there is no file"):
        client.beta.files.retrieve_metadata(file.id)
    with pytest.raises(anthropic.NotFoundError, match="there is no file"):
        client.beta.messages.create(**request_about(file.id))


def test_lists_page_by_themselves(client: Any) -> None:
    ids = [client.beta.files.upload(file=(f"{n}.txt", b"x", "text/plain")).id for n in range(5)][::-1]
    assert [file.id for file in client.beta.files.list(limit=2)] == ids
    assert [file.id for file in client.beta.files.list(ids=ids[:2])] == ids[:2]
    for id in ids:
        client.beta.files.delete(id)


def test_the_asynchronous_client(hall: Hall) -> None:
    async def ask() -> Any:
        async with anthropic.AsyncAnthropic(base_url=hall.url, api_key=hall.key(), max_retries=0) as ours:
            file = await ours.beta.files.upload(file=("a.txt", TEXT.encode()), expires_in_seconds=3600)
            assert file.expires_at is not None
            return await ours.beta.messages.create(**request_about(file.id))

    assert asyncio.run(ask()).content[1].citations[0].file_id.startswith("file_")


def test_refusals_are_its_errors(client: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="the file is empty"):
        client.beta.files.upload(file=("a.txt", b""))
    with pytest.raises(anthropic.APIStatusError, match="over 10 MiB") as caught:
        client.beta.files.upload(file=("a.txt", b"x" * (10 * 2**20 + 1)))
    assert caught.value.status_code == 413
