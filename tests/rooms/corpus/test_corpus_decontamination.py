"""Planted items of benchmarks are found in documents, whatever surrounds them, and other documents are not hit."""

import json
import os
import random
import unicodedata
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.text.overlap import LEAST, SIZE, Items, texts_of, words
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.plaintext import normal_form

DATA = Path(os.environ.get("CHARTER_DATA", "nowhere"))
FILLER = "Nobody in the harbour had seen such a winter, and the old men said so at every table they sat at. "
QUESTION = "Which gas do green plants take from the air when the sun shines on their leaves in summer?"
ROWS = [
    {"question": QUESTION, "choices": ["Oxygen", "Carbon dioxide", "Helium", "Nitrogen"]},
    {"question": "Who wrote the play that opens on a ship?", "choices": ["He", "She"]},
    {"question": "Capital of Peru?", "choices": ["Lima", "Cusco", "Arequipa", "Trujillo"], "answer": 0},
    {"question": "Two plus two?", "choices": ["4", "5"]},
    {"question": "1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11 + 12 + 13"},
    {"passage": {"title": "A", "parts": ["今天天气很好我们一起去公园散步吧"]}},
]


def write_rows(folder: Path, rows: list[dict]) -> Path:
    path = folder / "quiz.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def disguise(text: str, rng: random.Random) -> str:
    """The same words in another case, with other blanks and marks between them."""
    cased = [rng.choice((word, word.upper(), word.lower())) for word in words(text)]
    return "".join(word + rng.choice((" ", "\n", ", ", "  -- ", "* ")) for word in cased)


@pytest.fixture
def quiz(tmp_path: Path) -> Decontamination:
    return Decontamination([write_rows(tmp_path, ROWS)])


def test_whole_items_are_found_anywhere(quiz: Decontamination, tmp_path: Path) -> None:
    name = f"{tmp_path.name}/quiz.jsonl"
    rng = random.Random(0)
    for text, line in ((QUESTION, 1), (ROWS[1]["question"], 2)):
        for _ in range(5):
            before, after = FILLER * rng.randrange(200), FILLER * rng.randrange(200)
            assert quiz.hits(f"{before}{disguise(text, rng)}. {after}") == {f"{name}:{line}"}
    assert quiz.hits("大家好,今天天气很好我们一起去公园散步吧。") == {f"{name}:6"}


def test_short_texts_of_a_row_are_read_as_one(tmp_path: Path) -> None:
    rows = [{"question": "Capital of Peru in 1990?", "choices": ["Lima", "Cusco", "Arequipa", "Trujillo"]}]
    quiz = Decontamination([write_rows(tmp_path, rows)])
    assert quiz.hits(FILLER + "CAPITAL of Peru, in 1990? Lima / Cusco / Arequipa / Trujillo " + FILLER)
    assert not quiz.hits(FILLER + "the capital of Peru in 1990 was Lima")


def test_what_is_too_short_or_mere_counting_is_told_or_left(quiz: Decontamination, tmp_path: Path) -> None:
    name = f"{tmp_path.name}/quiz.jsonl"
    assert quiz.items == len(ROWS)
    assert quiz.unchecked == {f"{name}:3", f"{name}:4", f"{name}:5"}
    assert quiz.hits("rows 1 2 3 4 5 6 7 8 9 10 11 12 13 14") == set()
    assert quiz.hits(FILLER * 50) == set()


def test_a_run_across_the_edge_of_a_block_is_found(quiz: Decontamination, tmp_path: Path) -> None:
    for length in range(130_900, 131_200, 13):  # twice a block's code points
        assert quiz.hits("x " * (length // 2) + QUESTION + " y" * 70_000)


def test_rows_are_read_in_the_normal_form_of_documents(tmp_path: Path) -> None:
    item = "Où était le café préféré des élèves français à l'été de la dernière année\u2028passée?"
    index = Decontamination([write_rows(tmp_path, [{"question": unicodedata.normalize("NFD", item)}])])
    assert index.hits(normal_form(item))


def test_one_word_less_than_a_run_is_no_hit(quiz: Decontamination) -> None:
    own = words(QUESTION)
    assert quiz.hits(" ".join(own[:SIZE])) and not quiz.hits(" ".join(own[: SIZE - 1]))
    assert len(words(ROWS[1]["question"])) in range(LEAST, SIZE)


def test_folders_are_read_through_and_files_without_rows_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_rows(tmp_path / "deep", ROWS)
    (tmp_path / "README.md").write_text("words")
    about = ("LICENSE.txt", "NOTICE.txt.gz", "README.txt", "licence-of-texts.txt")
    for name in about:
        (tmp_path / "deep" / name).write_text(FILLER)
    (tmp_path / "broken.json").write_text('{"a": 1}')
    index = Decontamination([tmp_path])
    skipped = [str(tmp_path / name) for name in ("broken.json", *(f"deep/{name}" for name in about))]
    assert (index.files, list(index.skipped)) == (1, skipped)
    assert index.hits(QUESTION) == {"deep/quiz.jsonl:1"} and not index.hits(FILLER)
    assert Decontamination([tmp_path / "deep/README.txt"]).hits(FILLER)  # named itself
    with pytest.raises(CharterError, match="list of objects"):
        Decontamination([tmp_path / "broken.json"])
    with pytest.raises(CharterError, match="no text of 8 words"):
        Decontamination([write_rows(tmp_path, [{"a": "short"}])])
    assert Decontamination([]).hits(QUESTION) == set()


def test_it_agrees_with_the_benchmarks_own_check(tmp_path: Path) -> None:
    rng = random.Random(4)
    vocabulary = ["alpha", "beta", "gamma", "delta"]
    rows = [{"text": " ".join(rng.choices(vocabulary, k=rng.randrange(6, 20)))} for _ in range(60)]
    file = write_rows(tmp_path, rows)
    ours, theirs = Decontamination([file]), Items({str(n): row["text"] for n, row in enumerate(rows, 1)})
    for _ in range(60):
        text = " ".join(rng.choices(vocabulary, k=400))
        assert {name.rpartition(":")[2] for name in ours.hits(text)} == theirs.hit_by([text])


@pytest.mark.skipif(not (DATA / "mmlu").is_dir(), reason="needs CHARTER_DATA")
@pytest.mark.parametrize(
    "name", ["mmlu/val.jsonl.gz", "humaneval/HumanEval.jsonl.gz", "ntrex/ntrex128_20langs.jsonl.gz"]
)
def test_real_items_planted_whole_are_all_found(name: str) -> None:
    index = Decontamination([DATA / name])
    for place, texts in list(texts_of(DATA / name))[::29]:
        item = f"{name}:{place.rpartition(':')[2]}"
        if item not in index.unchecked:
            whole = "\n".join(texts)
            assert item in index.hits(FILLER * 9 + whole.upper().replace(",", " ;") + FILLER * 9), item
