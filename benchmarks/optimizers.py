"""Muon against AdamW: bits per byte of held-out text after the same tokens in the same order, at some rates and seeds.

A toy of the pretraining room (`size: tiny`, context 256) on the texts of CHARTER_DATA/pretrain, whole documents, of
which 60 are held out, with a vocabulary of 4,096. Every run has the steps, schedule and clipping of the others; AdamW is
shown at three rates, Muon at the dial's, since a peer deserves its best.

    python benchmarks/optimizers.py [--steps 80] [--batch 2048] [--seeds 3]
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import tempfile
from pathlib import Path

from side import print_table

from charter.ground.artifact.curves import read_log
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.sources import find_data
from charter.ground.text.corpus_index import INDEX, Index, dtype_of
from charter.ground.text.shards import ShardWriter
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer
from charter.rooms.pretrain.run import run
from charter.rooms.pretrain.settings import Samples, Settings
from charter.rooms.pretrain.size import Heldout, Learning, Sizing

VOCABULARY, HELD_OUT, LONGEST = 4096, 60, 20_000
FILES = ("python_peps.jsonl.gz", "pepys_diary.jsonl.gz", "us_presidential_addresses.jsonl.gz")
SIDES = {
    "muon 0.02": {"optimizer": "muon"},
    "adamw 0.0025": {"optimizer": "adamw", "matrix_lr": 2.5e-3, "lr": 2.5e-3},
    "adamw 0.005": {"optimizer": "adamw", "matrix_lr": 5e-3, "lr": 5e-3},
    "adamw 0.01": {"optimizer": "adamw", "matrix_lr": 1e-2, "lr": 1e-2},
}


def corpus(folder: Path) -> Path:
    """The texts as a corpus."""
    texts = []
    for name in FILES:
        with gzip.open(find_data(f"pretrain/{name}"), "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines if line.strip()]
    random.Random(0).shuffle(texts)
    words = train_tokenizer([text[:8000] for text in texts], VOCABULARY)
    words.save(folder)
    index = Index(
        dtype=dtype_of(words.vocab_size),
        vocab_size=words.vocab_size,
        tokenizer=words.digest,
        sources=("texts",),
        languages=("en",),
        splits={
            "train": _split(folder / "train", texts[HELD_OUT:], words),
            "heldout": _split(folder / "heldout", [text[:LONGEST] for text in texts[:HELD_OUT]], words),
        },
    )
    (folder / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    return folder


def _split(folder: Path, texts: list[str], words: Tokenizer) -> tuple:  # type: ignore[type-arg]
    writer = ShardWriter(folder, words.vocab_size)
    for text in texts:
        writer.add(words.encode(text), len(text.encode()), 0, 0)
    return writer.close()


def bits(place: Path, folder: Path, options: argparse.Namespace, learning: dict[str, object], seed: int) -> float:
    """Bits per byte at the end of one run."""
    settings = Settings(
        size="tiny",
        sizing=Sizing(context=256),
        learning=Learning.model_validate(
            {"steps": options.steps, "batch_tokens": options.batch, "microbatch_tokens": 2048} | learning
        ),
        heldout=Heldout(every=options.steps, tokens=20_000, final_tokens=1),
        samples=Samples(prompts=()),
        save_every=10**9,
    )
    given = Input("corpus", "corpus", "corpus", None, folder, str(folder), "corpus")
    out = Workspace(place, seed=seed)
    run(settings, Inputs([given]), out)
    return float(read_log(out.path)[-1]["bits_per_byte"])


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=80)
    options.add_argument("--batch", type=int, default=2048, help="tokens of an optimizer step")
    options.add_argument("--seeds", type=int, default=3)
    asked = options.parse_args()
    rows = [["side", *(f"seed {seed}" for seed in range(asked.seeds)), "mean"]]
    with tempfile.TemporaryDirectory() as place:
        folder = corpus(Path(place) / "corpus")
        for name, learning in SIDES.items():
            found = [bits(Path(place) / f"{name} {seed}", folder, asked, learning, seed) for seed in range(asked.seeds)]
            rows.append([name, *(f"{value:.4f}" for value in found), f"{statistics.mean(found):.4f}"])
            print(rows[-1], flush=True)
    print(f"bits per byte of held-out text after {asked.steps * asked.batch:,} tokens")
    print_table(rows)


if __name__ == "__main__":
    main()
