"""A toy corpus in the form that the corpus room writes, and settings under which a run of it takes a second."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.text.corpus_index import INDEX, Index, dtype_of
from charter.ground.text.shards import ShardWriter
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.pretrain.settings import Guard, Samples, Settings
from charter.rooms.pretrain.size import Heldout, Learning, Sizing
from toys import given, tokenizer

TALE = "the old grey cat sat on a warm stone by the river and saw small fish swim past"
SOURCES, LANGUAGES = ("books", "notes"), ("en", "fr")
SIZING = Sizing(layers=2, width=32, heads=2, key_heads=1, head_size=16, feed_forward=64, context=32)


def texts(count: int, seed: int = 0) -> list[str]:
    """Sentences of a small world, from some words to some dozen."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(TALE.split(), k=draw.randint(3, 60))) + "." for _ in range(count)]


def write_split(folder: Path, split: str, texts: Sequence[str], words: Tokenizer, shard_tokens: int = 1000) -> tuple:  # type: ignore[type-arg]
    writer = ShardWriter(folder / split, words.vocab_size, shard_tokens)
    for n, text in enumerate(texts):
        writer.add(words.encode(text), len(text.encode()), n % len(SOURCES), n % 3 % len(LANGUAGES))
    return writer.close()


def corpus_folder(folder: Path, train: Sequence[str], heldout: Sequence[str], words: Tokenizer | None = None) -> Path:
    """A corpus of these documents."""
    words = words or tokenizer()
    words.save(folder)
    index = Index(
        dtype=dtype_of(words.vocab_size),
        vocab_size=words.vocab_size,
        tokenizer=words.digest,
        sources=SOURCES,
        languages=LANGUAGES,
        splits={
            "train": write_split(folder, "train", train, words),
            "heldout": write_split(folder, "heldout", heldout, words),
        },
    )
    (folder / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    return folder


def corpus(folder: Path, role: str = "corpus") -> Input:
    return given(role, folder, "corpus")


def settings(steps: int = 12, **changes: object) -> Settings:
    """A model of ten thousand weights; `changes` replace parts of the settings."""
    learning = Learning(steps=steps, batch_tokens=256, microbatch_tokens=128)
    base = Settings(
        sizing=SIZING,
        learning=learning,
        heldout=Heldout(every=4, tokens=200, final_tokens=600),
        samples=Samples(prompts=("the cat",), tokens=6),
        guard=Guard(history=4),
        save_every=3,
    )
    return base.model_copy(update=changes)


def inputs(folder: Path) -> Inputs:
    return Inputs([corpus(folder)])
