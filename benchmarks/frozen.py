"""Anchored finetuning above frozen layers: the start reads what the frozen layers made, or computes them itself.

Optimizer steps as in the demo: 16 rows, of which half are learnt and half held to the start, the lower half of the
layers frozen, in bfloat16. Both sides take the same gradients, up to rounding.
"""

from __future__ import annotations

import argparse
import time

import torch
from material import model_folder, template_of
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.learn.supervised import Row, accumulate, anchor, encode_row
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.lora import choose_weights
from charter.ground.settings.frozen import Moved
from charter.ground.settings.sources import shipped
from charter.ground.text.records import read_dialogues

BATCH = 16


def _rows(options: argparse.Namespace, count: int) -> list[Row]:
    template = template_of(model_folder(options))
    lookalikes = read_dialogues(shipped("lookalikes.train"))
    refusals = read_dialogues(shipped("refusals.train"))[:count]
    learnt = [encode_row(d, template, 1024, drop_overlong=False) for d in refusals]
    held = [encode_row(d, template, 1024, drop_overlong=False, anchored=True) for d in lookalikes[:count]]
    both = zip([r for r in learnt if r], anchor([r for r in held if r]), strict=True)
    return [row for pair in both for row in pair]


def _steps(options: argparse.Namespace, shared: bool) -> Figures:
    folder = model_folder(options)
    model, start = load_policy(folder)[0], load_policy(folder)[0]
    frozen = model.shape.num_layers // 2
    choose_weights(model, Moved(frozen_layers=frozen), 0)
    rows = _rows(options, BATCH if options.quick else 4 * BATCH)
    steps = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    accumulate(model, steps[0], 2048, "bfloat16", start=start, frozen=frozen if shared else 0)
    model.zero_grad(set_to_none=True)
    began, loss = time.perf_counter(), 0.0
    for step in steps:
        loss += accumulate(model, step, 2048, "bfloat16", start=start, frozen=frozen if shared else 0)[0]
    seconds = time.perf_counter() - began
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    return {
        "tokens_per_second": sum(len(row.ids) for row in rows) / seconds,
        "loss": loss / len(steps),
        "gradient": float(torch.stack(squares).sum().sqrt()),
        "steps": len(steps),
    }


def shared(options: argparse.Namespace) -> Figures:
    """As the finetune room does it."""
    return _steps(options, True)


def apart(options: argparse.Namespace) -> Figures:
    """Each model for itself."""
    return _steps(options, False)


if __name__ == "__main__":
    compare(
        Comparison(
            "Anchored finetuning: frozen layers computed once, or by each model",
            {"shared": shared, "apart": apart},
            [Claim("tokens a second", "tokens_per_second", "shared", ("apart",))],
            ["tokens_per_second", "loss", "gradient", "steps"],
            needs=(),
        ),
        parser(__doc__ or "").parse_args(),
    )
