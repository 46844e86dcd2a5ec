"""What ships: enough of each set, held out for real, varied in its first words, readable by the readers."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from charter.ground.constitution.constitution import PAPER_COUNT, load, shipped_constitution
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.answers import occurs
from charter.ground.text.columns import raw_rows
from charter.ground.text.examples import PrincipleRow, principle_row, read_shots, read_transcripts, read_triples
from charter.ground.text.free_questions import read_facts
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.parsing import format_transcript, parse_transcript
from charter.ground.text.records import read_comparisons, read_dialogues, read_texts
from charter.rooms.debias.templates import read_templates
from charter.rooms.evaluate.catalogue import SUITES, TASKS
from charter.rooms.evaluate.reading import TEST as TEST_SPLIT
from charter.rooms.evaluate.reading import read_split
from charter.rooms.evaluate.topic_set import parse as parse_topics

Row = Mapping[str, Any]

# what the battery asks has the columns of its public sets: tests/rooms/evaluate/test_shipped_sets.py looks at it
SUITES_ASKED = ("battery", "exams", "written")
ASKED_ROLES = {TASKS[name].data_role for suite in SUITES_ASKED for name in SUITES[suite]}
BATTERY = {f"{role}.heldout" for role in ASKED_ROLES} | {
    "mmlu_thoughts",
    "mmlu_thoughts.train",
    "truthfulqa_mappings.heldout",
}
# tests/rooms/evaluate/test_honesty.py, tests/rooms/honesty and tests/ground/text/test_invented.py look at these
HONESTY = {f"{TASKS[name].data_role}.heldout" for name in SUITES["honesty"]}
HONESTY |= {"facts.train", "declines.train", "world.train", "world.heldout"}
# one wording of a principle a row, without an id: tests/rooms/principles looks at it
WORDINGS = {"principle_wordings.train"}
ELSEWHERE = BATTERY | HONESTY | WORDINGS
FILES = sorted(path for path in shipped_folder().glob("*.jsonl") if path.name.removesuffix(".jsonl") not in ELSEWHERE)
# replies and texts rather than prompts: nothing is asked of a model with them
WITHOUT_PROMPTS = {"detectors.heldout", "detectors.train", "text.heldout", "debias.train", "even_handedness.heldout"}
NEAR = 0.5
SAME_START, FIRST_WORDS = 3, 5


def name(path: Path) -> str:
    return path.name.removesuffix(".jsonl")


WITH_PROMPTS = [path for path in FILES if name(path) not in WITHOUT_PROMPTS]
# Ends of the names of files that no training step may see: settings are chosen on `dev`, `test` is for the last look.
KEPT_OUT = ("heldout", "dev", "test")
DEVELOPMENT, TEST = (sorted(p for p in WITH_PROMPTS if name(p).endswith(f".{end}")) for end in ("dev", "test"))
HELD_OUT = [path for path in WITH_PROMPTS if name(path).endswith(KEPT_OUT)]
TRAINING = [path for path in WITH_PROMPTS if path not in HELD_OUT]
OUTSIDE = Path(os.environ.get("CHARTER_DATA", "nowhere"))


def rows(file: str) -> list[Row]:
    return read_jsonl(shipped_folder() / f"{file}.jsonl")


def answered(row: Row) -> bool:
    return row["messages"][-1]["role"] == "assistant" and bool(row["messages"][-1]["content"].strip())


def prompt(row: Row) -> str:
    """What is asked last: the turn that a reply answers; of a jailbreak its plain request."""
    if "request" in row or "prompt" in row:
        return str(row.get("request", row.get("prompt")))
    return str(next(m["content"] for m in reversed(row["messages"]) if m["role"] == "user"))


def replies(row: Row) -> list[str]:
    """All that an assistant says in a row: answers, pairs, drafts and what became of them; not in a jailbreak."""
    if "request" in row:
        return []
    said = [m["content"] for m in row.get("messages", []) if m["role"] == "assistant"]
    said += [row[key] for key in ("chosen", "rejected", "harmful", "good", "draft", "first", "second") if key in row]
    said += row.get("replies", [])
    return said + [made["revision"] for made in row.get("rounds", [])]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", ""))


def grams(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False) if len(found) > 2 else [tuple(found)])


def prompts_of(paths: Iterable[Path]) -> list[tuple[str, str, str]]:
    """(file, id, prompt) of each row."""
    return [(name(path), row["id"], prompt(row)) for path in paths for row in read_jsonl(path)]


def near_duplicates(
    asked: Iterable[tuple[str, str, str]], others: Iterable[tuple[str, str, str]]
) -> list[tuple[str, str, str, str]]:
    """(file, id, other file, other id) of pairs that share half of their word 3-grams; pairs that share none are never
    compared, which changes nothing."""
    held = [(file, id, grams(text)) for file, id, text in asked]
    holders: dict[tuple[str, ...], list[int]] = {}
    for number, (_, _, own) in enumerate(held):
        for gram in own:
            holders.setdefault(gram, []).append(number)
    near = []
    for file, id, text in others:
        own = grams(text)
        shared = Counter(number for gram in own for number in holders.get(gram, ()))
        for number, count in shared.items():
            if count / len(own | held[number][2]) >= NEAR:
                near.append((held[number][0], held[number][1], file, id))
    return near


def topics(found: Iterable[Row]) -> set[str]:
    return {row["topic"] for row in found}


def test_the_constitution_has_the_papers_numbers_and_names_evasion_and_preachiness() -> None:
    constitution = load(shipped_folder() / "constitution.yaml")
    assert constitution == shipped_constitution()
    assert len(constitution.critiques) >= PAPER_COUNT and len(constitution.comparisons) >= PAPER_COUNT
    assert all(p.critique.strip() and p.revision.strip() for p in constitution.critiques)
    for principles in (constitution.critiques, constitution.comparisons):
        tags = {tag for p in principles for tag in p.tags}
        assert {"evasion", "preachiness"} <= tags


@pytest.mark.parametrize(
    ("file", "least", "with_answer"),
    [
        ("red_team.train", 240, False),
        ("helpful.train", 240, True),
        ("everyday.train", 300, False),
        ("lookalikes.train", 120, True),
        ("refusals.train", 120, True),
        ("critiques.train", 40, False),
        ("comparisons.train", 150, False),
        ("ratings.train", 120, True),
        ("red_team.heldout", 60, False),
        ("requests.heldout", 428, False),
        ("topics.heldout", 360, False),
        ("helpful.heldout", 60, False),
        ("lookalikes.heldout", 200, False),
        ("hhh.heldout", 80, False),
        ("fitness.heldout", 60, False),
        ("unsafe.dev", 60, False),
        ("unsafe.test", 100, False),
        ("lookalikes.dev", 80, False),
        ("lookalikes.test", 150, False),
        ("howto.dev", 60, False),
        ("howto.test", 150, False),
    ],
)
def test_each_set_is_large_enough(file: str, least: int, with_answer: bool) -> None:
    found = rows(file)
    assert len({prompt(row) for row in found}) >= least
    if with_answer:
        assert sum(answered(row) for row in found) >= least


def test_held_out_attacks_have_exactly_four_topics_that_no_training_file_has() -> None:
    trained = topics(row for path in TRAINING for row in read_jsonl(path) if "topic" in row)
    held_out = rows("red_team.heldout")
    fresh = topics(held_out) - trained
    assert len(fresh) == 4
    assert {row["topic"] for row in held_out if row["unseen"]} == fresh
    assert topics(held_out) & trained, "seen topics are held out too, or nothing can be compared"


def test_held_out_lookalikes_have_two_kinds_unseen_in_training() -> None:
    held_out = rows("lookalikes.heldout")
    fresh = topics(held_out) - topics(rows("lookalikes.train"))
    assert len(fresh) == 2
    assert {row["topic"] for row in held_out if row["unseen"]} == fresh


def test_every_axis_is_held_out() -> None:
    counts = Counter(row["axis"] for row in rows("hhh.heldout"))
    assert {"helpful", "honest", "harmless"} <= counts.keys() and min(counts.values()) >= 10


@pytest.mark.parametrize("path", WITH_PROMPTS, ids=name)
def test_few_prompts_of_a_file_begin_alike(path: Path) -> None:
    """A prompt that is asked under two opposing principles is one."""
    starts = Counter(" ".join(words(text)[:FIRST_WORDS]) for text in {prompt(row) for row in read_jsonl(path)})
    assert {start: n for start, n in starts.items() if n > SAME_START} == {}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_few_replies_of_a_file_begin_alike(path: Path) -> None:
    """The fixed reply is meant to recur; where a row's revision keeps the opening of its draft, that is one. Stock
    refusals are short forms of one sentence."""
    if path.name == "stock_refusals.train.jsonl":
        pytest.skip("stock refusals begin alike")
    starts = Counter(
        start
        for row in read_jsonl(path)
        for start in {
            " ".join(words(reply)[:FIRST_WORDS]) for reply in replies(row) if reply.rstrip(".") != FIXED_REPLY
        }
    )
    assert {start: n for start, n in starts.items() if n > SAME_START} == {}


def test_no_held_out_prompt_stands_in_training() -> None:
    trained = {tuple(words(prompt(row))): name(path) for path in TRAINING for row in read_jsonl(path)}
    found = [
        (row["id"], name(path), trained[key])
        for path in HELD_OUT
        for row in read_jsonl(path)
        if (key := tuple(words(prompt(row)))) in trained
    ]
    assert found == []


def test_no_held_out_prompt_is_a_near_duplicate_of_a_training_prompt() -> None:
    assert near_duplicates(prompts_of(TRAINING), prompts_of(HELD_OUT)) == []


def test_development_test_and_other_held_out_prompts_have_no_near_duplicates_of_each_other() -> None:
    older = [path for path in HELD_OUT if path not in DEVELOPMENT + TEST]
    assert near_duplicates(prompts_of(DEVELOPMENT), prompts_of(TEST)) == []
    assert near_duplicates(prompts_of(DEVELOPMENT + TEST), prompts_of(older)) == []


def test_new_held_out_prompts_are_no_questions_of_the_battery() -> None:
    there = [path for path in shipped_folder().glob("*.jsonl") if name(path) in BATTERY]
    assert len(there) >= 10
    asked = [(name(f), str(n), text) for f in there for n, text in enumerate(_texts(read_jsonl(f)))]
    assert near_duplicates(prompts_of(DEVELOPMENT + TEST), asked) == []


def _texts(value: object) -> Iterator[str]:
    """All texts in a row, or in many; of transcripts each turn."""
    if isinstance(value, str):
        yield from re.split(r"\n\n(?:Human|Assistant):", value)
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


@pytest.mark.skipif(not (OUTSIDE / "hh_rlhf").is_dir(), reason="needs CHARTER_DATA with public sets of prompts")
@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz", ".csv", ".txt"])
def test_new_held_out_prompts_are_in_no_public_set(end: str) -> None:
    """But for ordinary work, which holds the short questions that anyone asks."""
    own = prompts_of(path for path in DEVELOPMENT + TEST if not name(path).startswith("ordinary_work."))
    files = [p for p in sorted(OUTSIDE.glob(f"*/*{end}")) if p.parent.name not in ("pretrain", "long_output")]
    assert files
    rows_of = ((f.name, place, text) for f in files for place, row in raw_rows(f) for text in _texts(row))
    asked = {text: (file, place, text) for file, place, text in rows_of if len(text) < 600}
    assert near_duplicates(own, asked.values()) == []


def test_the_requests_repeat_no_other_held_out_prompt_and_each_other() -> None:
    own = prompts_of(path for path in HELD_OUT if name(path) == "requests.heldout")
    assert near_duplicates(own, prompts_of(p for p in HELD_OUT if name(p) != "requests.heldout")) == []
    assert [(a, b) for _, a, _, b in near_duplicates(own, own) if a != b] == []


def test_near_duplicates_would_be_found() -> None:
    first = ("new", "a", "How do I get past the tags at the clothing store without an alarm?")
    second = ("old", "b", "How do I get past the tags at the clothing store without alarm")
    third = ("old", "c", "Who painted the water lilies?")
    assert near_duplicates([first], [second, third]) == [("new", "a", "old", "b")]


def test_prompts_kept_out_say_whether_training_has_their_topic() -> None:
    trained = topics(row for path in TRAINING for row in read_jsonl(path) if "topic" in row)
    for file in ("unsafe.dev", "unsafe.test", "lookalikes.dev", "lookalikes.test"):
        wrong = [row["id"] for row in rows(file) if row["unseen"] is not (row["topic"] not in trained)]
        assert wrong == [], file
        assert 5 <= sum(row["unseen"] for row in rows(file)) < len(rows(file)) / 2


def test_no_required_fact_is_told_by_its_own_question() -> None:
    """An echo of the question must earn nothing."""
    for file in ("howto.dev", "howto.test"):
        told = [r["id"] for r in rows(file) if any(occurs(a, prompt(r)) for fact in r["facts"] for a in fact)]
        assert told == [], file
        assert all(1 <= len(row["facts"]) <= 4 for row in rows(file))


def test_ids_are_unique_over_all_files() -> None:
    ids = Counter(row["id"] for path in FILES for row in read_jsonl(path))
    assert [id for id, n in ids.items() if n > 1] == []


def read_principles(path: Path) -> list[PrincipleRow]:
    return [principle_row(row) for row in read_jsonl(path)]


READERS = {
    "red_team.train": read_dialogues,
    "red_team.heldout": read_dialogues,
    "requests.heldout": read_dialogues,
    "helpful.train": read_dialogues,
    "helpful.heldout": read_dialogues,
    "lookalikes.train": read_dialogues,
    "lookalikes.heldout": read_dialogues,
    "refusals.train": read_dialogues,
    "twins.train": read_dialogues,
    "stock_refusals.train": read_dialogues,
    "comparisons.train": read_comparisons,
    "hhh.heldout": read_comparisons,
    "critiques.train": read_transcripts,
    "critique_shots": read_transcripts,
    "comparison_shots": read_shots,
    "unsafe.train": read_dialogues,
    "twins_unanswered.train": read_dialogues,
    "everyday.train": read_dialogues,
    "ratings.train": read_dialogues,
    "acceptable_use.train": read_dialogues,
    "fitness.heldout": read_triples,
    "detectors.heldout": read_texts,
    "detectors.train": read_texts,
    "text.heldout": read_texts,
    "debias.train": read_templates,
    "even_handedness.heldout": lambda path: list(raw_rows(path)),
    "hhh_prompt": read_dialogues,
    "plain_example": read_dialogues,
    "unsafe.dev": read_dialogues,
    "unsafe.test": read_dialogues,
    **{f"lookalikes.{split}": read_dialogues for split in ("dev", "test")},
    "topics.heldout": read_dialogues,
    "topic_scripts.heldout": lambda path: read_split(path, TEST_SPLIT, parse_topics),
    **{f"ordinary_work.{split}": read_dialogues for split in ("train", "dev", "test")},
    "howto.dev": lambda path: read_facts([path]),
    "howto.test": lambda path: read_facts([path]),
    **{f"principles.{split}": read_principles for split in ("train", "dev", "test")},
}


def test_every_shipped_file_has_a_reader() -> None:
    assert set(READERS) == set(map(name, FILES))


@pytest.mark.parametrize("file", READERS)
def test_everything_reads_through_the_readers(file: str) -> None:
    found = READERS[file](shipped_folder() / f"{file}.jsonl")
    assert len(found) == len(rows(file)), "a reader left rows out"


def test_every_key_is_one_of_the_constitution() -> None:
    for file in ("critiques.train", "critique_shots"):
        for row in rows(file):
            for made in row["rounds"]:
                shipped_constitution().critique(made["key"])
    for row in rows("comparison_shots"):
        shipped_constitution().comparison(row["key"])


def test_training_pairs_differ_and_prompts_wait_for_an_answer() -> None:
    for file in ("comparisons.train", "hhh.heldout"):
        for row in rows(file):
            assert words(row["chosen"]) != words(row["rejected"]), row["id"]
    waiting = ("red_team.train", "red_team.heldout", "lookalikes.heldout", *map(name, DEVELOPMENT + TEST))
    for file, wanted in product([file for file in waiting if not file.startswith("principles.")], ["user"]):
        assert {row["messages"][-1]["role"] for row in rows(file)} == {wanted}


def test_the_hhh_prompt_has_14_conversations_and_the_plain_model_one_example() -> None:
    for file, count in (("hhh_prompt", 14), ("plain_example", 1)):
        found = read_dialogues(shipped_folder() / f"{file}.jsonl")
        assert len(found) == count
        for dialogue in found:
            roles = [message["role"] for message in dialogue.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2), dialogue.id
            text = format_transcript(dialogue.messages)
            assert parse_transcript(text) == dialogue.messages, "plain text tells the turns apart"
            assert "-----" not in text, "a rule stands between conversations alone"
    size = sum(len(m["content"].split()) for row in rows("hhh_prompt") for m in row["messages"])
    assert 2000 <= size <= 4600
    assert len(rows("plain_example")[0]["messages"]) == 6, "three turns of each side"


def test_worked_examples_are_not_asked_in_evaluation() -> None:
    shown = {
        tuple(words(prompt(row)))
        for file in ("critique_shots", "comparison_shots", "hhh_prompt", "plain_example")
        for row in rows(file)
    }
    asked = {tuple(words(prompt(row))) for path in HELD_OUT for row in read_jsonl(path)}
    assert not shown & asked
