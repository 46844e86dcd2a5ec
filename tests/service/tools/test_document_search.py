"""Search over a folder: the right passage first, changes followed, nothing from outside the folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.documents.document import Document
from charter_service.tools import document_index
from charter_service.tools.document_index import PASSAGE, DocumentIndex, DocumentSearch, cut
from charter_service.tools.tool import ANYWHERE, ToolFailure


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(document_index, "AGAIN_SECONDS", 0.0)
    place = tmp_path / "papers"
    (place / "deep").mkdir(parents=True)
    (place / "tower.txt").write_text("The tower of Brunn is 74 metres tall.")
    (place / "deep" / "bread.md").write_text("# Bread\n\nBake the loaves for forty minutes at 220 degrees.")
    return place


def open_index(folder: Path) -> DocumentIndex:
    return DocumentIndex(folder, folder.parent / "index.sqlite")


def names(index: DocumentIndex, query: str) -> list[str]:
    return [passage.file for passage in index.search(query, 5)]


def test_the_best_passage_comes_first(folder: Path) -> None:
    index = open_index(folder)
    first, *_ = index.search("how long do I bake a loaf at 220 degrees?", 5)
    assert first.file == "deep/bread.md"
    assert "forty minutes" in first.text
    assert first.score > 0
    assert names(index, "loaves_and_minutes") == ["deep/bread.md"]
    assert names(index, "nothing matches zebra") == []
    answer = DocumentSearch(index, 1).run({"query": "tower"}, ANYWHERE)
    assert answer == [
        {"type": "document_search_result", "file": "tower.txt", "page": None, "text": answer[0]["text"]}
        | {"score": answer[0]["score"]}
    ]


def test_the_index_follows_the_folder(folder: Path) -> None:
    index = open_index(folder)
    assert names(index, "tower") == ["tower.txt"]
    (folder / "tower.txt").write_text("There is nothing about buildings now, but about zebras.")
    (folder / "new.txt").write_text("Another tower")
    (folder / "deep" / "bread.md").unlink()
    assert names(index, "tower") == ["new.txt", "tower.txt"]  # its name still says so
    assert names(index, "zebras") == ["tower.txt"]
    assert names(index, "bread") == []
    again = open_index(folder)  # after a restart, from the same file
    assert names(again, "zebras") == ["tower.txt"]


def test_unchanged_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = open_index(folder)
    index.follow()
    monkeypatch.setattr(document_index, "read_bytes", lambda *_: pytest.fail("a file was read again"))
    index.follow()


def test_what_can_not_be_read_is_left_out_and_told(folder: Path) -> None:
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0tower")
    (folder / "empty.txt").write_text("")
    index = open_index(folder)
    assert names(index, "tower") == ["tower.txt"]
    assert set(index.unread()) == {"picture.png", "empty.txt"}


def test_nothing_outside_the_folder_is_read(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("canary tower")
    (folder / "link.txt").symlink_to(secret / "key.txt")
    (folder / "linked").symlink_to(secret)
    (folder / ".hidden.txt").write_text("canary")
    os.mkfifo(folder / "pipe.txt")
    index = open_index(folder)
    assert names(index, "canary") == []
    assert index.unread() == {}


def test_a_file_that_becomes_a_link_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = folder.parent / "key.txt"
    secret.write_text("canary")
    files = list(document_index._files(folder.resolve()))
    (folder / "tower.txt").unlink()
    (folder / "tower.txt").symlink_to(secret)
    (folder / "deep" / "bread.md").unlink()
    (folder / "deep").rmdir()
    (folder / "deep").symlink_to(folder.parent)
    monkeypatch.setattr(document_index, "_files", lambda _: iter(files))
    index = open_index(folder)
    assert names(index, "canary") == []
    assert set(index.unread()) == {"tower.txt", "deep/bread.md"}


@pytest.mark.parametrize(
    "query",
    ['"', "NEAR(", "a AND OR", "text:tower", "-tower", "tower*", "^tower", "'; DROP TABLE files; --", "\ud800 tower"],
)
def test_a_query_is_words_and_no_language(folder: Path, query: str) -> None:
    tool = DocumentSearch(open_index(folder), 3)
    try:
        files = [one["file"] for one in tool.run({"query": query}, ANYWHERE)]
    except ToolFailure as failure:
        assert failure.code == "invalid_tool_input"
    else:
        assert files == (["tower.txt"] if "tower" in query else [])
    assert names(tool.index, "tower") == ["tower.txt"]


def test_many_search_while_one_reads(folder: Path) -> None:
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"page {number} about the tower\n" * 50)
    index, counts = open_index(folder), list[int]()
    index.follow()
    threads = [threading.Thread(target=lambda: counts.append(len(index.search("tower page", 5)))) for _ in range(8)]
    (folder / "0.txt").write_text("tower " * 1000)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [5] * 8


def test_passages_hold_the_whole_text_and_know_their_page() -> None:
    words = " ".join(f"word{n}." for n in range(2000))
    document = Document("a.pdf", "pdf", 1, "", f"{words}\n\n{words}", (0, len(words) + 2))
    passages = list(cut(document))
    assert " ".join(text for text, _ in passages).split() == [*words.split(), *words.split()]
    assert max(len(text) for text, _ in passages) <= PASSAGE
    assert {page for _, page in passages} == {1, 2}
    assert {text for text, _ in cut(Document("a", "text", 1, "", "x" * 10 * PASSAGE))} == {"x" * PASSAGE}


def test_wrong_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="is not a folder"):
        DocumentIndex(tmp_path / "no", tmp_path / "i.sqlite")
    with pytest.raises(CharterError, match="put it elsewhere"):
        DocumentIndex(tmp_path, tmp_path / "i.sqlite")
    folder, text = tmp_path / "a", tmp_path / "b.txt"
    folder.mkdir()
    text.write_text("no database " * 1000)
    with pytest.raises(CharterError, match="can't be used"):
        DocumentIndex(folder, text)
