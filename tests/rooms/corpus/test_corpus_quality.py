"""Each quality rule drops its target, and keeps ordinary text in many scripts and program text."""

import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.text.overlap import words
from charter.ground.text.shingles import words_and_lengths
from charter.rooms.corpus import quality
from charter.rooms.corpus.quality import problem
from charter.rooms.corpus.settings import Code, Prose, Quality, Repetition

DATA = Path(os.environ.get("CHARTER_DATA", "nowhere"))
STORY = """\
The ferry to the islands leaves at noon, and in winter there is only one of them. Hanna had missed it twice already.
She sat down on her suitcase, counted the coins in her pocket and looked at the grey water, where nothing moved.

"You could wait in the shop," said the man with the dog. "My wife makes coffee, and it costs nothing to sit there."
So they walked up the hill together, past the nets and the boats, and talked about the weather, the price of fish and
whether the new harbour would ever be built. At two o'clock the sun came out, and the whole bay began to shine.
"""
CHINESE = (
    "去岛上的渡船中午开,冬天每天只有一班。小韩已经两次没赶上了。她坐在箱子上,数着口袋里的硬币,望着灰色的海水,"
    "那里什么动静也没有。带着狗的男人说,你可以到店里等,我太太会煮咖啡,坐在那儿不用花钱。于是他们一起走上山坡,"
    "经过渔网和小船,聊着天气、鱼价,还有新码头究竟会不会建成。下午两点太阳出来了,整个海湾都开始发光。"
)
KOREAN = (
    "섬으로 가는 배는 정오에 떠나고 겨울에는 하루에 한 번뿐이다. 한나는 벌써 두 번이나 배를 놓쳤다. 그는 가방 위에 앉아 "
    "주머니 속 동전을 세며 잿빛 바다를 바라보았다. 개를 데리고 온 남자가 가게에서 기다려도 된다고 말했다. 아내가 커피를 "
    "끓이고 앉아 있는 데는 돈이 들지 않는다고 했다. 그래서 둘은 그물과 배를 지나 언덕을 올라가며 날씨와 생선값과 새 항구가 "
    "정말 지어질 것인지를 이야기했다. 두 시가 되자 해가 나왔고 만 전체가 빛나기 시작했다. 그날 저녁 배가 다시 왔다."
)
PROGRAM = '''\
import math


def deviation(values: list[float]) -> float:
    """Standard deviation of a sample; raises ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("needs two values")
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
'''
drawn = random.Random(0)
LETTERS = "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=900))

DROPPED = {
    "short": "Only a line of a few words.",
    "few_letters": STORY + "+---+---+ | ==> " * 100,
    "few_words": STORY + "7 " * 200,
    "unbroken": STORY + LETTERS,
    "word_length": "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3,
    "symbols": STORY + "#abc " * 40,
    "no_common_words": " ".join(drawn.sample([f"{a}{b}o" for a in LETTERS[:30] for b in ("am", "ur", "iz")], 60)),
    "bullets": "".join(f"- {line}\n" for line in STORY.replace(". ", ".\n").splitlines() if line),
    "ellipses": "...\n".join(" ".join(STORY.split()[i : i + 15]) for i in range(0, 120, 15)) + "...",
    "placeholder": STORY + "Lorem ipsum dolor sit amet, consectetur.",
    "boilerplate": STORY + "Skip to main content\nAll rights reserved. Privacy policy\n",
    "repeated_lines": STORY + "\n" + "This line is long enough to count.\n" * 8,
    "repeated_paragraphs": STORY + "\n" + "\n\nOne part of it,\nand more.\n" * 12,
    "repeated_phrase": "Then she said no to the harbour master, who wrote it down, and left for good. "
    + "no harbour " * 40,
    "repeated_runs": " ".join(STORY.split() * 2),
    "broken_characters": STORY + "\ufffd" * 5,
}


@pytest.mark.parametrize("reason", DROPPED)
def test_each_rule_of_prose_drops_what_it_is_for(reason: str) -> None:
    assert problem(DROPPED[reason], "prose", language="en") == reason


@pytest.mark.parametrize("text", [STORY, CHINESE, KOREAN, STORY * 2 + CHINESE])
def test_ordinary_text_passes(text: str) -> None:
    bounds = Quality(
        prose=Prose(
            repetition=Repetition(lines=1, line_characters=1, paragraphs=1, paragraph_characters=1, runs=(1,) * 6)
        )
    )
    assert problem(text, "prose", bounds if text.count(STORY) > 1 else None) is None


