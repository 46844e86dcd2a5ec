"""Sampling: the engine against transformers' generate, at batch 1, 8 and 32.

Prompts of 64 tokens with nothing in common, 128 new tokens each, at temperature 1 without a cut of the distribution
(--temperature, --top-p for another), no early stop, float32. Tokens a second count new tokens only; reading the prompts
is part of the time on both sides. Each side warms up with a short run first; the best of three runs counts. The engine
also returns every token's log-probability.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from material import model_folder, texts
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy
from charter.ground.text.tokenizer import Tokenizer

BATCHES = (1, 8, 32)
PROMPT, NEW = 64, 128


def _rates(
    options: argparse.Namespace, ids: list[list[int]], generate: Callable[[list[list[int]], int], int]
) -> Figures:
    """Tokens a second by batch; `generate(prompts, new)` returns how many tokens it made."""
    new = 8 if options.quick else NEW
    figures: Figures = {}
    for batch in BATCHES:
        generate(ids[:batch], 4)
        best = 0.0
        for _ in range(1 if options.quick else 3):
            started = time.perf_counter()
            made = generate(ids[:batch], new)
            best = max(best, made / (time.perf_counter() - started))
            assert made == batch * new, f"{made} tokens instead of {batch} x {new}"
        figures[f"batch_{batch}"] = best
    return figures


def charter(options: argparse.Namespace) -> Figures:
    """The engine that the rooms use."""
    model, tokenizer = load_policy(model_folder(options))
    engine = Engine(model, tokenizer, slots=max(BATCHES))
    engine.ends = frozenset()

    def generate(prompts: list[list[int]], new: int) -> int:
        how = Sampling(temperature=options.temperature, top_p=options.top_p, max_tokens=new)
        found = engine.generate(prompts, how)
        return sum(len(completion.ids) for samples in found for completion in samples)

    return _rates(options, texts(tokenizer, max(BATCHES), PROMPT), generate)


def stock(options: argparse.Namespace, cache: str | None) -> Figures:
    """`model.generate` with its default cache, or with a static one."""
    transformers = importlib.import_module("transformers")
    folder = model_folder(options)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    extra: dict[str, Any] = {"cache_implementation": cache} if cache else {}

    def generate(prompts: list[list[int]], new: int) -> int:
        ids = torch.tensor(prompts)
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=options.temperature,
            top_k=0,
            top_p=options.top_p,
            max_new_tokens=new,
            pad_token_id=0,
            **extra,
        )
        return int(found[:, ids.shape[1] :].numel())

    torch.manual_seed(0)
    with torch.inference_mode():
        return _rates(options, texts(Tokenizer.from_folder(folder), max(BATCHES), PROMPT), generate)


PEERS = {"transformers": partial(stock, cache=None), "transformers static": partial(stock, cache="static")}
AIMS = {1: 1.4, 8: 1.8, 32: 2.0}
COMPARISON = Comparison(
    title=str(__doc__),
    sides={"charter": charter, **PEERS},
    claims=tuple(Claim(f"batch {b}", f"batch_{b}", "charter", tuple(PEERS), AIMS[b]) for b in BATCHES),
    columns=tuple(f"batch_{b}" for b in BATCHES),
    needs=("transformers",),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--temperature", type=float, default=1.0, help="of both sides")
    options.add_argument("--top-p", type=float, default=1.0, help="of both sides")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
