"""Product sets in groups, published sets as constitutions, and what principles did in a run."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import ComparisonPrinciple, check, draw, load
from charter.ground.constitution.published import COMPARISONS, CRITIQUES, read_published
from charter.ground.constitution.record import records
from charter.ground.settings.places import data_folder

PUBLISHED = data_folder() / "constitutional_ai" / "prompts"
LISTS = """# Fairness

- Choose the reply that treats both sides alike.
* Choose the kinder reply.

## Care
1. Choose the reply that asks first.
A line that is no item.
"""


def written(folder: Path, value: object) -> Path:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def principle(key: str, group: str) -> ComparisonPrinciple:
    return ComparisonPrinciple(key, (), f"Which is {key}?", group)


def test_a_list_in_markdown_becomes_a_product_set_by_headings(tmp_path: Path) -> None:
    text = tmp_path / "ours.md"
    text.write_text(LISTS)
    ours = load(written(tmp_path, read_published(text, "ours")))
    assert [(p.group, p.principle) for p in ours.product] == [
        ("Fairness", "Choose the reply that treats both sides alike."),
        ("Fairness", "Choose the kinder reply."),
        ("Care", "Choose the reply that asks first."),
    ]
    assert ours.critiques == () and ours.comparisons == ()
    assert [p.key for p in ours.comparisons_of("product")] == ["p1", "p2", "p3"]
    assert ours.critiques_of("product")[2].critique.endswith(ours.product[2].principle)
    assert ours.critique("p2") == ours.product[1].as_critique() and ours.comparison("p2") == ours.product[1]
    assert not [w for w in check(ours).warnings if "no question" in w or "tag" in w]


@pytest.mark.parametrize("use", ["critiques_of", "comparisons_of"])
def test_a_set_that_is_not_there_is_said(tmp_path: Path, use: str) -> None:
    one = {"group": "a", "key": "k", "principle": "Choose it."}
    only_product = load(written(tmp_path, {"name": "p", "product": [one]}))
    with pytest.raises(CharterError, match=r"the constitution p has no .*; set principle_set: product, or add them"):
        getattr(only_product, use)("own")
    own = {
        "critiques": [{"key": "c", "critique": "x?", "revision": "y"}],
        "comparisons": [{"key": "d", "principle": "z?"}],
    }
    with pytest.raises(CharterError, match="has no product; set principle_set: own"):
        getattr(load(written(tmp_path, {"name": "o", **own})), use)("product")


@pytest.mark.parametrize(
    ("product", "problem"),
    [
        ([], "product is missing or empty"),
        ([{"key": "k", "principle": "x?"}], r"product entry 1 \(k\): group is missing"),
        ([{"group": "a", "key": "k", "principle": "x?"}] * 2, "has the key 'k' more than once"),
    ],
)
def test_a_broken_product_set_is_refused(tmp_path: Path, product: object, problem: str) -> None:
    with pytest.raises(CharterError, match=problem):
        load(written(tmp_path, {"name": "p", "product": product}))


def test_a_group_is_drawn_first() -> None:
    principles = [principle(f"long{n}", "long") for n in range(9)] + [principle("short", "short")]
    counts = Counter(draw(principles, random.Random(n))[0].group for n in range(400))
    assert 150 < counts["short"] < 250, "a group of one weighs as much as a group of nine"
    several = draw(principles, random.Random(0), 20)
    assert len({p.key for p in several}) == len(several) == 10
    alike = [principle(f"a{n}", "") for n in range(4)]
    assert draw(alike, random.Random(3)) == [random.Random(3).choice(alike)]
    assert draw(alike, random.Random(3), 2) == random.Random(3).sample(alike, 2)


def paper(folder: Path, pairs: object, questions: object) -> Path:
    (folder / CRITIQUES).write_text(json.dumps(pairs))
    (folder / COMPARISONS).write_text(json.dumps(questions))
    return folder


def test_the_papers_files_become_both_sets_without_markers(tmp_path: Path) -> None:
    pair = {
        "prompt": ["\n\nCritiqueRequest: Say what is unkind.\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Make it kind.\n\nRevision:",
    }
    found = load(written(tmp_path, read_published(paper(tmp_path, {"harmful0": pair}, ["\nChoose it. Options:"]), "p")))
    assert [(p.key, p.critique, p.revision) for p in found.critiques] == [
        ("harmful0", "Say what is unkind.", "Make it kind.")
    ]
    assert [p.principle for p in found.comparisons] == ["Choose it."] and found.product == ()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs CHARTER_DATA with constitutional_ai")
def test_the_published_16_and_16_are_read() -> None:
    found = read_published(PUBLISHED, "paper")
    assert [len(found[kind]) for kind in ("critiques", "comparisons")] == [16, 16]
    texts = [entry[field] for entry in found["critiques"] for field in ("critique", "revision")]
    texts += [entry["principle"] for entry in found["comparisons"]]
    assert not [text for text in texts if "Request:" in text or text.endswith(("Critique:", "Revision:", "Options:"))]


@pytest.mark.parametrize(
    ("pairs", "questions"), [({"a": {}}, []), ([1], []), ({"a": {"prompt": [], "edit_request": ""}}, [])]
)
def test_another_form_of_the_papers_files_is_refused(tmp_path: Path, pairs: object, questions: object) -> None:
    with pytest.raises(CharterError, match="has another form"):
        read_published(paper(tmp_path, pairs, questions), "p")


def test_a_text_without_lists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Only a heading\n")
    with pytest.raises(CharterError, match="holds no principles: expected a folder with"):
        read_published(tmp_path / "a.md", "p")


def test_records_by_hand() -> None:
    rounds = [
        {"key": "a", "revision": "one two four", "dropped": None},  # shares 2 of 4 words
        {"key": "a", "revision": "", "dropped": "empty"},
        {"key": "b", "revision": "one two four", "dropped": None},  # the same as before
    ]
    found = records(
        [{"draft": "one two three", "rounds": rounds}],
        [
            {"source": "ai:a+b", "p_chosen": 0.75},
            {"source": "ai:b", "p_chosen": 1.0},
            {"source": "people", "p_chosen": 1},
        ],
        [{"principle": "b", "correct": 1.0}, {"principle": "b", "correct": 0.0}, {"correct": 1.0}],
    )
    assert found["a"].row("a") == {
        "key": "a", "critiques": 2, "kept": 0.5, "changed": 0.5, "labels": 1, "margin": 0.5, "known_pairs": 0, "agreed": None,
    }  # fmt: skip
    assert found["b"].row("b") == {
        "key": "b", "critiques": 1, "kept": 1.0, "changed": 0.0, "labels": 2, "margin": 0.75, "known_pairs": 2, "agreed": 0.5,
    }  # fmt: skip
