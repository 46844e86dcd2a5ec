"""Manifests of text sources: their files, their digest, and one line for each error."""

import re
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.settings import texts
from charter.ground.settings.recognise import kind_of_file
from charter.ground.settings.room import Role
from charter.ground.settings.sources import resolve
from charter.ground.settings.texts import (
    DateField,
    TextSource,
    digest_sources,
    form_of,
    list_files,
    plain_source,
    read_sources,
)


def manifest(folder: Path, text: str) -> Path:
    path = folder / "sources.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.md", "deep/er/c.rst.gz", "deep/d.py", "e.jsonl.zst", "picture.png", ".git/x.txt"):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(**properties: object) -> list[str]:
    folder = properties.pop("folder")
    assert isinstance(folder, Path)
    listing = list_files(TextSource.model_validate({"name": "s", "from": "raw", **properties}), folder)
    return [file.name for file in listing.files]


def test_which_files_are_taken(folder: Path) -> None:
    assert names(folder=folder) == ["a.txt", "b.md", "deep/er/c.rst.gz", "e.jsonl.zst"]
    assert names(folder=folder, kind="code") == ["a.txt", "b.md", "deep/d.py", "deep/er/c.rst.gz", "e.jsonl.zst"]
    assert names(folder=folder, files=["*.txt"]) == ["a.txt"]
    assert names(folder=folder, files=["deep/*"]) == ["deep/d.py"]
    assert names(folder=folder, files=["deep/**"]) == ["deep/d.py", "deep/er/c.rst.gz"]
    assert names(folder=folder, files=["**/*.??"]) == ["b.md", "deep/d.py", "deep/er/c.rst.gz"]
    assert names(folder=folder, leave_out=["deep/**", "b.*"]) == ["a.txt", "e.jsonl.zst"]
    assert names(folder=folder, **{"from": "raw/picture.png"}) == ["picture.png"]
    assert list_files(TextSource(name="s", at="raw"), folder).unread == 2


def test_what_is_passed_over_is_known_by_its_ending(folder: Path) -> None:
    for name in ("Makefile", "deep/x.PY.gz", "left.bin"):
        (folder / "raw" / name).write_bytes(b"x")

    def others(**properties: object) -> dict[str, int]:
        source = TextSource.model_validate({"name": "s", "from": "raw", "leave_out": ["*.bin"], **properties})
        return dict(list_files(source, folder).passed_over)

    assert others() == {".py": 2, ".png": 1, "": 1}
    assert others(kind="code") == {".png": 1, "": 1}
    assert others(files=["*.txt"]) == {}


def test_linked_folders_are_counted_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "f.txt").write_text("far")
    (folder / "raw" / "near").symlink_to(tmp_path / "far")
    listing = list_files(TextSource(name="s", at="raw"), folder)
    assert listing.linked == 1 and "near/f.txt" not in [file.name for file in listing.files]


