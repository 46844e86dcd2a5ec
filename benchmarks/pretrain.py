"""Pretraining: the room's optimizer step against a plain loop on stock `transformers`, on the same model and tokens.

Random token ids of one shape, some thousand tokens an optimizer step, gradients clipped, AdamW with decay, float32 on a
CPU and bfloat16 over float32 masters on a GPU. Full rows: documents as long as the context, which a plain loop reads as
a batch of rows. Documents: the lengths of text, which ours keeps apart without padding and a plain loop joins into full
rows, attention crossing from one to the next. The share of the peak is model FLOPs a second (`learn/flops.py`) over the
machine's: of square float32 products measured in the same process, or of a known GPU its maker's figure. By processor:
the same with the time that the process had a processor instead of the clock's, for machines that others use as well.

    python benchmarks/pretrain.py                                       # SmolLM2's shape, 135M, on a CPU
    python benchmarks/pretrain.py --size tiny --context 512             # a toy
    python benchmarks/pretrain.py --device cuda --size 18 --context 2048 --batch 65536 --microbatch 16384 --compile
                                                                        # 18 layers: about a billion weights
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.learn.flops import work
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.step import advance, autocast, clip_gradients
from charter.ground.model.checkpoint import new_model
from charter.ground.model.shape import NAMED, Shape, to_config
from charter.ground.text.corpus_index import Index, dtype_of
from charter.ground.text.shards import ShardWriter, TokenShards
from charter.rooms.pretrain.context_parallel import team
from charter.rooms.pretrain.learner import compile_blocks
from charter.rooms.pretrain.learning import accumulate, muon
from charter.rooms.pretrain.order import Cursor, Pieces
from charter.rooms.pretrain.size import Sizing, shape_of
from charter.rooms.pretrain.speed import measure_peak, peak

VOCABULARY = 16384  # of sizes of the dial
LENGTHS = 5.0, 1.1  # mean and deviation of the logarithm of a document's tokens


def _shape(options: argparse.Namespace) -> Shape:
    if options.quick:
        return NAMED["tiny"]
    if options.size in NAMED:
        return NAMED[options.size]
    size = int(options.size) if options.size.isdigit() else options.size
    return shape_of(Sizing(context=options.context), size, VOCABULARY)


def _corpus(folder: Path, shape: Shape, options: argparse.Namespace, ragged: bool) -> TokenShards:
    """Random ids, enough for all steps."""
    draw = np.random.default_rng(0)
    writer = ShardWriter(folder / "train", shape.vocab_size)
    wanted = (options.steps + 2) * options.batch
    while wanted > 0:
        length = int(draw.lognormal(*LENGTHS)) + 1 if ragged else options.context - 1
        writer.add(draw.integers(0, shape.vocab_size, length), 1, 0, 0)
        wanted -= length
    index = Index(
        dtype=dtype_of(shape.vocab_size),
        vocab_size=shape.vocab_size,
        tokenizer="",
        sources=("random",),
        languages=("none",),
        splits={"train": writer.close()},
    )
    return TokenShards(folder, "train", index)


def _timed(step: Callable[[int], list[int]], shape: Shape, options: argparse.Namespace) -> Figures:
    """One step to warm up, then the others. `step` does one and returns the lengths of what it learnt from."""
    on_cpu = options.device == "cpu"
    best = measure_peak("cpu", torch.float32, 3.0) if on_cpu else peak(options.device, "bfloat16")
    step(0)
    _wait(options)
    started, busy, tokens, operations = time.perf_counter(), time.process_time(), 0, 0.0
    for number in range(1, options.steps + 1):
        lengths = step(number)
        tokens, operations = tokens + sum(lengths), operations + work(shape, lengths)
    _wait(options)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return {
        "tokens_per_second": tokens / seconds,
        "share_of_peak": operations / seconds / best,
        "share_by_processor": operations / busy * options.threads / best if on_cpu else None,
        "tokens_by_processor": tokens / busy * options.threads if on_cpu else None,
        "peak_gflops": best / 1e9,
        "tokens": tokens,
        "millions": shape.num_parameters / 1e6,
    }


def _wait(options: argparse.Namespace) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()


def charter(options: argparse.Namespace, optimizer: str = "adamw", ragged: bool = False) -> Figures:
    """What the room does in a step, with documents kept apart."""
    shape = _shape(options)
    model = new_model(shape, 0, options.device)
    model.recompute = options.recompute
    if options.compile:
        compile_blocks(model)
    rates = [(model.parameters(), 1e-4)]
    mover = muon(model, 0.02, rates, 0.01) if optimizer == "muon" else adamw(rates, 0.1)
    precision = "bfloat16" if options.device == "cuda" else "float32"
    with tempfile.TemporaryDirectory() as place:
        pieces = Pieces([_corpus(Path(place), shape, options, ragged)], options.context, 0)
        cursor = Cursor()

        def step(number: int) -> list[int]:
            nonlocal cursor
            batch, cursor = pieces.take(cursor, options.batch, 0)
            accumulate(model, pieces, batch, options.microbatch, precision, team(1))
            clip_gradients(mover, 1.0)
            advance(mover, 1.0)
            mover.zero_grad(set_to_none=True)
            return [piece.length for piece in batch]

        return _timed(step, shape, options)


def transformers(options: argparse.Namespace, ragged: bool = False) -> Figures:
    """A plain loop: rows of the context's length side by side, the model's own loss, AdamW, clipping."""
    library = importlib.import_module("transformers")
    shape = _shape(options)
    torch.manual_seed(0)
    config = library.AutoConfig.for_model(**to_config(shape))
    model = library.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(options.device).train()
    if options.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.compile:
        model.compile()
    mover = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    precision = "bfloat16" if options.device == "cuda" else "float32"
    rows_a_step, rows_at_once = (options.batch // options.context, max(1, options.microbatch // options.context))
    with tempfile.TemporaryDirectory() as place:
        ids = _joined(_corpus(Path(place), shape, options, ragged))

        def step(number: int) -> list[int]:
            rows = torch.stack([next(cut) for _ in range(rows_a_step)]).to(options.device)
            for part in rows.split(rows_at_once):
                with autocast(options.device, precision):
                    loss = model(input_ids=part, labels=part, use_cache=False).loss
                (loss * len(part) / rows_a_step).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            mover.step()
            mover.zero_grad(set_to_none=True)
            return [options.context] * rows_a_step

        cut = iter(ids.view(-1)[: len(ids) // options.context * options.context].view(-1, options.context))
        return _timed(step, shape, options)


def _joined(shards: TokenShards) -> torch.Tensor:
    """All documents one after the other, each behind a boundary."""

    def parts() -> Iterator[np.ndarray]:
        for document in range(shards.documents):
            yield np.zeros(1, np.int64)
            yield shards.read(document)

    return torch.from_numpy(np.concatenate(list(parts())))


COMPARISON = Comparison(
    title=str(__doc__),
    sides={
        "charter": charter,
        "charter muon": partial(charter, optimizer="muon"),
        "transformers": transformers,
        "charter documents": partial(charter, ragged=True),
        "transformers documents": partial(transformers, ragged=True),
    },
    claims=(
        Claim("full rows", "tokens_per_second", "charter", ("transformers",), 1.0),
        Claim("documents kept apart", "tokens_per_second", "charter documents", ("transformers documents",)),
        Claim("Muon", "tokens_per_second", "charter muon", ("charter",)),
        Claim("share of the peak", "share_of_peak", "charter", aim=0.75),
        Claim("share of the peak, documents", "share_of_peak", "charter documents", aim=0.75),
    ),
    columns=(
        "tokens_per_second",
        "share_of_peak",
        "tokens_by_processor",
        "share_by_processor",
        "peak_gflops",
        "tokens",
        "millions",
    ),
    needs=("transformers",),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--size", default="smollm2-135m", help="a named shape, or a size of the dial")
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--context", type=int, default=512, help="tokens of a row")
    options.add_argument("--batch", type=int, default=2048, help="tokens of an optimizer step")
    options.add_argument("--microbatch", type=int, default=2048, help="tokens of a forward pass")
    options.add_argument("--steps", type=int, default=4, help="optimizer steps that are timed")
    options.add_argument("--recompute", action="store_true", help="recompute activations, on both sides")
    options.add_argument("--compile", action="store_true", help="compile the blocks, or the peer's whole model")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