def test_repetition_is_seen_in_scripts_without_blanks() -> None:
    assert problem(CHINESE[:60] * 6, "prose") == "repeated_runs"
    assert problem("很好" * 100, "prose") == "repeated_phrase"


def test_the_rule_of_common_words_is_for_english_alone() -> None:
    text = DROPPED["no_common_words"]
    assert problem(text, "prose", language="fi") is None and problem(text, "prose") is None


def test_a_book_is_judged_as_its_pages_are() -> None:
    drawn = random.Random(1)
    vocabulary = [f"{a}{b}" for a in ("ka", "lo", "mi", "ter", "sun", "ral") for b in ("den", "mar", "tis", "vol", "x")]
    scenes = [" ".join(drawn.choices(vocabulary, k=400)) for _ in range(20)]
    book = "\n".join(scenes * 2)  # each scene once more, 8,000 words later
    bounds = Quality(
        prose=Prose(repetition=Repetition(lines=1, line_characters=1, paragraphs=1, paragraph_characters=1))
    )
    assert problem(book, "prose", bounds) is None
    assert problem("\n".join([*scenes[:2], *scenes[:2]]), "prose", bounds) == "repeated_runs"


CODE = {
    "short": "x = 1\n",
    "long_lines": PROGRAM + "DATA = [" + "value, " * 200 + "]\n",
    "symbols": PROGRAM + "# " + ("-" * 78 + "\n# ") * 30,
    "data": PROGRAM + "\n".join(f"    {n * 7919}, {n * 104729}," for n in range(200)),
    "generated": "# Code generated by a tool. DO NOT EDIT.\n" + PROGRAM,
    "repeated_lines": PROGRAM + "    total = total + value\n" * 100,
    "broken_characters": PROGRAM + "\x00\x01\x02",
}


@pytest.mark.parametrize("reason", CODE)
def test_each_rule_of_code_drops_what_it_is_for(reason: str) -> None:
    assert problem(CODE[reason], "code") == reason


def test_program_text_passes_as_code() -> None:
    assert problem(PROGRAM, "code") is None
    assert problem(CODE["generated"], "code", Quality(code=Code(generated=False))) is None


def again_by_tuples(text: str, size: int) -> int:
    own, seen, covered = words(text), set(), set()
    for start in range(len(own) - size + 1):
        run = tuple(own[start : start + size])
        covered.update(range(start, start + size) if run in seen else ())
        seen.add(run)
    return sum(len(own[place]) for place in covered)


def top_by_tuples(text: str, size: int) -> int:
    own = words(text)
    runs = [tuple(own[i : i + size]) for i in range(len(own) - size + 1)]
    most = max(map(runs.count, runs), default=0)
    return most if most > 1 else 0


@given(st.lists(st.sampled_from(["a", "b", "cc", "d"]), max_size=40).map(" ".join), st.integers(2, 6))
def test_repetition_counts_equal_those_by_tuples(text: str, size: int) -> None:
    hashes, lengths = words_and_lengths(text)
    assert lengths.tolist() == list(map(len, words(text)))
    assert quality._count_repeated(hashes, lengths, size) == again_by_tuples(text, size)
    assert quality._count_top(hashes, np.ones_like(lengths), size) == size * top_by_tuples(text, size)


@given(st.text(max_size=300), st.sampled_from(["prose", "code"]))
def test_any_text_has_an_answer(text: str, kind: str) -> None:
    assert problem(text, kind) in {None, *DROPPED, *CODE}
    assert problem(text * 9, kind, language="en") in {None, *DROPPED, *CODE}


@pytest.mark.skipif(not (DATA / "ntrex").is_dir(), reason="needs CHARTER_DATA")
def test_news_in_twenty_languages_is_kept() -> None:
    with gzip.open(DATA / "ntrex" / "ntrex128_20langs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for language in set(rows[0]) - {"row", "doc_id"}:
        problems = [problem("\n".join(r[language] for r in rows[i : i + 20]), "prose") for i in range(0, 1000, 20)]
        assert sum(map(bool, problems)) <= 2, (language, problems)


def test_a_huge_document_is_judged_by_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_MOST", len(STORY))
    assert problem(STORY + "\ufffd" * 5000, "prose") is None
    assert problem("\ufffd" * 5000 + STORY, "prose") == "broken_characters"