def test_of_a_set_on_the_hub_only_what_is_fetched_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache may hold a whole set, and another machine's only a part: both read the same files."""
    for name in ("a.jsonl", "data/b.parquet", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(texts, "pin", lambda ref, kind: ref)
    monkeypatch.setattr(texts, "fetch", lambda ref: tmp_path)
    listing = list_files(TextSource(name="s", at="hf:own/set@" + "0" * 40), tmp_path)
    assert [file.name for file in listing.files] == ["a.jsonl"]


def test_the_page_lists_every_ending() -> None:
    page = (Path(__file__).parents[3] / "docs/howto/corpus.md").read_text()
    rows = [set(re.findall(r"`(\.\w+)`", line)) for line in page.splitlines() if line.startswith("| ")]
    assert {*texts.PROSE, *texts.PAGES, ".jsonl", ".parquet"} in rows and {*texts.CODE} in rows


def test_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = names(folder=tmp_path, **{"from": "python:", "kind": "code", "files": ["json/*.py"]})
    assert "json/decoder.py" in files and len(files) == len({*files})
    files = names(folder=tmp_path, **{"from": "package:pydantic", "kind": "code"})
    assert "pydantic/main.py" in files
    monkeypatch.setattr(texts, "INSTALLED", tmp_path)
    doc = tmp_path / "doc.txt"
    doc.write_text("x")
    (tmp_path / "some-doc:amd64.list").write_text(f"/.\n/usr/share/doc\n{doc}\n/usr/share/none.txt\n")
    with pytest.raises(CharterError, match=r"of 0 files at debian:some-\* none matches"):
        names(folder=tmp_path, **{"from": "debian:some-*"})
    for place, said in (
        ("debian:other", "no Debian package 'other' is installed"),
        ("package:no-such-thing", "package 'no-such-thing' is not installed"),
        ("python:json", "write python: alone"),
    ):
        with pytest.raises(CharterError, match=said):
            names(folder=tmp_path, **{"from": place})


def test_the_digest_covers_every_named_byte(folder: Path) -> None:
    text = "sources:\n  - {name: s, from: raw, files: ['*.txt', '**/*.py']}\n"
    path = manifest(folder, text)
    first = digest_sources(path)
    (folder / "raw/picture.png").write_bytes(b"not named")
    assert digest_sources(path) == first
    (folder / "raw/deep/d.py").write_bytes(b"other")
    second = digest_sources(path)
    (folder / "raw/f.txt").write_bytes(b"new")
    third = digest_sources(path)
    manifest(folder, text + "# a comment\n")
    assert len({first, second, third, digest_sources(path)}) == 4


def test_a_manifest_is_a_source_of_a_recipe(folder: Path) -> None:
    path = manifest(folder, "sources: [{name: s, from: raw}]\n")
    source = resolve(str(path))
    assert source.kind == kind_of_file(path) == "sources" and source.digest == digest_sources(path)
    role = Role("sources", many=True)
    assert role.accepts(source.kind, None) and role.accepts(resolve(str(folder / "raw/a.txt")).kind, None)
    assert not Role("questions").accepts("sources", None) and not Role("dialogues").accepts("sources", None)
    (folder / "texts/deep").mkdir(parents=True)
    (folder / "texts/deep/a.md").write_text("text")
    assert resolve(str(folder / "texts")).kind == "texts"
    assert role.accepts("texts", None) and not Role("dialogues").accepts("texts", None)
    assert kind_of_file(manifest(folder, "name: x\n")) == "constitution"
    slip = manifest(folder, "source: [{name: s, from: raw}]\n")
    assert kind_of_file(slip) == "sources"
    with pytest.raises(CharterError, match="unknown key source; did you mean sources"):
        resolve(str(slip))


def test_what_a_manifest_says(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "sources:\n  - {name: a, from: x, date: 2023}\n  - {name: b, from: x, date: 2023-05-17, weight: 0.5}\n"
        "  - {name: c, from: x, date: {field: published}}\n",
    )
    a, b, c = read_sources(path)
    codes = {"en": "en", "yue": "yue", "pt-BR": "pt", "zh-Hant": "zh", "code": "code", "detect": "detect"}
    assert {code: TextSource(name="a", at="x", language=code).language for code in codes} == codes
    assert (a.date, b.date, c.date) == ("2023", "2023-05-17", DateField(field="published"))
    for text, said in (
        ("sources: []", "1 or more entries"),
        ("sources: [{name: a}]", "from"),
        ("sources: [{name: a b, from: x}]", "name"),
        ("sources: [{name: a, from: x}, {name: a, from: y}]", "two text sources are called a"),
        ("sources: [{name: a, from: x, kind: song}]", "kind"),
        ("sources: [{name: a, from: x, licenec: MIT}]", "licence"),
        ("source: 3", "sources"),
        ("sources: [{name: a, from: x, language: english}]", r"0.language: must be an ISO code .*given 'english'"),
        ("sources: [{name: a, from: x, language: EN}]", "must be an ISO code"),
        ("sources: [{name: a, from: x, date: someday}]", r"0.date: must be a year, .*given 'someday'"),
        ("sources: [{name: a, from: x, date: 2023-13}]", "must be a year"),
        ("sources: [{name: a, from: x, date: }]", "must be a year"),
        ("sources: [{name: a, from: x, date: {feld: created}}]", "feld; did you mean sources.date.field"),
    ):
        with pytest.raises(CharterError, match=said):
            read_sources(manifest(tmp_path, text))
    with pytest.raises(CharterError, match=r"text source a: there is no file or folder .*nowhere"):
        list_files(TextSource(name="a", at="nowhere"), tmp_path)


def test_sources_without_a_manifest() -> None:
    expected = {
        "data:pretrain": "pretrain",
        "data:pretrain/python_peps.jsonl.gz": "python_peps",
        "./my texts/": "my-texts",
        "hf:own/set@main#data/part.jsonl": "part",
        "hf:own/set@main": "set",
    }
    assert {ref: plain_source(Path("/x"), ref).name for ref in expected} == expected
    forms = {name: form_of(name) for name in ("a.jsonl.gz", "a.parquet", "a.html.zst", "a.py", "README")}
    assert list(forms.values()) == ["rows", "parquet", "page", "text", "text"]
    assert [form_of(name) for name in ("A.JSONL.GZ", "A.Parquet", "INDEX.HTM")] == ["rows", "parquet", "page"]


def test_an_optional_source_that_is_not_there_is_left_out_and_says_why(tmp_path: Path) -> None:
    manifest = tmp_path / "sources.yaml"
    words = "sources:\n- {name: a, from: ./a.txt}\n- {name: b, from: ./b.txt, optional: true}\n"
    manifest.write_text(words, "utf-8")
    (tmp_path / "a.txt").write_text("a", "utf-8")
    first = digest_sources(manifest)
    listing = list_files(read_sources(manifest)[1], tmp_path)
    assert listing.files == () and "there is no file or folder" in listing.missing
    (tmp_path / "b.txt").write_text("b", "utf-8")
    assert list_files(read_sources(manifest)[1], tmp_path).missing == ""
    assert digest_sources(manifest) != first
