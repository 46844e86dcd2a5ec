"""Contamination: overlap by hand, and the search of a lineage."""

from __future__ import annotations

import json
from pathlib import Path

from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import External, Manifest, Parent, digest_file
from charter.ground.artifact.store import write_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.text.corpus_index import INDEX, Index
from charter.ground.text.overlap import LEAST, SIZE, Items, words
from charter.ground.text.shards import ShardWriter
from charter.ground.text.tokenizer import train_tokenizer
from charter.rooms.evaluate.contamination import contamination
from charter.rooms.evaluate.task import Question

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def test_thirteen_words_in_a_row_hit_and_twelve_do_not() -> None:
    items = Items({"q": LONG})
    assert items.hit_by(
        ["Before that: One, two, three four five six seven eight nine ten eleven twelve THIRTEEN!"]
    ) == {"q"}
    assert items.hit_by(["one two three four five six seven eight nine ten eleven twelve and thirteen"]) == set()
    assert SIZE == 13


def test_a_short_item_is_hit_as_a_whole_and_a_very_short_one_is_not_checked() -> None:
    nine, seven = " ".join(LONG.split()[:9]), " ".join(LONG.split()[:7])
    items = Items({"nine": nine, "seven": seven})
    assert items.unchecked == {"seven"} and LEAST == 8
    assert items.hit_by([f"so {nine} it went"]) == {"nine"}
    assert items.hit_by([" ".join(LONG.split()[1:9])]) == set()


def test_words_have_no_case_and_no_marks() -> None:
    assert words("It's 3.5 km -- né_e?") == ["it", "s", "3", "5", "km", "né", "e"]


def test_a_corpus_is_read_and_what_it_was_made_of_is_not(tmp_path: Path) -> None:
    """A corpus's benchmarks only kept texts out, so a model doesn't learn from them."""
    texts = [f"Somebody wrote {LONG} and went.", "Nothing of the kind stands here at all, not even a little of it."]
    tokenizer = train_tokenizer(texts, 300, opening=True)
    corpus = tmp_path / "run/corpus"
    writer = ShardWriter(corpus / "train", tokenizer.vocab_size)
    for text in texts:
        writer.add(tokenizer.encode(text), len(text), 0, 0)
    tokenizer.save(corpus)
    index = Index(
        dtype="uint16",
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.digest,
        sources=("s",),
        languages=("en",),
        splits={"train": writer.close(), "heldout": ()},
    )
    (corpus / INDEX).write_text(index.model_dump_json())
    other = "sixteen seventeen eighteen nineteen twenty words that stand in the benchmark's own file alone"
    bench = tmp_path / "run/bench.jsonl"
    bench.write_text(json.dumps({"question": other}) + "\n")
    facts = {"status": "done", "recipe": "r", "room": "corpus"}
    outside = External(role="benchmarks", ref=str(bench), digest=digest_file(bench), path="bench.jsonl")
    write_manifest(corpus, Manifest(kind="corpus", id="1" * 64, step="corpus", external=[outside], **facts))
    (tmp_path / "run/model").mkdir()
    parent = Parent(role="corpus", step="corpus", id="1" * 64, path="corpus")
    manifest = Manifest(kind="checkpoint", variant="policy", id="2" * 64, step="model", parents=[parent], **facts)
    write_manifest(tmp_path / "run/model", manifest)
    out = Workspace(tmp_path / "out")
    policy = Input("policy", "model", "checkpoint", "policy", tmp_path / "run/model", "", manifest.id)
    summary = contamination(policy, {"gsm8k": [Question("a", LONG), Question("b", other)]}, out)
    assert summary == {"size": SIZE, "sources": ["corpus"], "missing": []}
    rows = [json.loads(line) for line in (out.path / "samples/contamination.jsonl").read_text().splitlines()]
    assert [(row["item"], row["checked"], row["where"]) for row in rows] == [("a", True, ["corpus"]), ("b", True, [])]
