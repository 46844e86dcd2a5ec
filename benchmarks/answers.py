"""Answers to prompts: five samples each of 48 prompts, the engine against transformers' generate.

The shape of the harmlessness evaluation: opening questions of dialogues in the model's chat template, temperature 1, no
cut of the distribution, at most 96 new tokens, an answer ends where the model ends it, float32. Tokens a second count
the tokens of answers, with the one that ends them, never what is padded behind; reading the prompts is part of the time.
The peer gets prompts sorted by length and several numbers of prompts at once (times five samples each). "limit" is what
this machine's matrix products allow: each prompt read once at the speed of large products, then steps of the engine's
slots, all of them full, at the measured time of the model's own products for so many rows.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from material import model_folder, prompts, template_of
from roofline import decoding, peak, reading
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.generate.assistant import SLOTS, LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy

PROMPTS, SAMPLES, NEW = 48, 5, 96
AT_ONCE = (4, 8, 16, 48)

Generate = Callable[[list[list[int]], int], list[int]]


def _asked(options: argparse.Namespace, folder: Path) -> list[list[int]]:
    template = template_of(folder)
    found = prompts(template, 4 if options.quick else PROMPTS, (16, 512) if options.quick else (40, 128))
    return [template.encode_prompt(dialogue.messages) for dialogue in found]


def _rate(options: argparse.Namespace, ids: list[list[int]], generate: Generate) -> Figures:
    """`generate(prompts, new)` returns the tokens of each answer."""
    generate(ids[:2], 4)
    torch.manual_seed(0)
    started = time.perf_counter()
    made = generate(ids, 8 if options.quick else NEW)
    seconds = time.perf_counter() - started
    assert len(made) == SAMPLES * len(ids), f"{len(made)} answers instead of {SAMPLES * len(ids)}"
    return {"tokens_s": sum(made) / seconds, "answers_s": len(made) / seconds, "tokens_answer": sum(made) / len(made)}


def charter(options: argparse.Namespace) -> Figures:
    """The engine as the rooms open it."""
    made = LocalAssistant.open(model_folder(options))

    def generate(ids: list[list[int]], new: int) -> list[int]:
        found = made.engine.generate(ids, Sampling(temperature=1.0, max_tokens=new), SAMPLES)
        return [len(completion.ids) for samples in found for completion in samples]

    return _rate(options, _asked(options, model_folder(options)), generate)


def stock(options: argparse.Namespace, at_once: int, cache: str | None) -> Figures:
    """`model.generate` on padded batches of prompts of similar length."""
    transformers = importlib.import_module("transformers")
    folder = model_folder(options)
    template = template_of(folder)
    ends = sorted({*template.tokenizer.ends, template.end_id})
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    extra: dict[str, Any] = {"cache_implementation": cache} if cache else {}

    def batch(ids: list[list[int]], new: int) -> list[int]:
        width = max(map(len, ids))
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])
        found = model.generate(
            torch.tensor([[0] * (width - len(one)) + one for one in ids]),
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=SAMPLES,
            max_new_tokens=new,
            eos_token_id=ends,
            pad_token_id=ends[0],
            **extra,
        )
        rows = found[:, width:].tolist()
        return [next((n + 1 for n, token in enumerate(row) if token in ends), len(row)) for row in rows]

    def generate(ids: list[list[int]], new: int) -> list[int]:
        ordered = sorted(ids, key=len)
        return [n for at in range(0, len(ids), at_once) for n in batch(ordered[at : at + at_once], new)]

    with torch.inference_mode():
        return _rate(options, _asked(options, folder), generate)


def limit(options: argparse.Namespace) -> Figures:
    """Tokens a second if nothing were done but products."""
    folder = model_folder(options)
    model, asked = load_policy(folder)[0], _asked(options, folder)
    read = sum(reading(model.shape, range(len(ids))) for ids in asked) / peak()
    tokens = len(asked) * SAMPLES * (8 if options.quick else NEW)
    return {"tokens_s": tokens / (read + tokens / SLOTS * decoding(model, SLOTS))}


PEERS = {
    **{f"transformers {n} x {SAMPLES}": partial(stock, at_once=n, cache=None) for n in AT_ONCE},
    **{f"transformers static {n} x {SAMPLES}": partial(stock, at_once=n, cache="static") for n in AT_ONCE[1:3]},
}
COMPARISON = Comparison(
    title=str(__doc__),
    sides={"charter": charter, **PEERS, "limit": limit},
    claims=(
        Claim("five answers a prompt", "tokens_s", "charter", tuple(PEERS), 2.0),
        Claim("share of the machine's limit", "tokens_s", "charter", ("limit",)),
    ),
    columns=("tokens_s", "answers_s", "tokens_answer"),
    needs=("transformers",),
)


def main() -> None:
    """Command line."""
    compare(COMPARISON, parser(COMPARISON.title).parse_args())


if __name__ == "__main__":
    main()
