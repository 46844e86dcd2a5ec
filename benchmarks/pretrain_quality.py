"""What pretraining learns, beside a plain loop on stock `transformers`: bits per byte at equal size, text and tokens.

Takes finished runs of a recipe with a step of pretraining from nothing, and trains a baseline for each: the same shape,
vocabulary, context, tokens and tokens a step, from the library's own start, on the same documents joined into full rows
in an order drawn by the seed, AdamW, decay 0.1, clipping at 1, warm-up and a cosine to a tenth of the peak rate, in the
run's precision. The baseline gets its best rate: all of --rates are tried on the first run, and the best of them is
kept. One function measures both on the same held-out documents, whole, each without what stands before it.

    charter run recipes/scratch.yaml --set recipe.seed=1 --out runs/scratch-1 --until base     # and 2, and 3
    python benchmarks/pretrain_quality.py runs/scratch-1 runs/scratch-2 runs/scratch-3 --step base
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from side import print_table

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.step import autocast
from charter.ground.measure.counts import bits_per_byte
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.shape import Shape, to_config
from charter.ground.model.transformer import Transformer
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.pretrain.heldout import draw_documents, measure
from charter.rooms.pretrain.order import Pieces
from charter.rooms.pretrain.start import boundary_of

WARMUP, LAST = 0.02, 0.1  # shares of the steps, and of the peak rate


@dataclass(frozen=True)
class Run:
    """A finished step of pretraining, and what it learnt from; `steps`: of the baseline, to learn as much."""

    folder: Path
    manifest: Manifest
    corpus: Path
    shape: Shape
    context: int
    batch_tokens: int
    steps: int

    @classmethod
    def read(cls, out: Path, step: str) -> Run:
        """A step of a run's folder."""
        folder = out / step
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_text("utf-8"))
        plan = json.loads((folder / "derived.json").read_text("utf-8"))
        if [parent.role for parent in manifest.parents] != ["corpus"]:
            sys.exit(f"{folder} doesn't learn one corpus from nothing; name such a step by --step")
        (parent,) = manifest.parents
        shape = Shape(**plan["shape"])
        learnt = next(metric.value for metric in manifest.metrics if metric.name == "tokens_learnt")
        steps = math.ceil((learnt or 0) / plan["batch_tokens"])  # its steps hold whole documents, and so a little more
        return cls(folder, manifest, out / parent.step, shape, plan["context"], plan["batch_tokens"], steps)

    def bits(self, model: Transformer, place: Path) -> float:
        """Bits per byte of the held-out documents that the room measures at its end."""
        heldout = self.manifest.resolved["heldout"]
        assert isinstance(heldout, dict)
        pieces = Pieces([TokenShards.open(self.corpus, "heldout")], self.context, self.boundary)
        chosen = draw_documents(pieces, heldout["final_tokens"])
        out = Workspace(place, precision=self.manifest.environment.precision)
        return bits_per_byte(measure(model, pieces, chosen, 8192, out)).value

    @property
    def boundary(self) -> int:
        return boundary_of(Tokenizer.from_folder(self.corpus))


def joined(run: Run, seed: int) -> torch.Tensor:
    """Batches [steps, B, context] of full rows: documents end to end, each behind a boundary, in an order drawn once."""
    shards = TokenShards.open(run.corpus, "train")
    order = np.random.default_rng(seed).permutation(shards.documents)
    wanted = run.steps * run.batch_tokens
    parts: list[np.ndarray] = []
    boundary = run.boundary
    for document in order:
        parts += [np.array([boundary]), shards.read(int(document)).astype(np.int64)]
        wanted -= len(parts[-1]) + 1
        if wanted <= 0:
            break
    else:
        sys.exit(f"{run.corpus} holds less text than {run.folder} learnt: the baseline passes over it once only")
    ids = torch.from_numpy(np.concatenate(parts)[: run.steps * run.batch_tokens])
    rows = ids.view(-1, run.context)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    return rows.view(run.steps, -1, run.context)


def baseline(run: Run, rate: float, seed: int) -> tuple[float, float]:
    """Bits per byte of a plain loop at one peak rate, and the seconds that it learnt."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(**to_config(run.shape))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    mover = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    warmup = math.ceil(WARMUP * run.steps)
    batches = joined(run, seed)
    started = time.perf_counter()
    for step, rows in enumerate(batches):
        done = max(0, step + 1 - warmup) / (run.steps - warmup)
        share = min((step + 1) / warmup, LAST + (1 - LAST) * (1 + math.cos(math.pi * done)) / 2)
        for group in mover.param_groups:
            group["lr"] = share * rate
        with autocast("cpu", run.manifest.environment.precision):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        mover.step()
        mover.zero_grad(set_to_none=True)
        if step % 100 == 0:
            print(f"  rate {rate:g}, seed {seed}: step {step} of {run.steps}, loss {float(loss.detach()):.3f}",
                  file=sys.stderr, flush=True)  # fmt: skip
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        Tokenizer.from_folder(run.corpus).save(Path(place))
        return run.bits(load_policy(Path(place))[0].eval(), Path(place) / "measured"), seconds


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", nargs="+", type=Path, help="folders of finished runs, each of another seed")
    options.add_argument("--step", default="base", help="the step that pretrains from nothing")
    options.add_argument("--rates", type=float, nargs="+", default=[5e-3, 1e-2, 2e-2])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--json", type=Path, help="file that the numbers are written to, for docs/results.py scratch")
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    runs = [Run.read(out, asked.step) for out in asked.runs]
    tried = {rate: baseline(runs[0], rate, 1) for rate in asked.rates}
    for rate, (bits, seconds) in tried.items():
        print(f"baseline at rate {rate:g}: {bits:.4f} bits per byte, {seconds:.0f} s", flush=True)
    best = min(tried, key=lambda rate: tried[rate][0])
    if len(tried) > 1 and best in (min(tried), max(tried)):
        print(f"the best rate, {best:g}, is at an end of those tried: try further ones", flush=True)
    rows = [["run", "ours", "baseline", "apart", "baseline's seconds"]]
    pairs: list[tuple[float, float]] = []
    for number, run in enumerate(runs, 1):
        theirs, seconds = tried[best] if number == 1 else baseline(run, best, number)
        with tempfile.TemporaryDirectory() as place:
            ours = run.bits(load_policy(run.folder)[0].eval(), Path(place))
        pairs.append((ours, theirs))
        rows.append([str(number), f"{ours:.4f}", f"{theirs:.4f}", f"{ours - theirs:+.4f}", f"{seconds:.0f}"])
    weights, tokens = runs[0].shape.num_parameters, runs[0].steps * runs[0].batch_tokens
    print(f"bits per byte of held-out text, {weights:,} weights, {tokens:,} tokens; the baseline's rate {best:g}")
    print_table(rows)
    print(f"apart on average {statistics.mean(a - b for a, b in pairs):+.4f}, n {len(pairs)} seeds")
    if asked.json:
        found = {
            "weights": weights,
            "tokens": tokens,
            "tried": {f"{rate:g}": bits for rate, (bits, _) in tried.items()},
            "ours": [ours for ours, _ in pairs],
            "baseline": [theirs for _, theirs in pairs],
        }
        asked.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
