"""Preference model: the preference room against TRL's RewardTrainer, on the same pairs and tokens.

One pass over the first pairs of HH-RLHF helpful-base, both sides of a pair within 512 tokens, 8 pairs an optimizer
step, full weights in float32. The room computes a prompt once for both replies; the trainer computes it twice.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from functools import partial
from pathlib import Path

import torch
from clock import plain_training, room_marks, trainer_marks
from material import filled, model_folder, pairs, template_of
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.model.checkpoint import choose_padding
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Comparison as Pair
from charter.ground.text.records import write_comparisons
from charter.ground.text.template import Template
from charter.rooms.preference.run import run
from charter.rooms.preference.settings import Pairs, Settings

CONTEXT = 512
BATCH = 8


def _pairs(options: argparse.Namespace, template: Template) -> list[Pair]:
    return pairs(template, 16 if options.quick else options.pairs, CONTEXT)


def _sides(template: Template, pair: Pair) -> tuple[list[int], list[int]]:
    """Token ids of prompt and chosen reply, and of prompt and rejected reply."""
    chosen, rejected = (template.encode_reply(pair.messages, reply) for reply in (pair.chosen, pair.rejected))
    return [*chosen[0], *chosen[1]], [*rejected[0], *rejected[1]]


def _figures(marks: list[float], template: Template, found: list[Pair]) -> Figures:
    seconds = marks[-1] - marks[0]
    tokens = sum(len(ids) for pair in found for ids in _sides(template, pair))
    shared = sum(len(template.encode_prompt(pair.messages)) for pair in found)
    return {
        "pairs_per_second": len(found) / seconds,
        "seconds": seconds,
        "pairs": len(found),
        "tokens": tokens,
        "tokens_shared": shared,
        "steps": len(marks) - 1,
    }


def charter(options: argparse.Namespace) -> Figures:
    """The room as a recipe would run it, without its own additions to the pairs."""
    folder = model_folder(options)
    template = template_of(folder)
    found = _pairs(options, template)
    settings = Settings(
        batch=BATCH,
        context=CONTEXT,
        lr=1e-5,
        warmup=0,
        schedule="constant",
        pairs=Pairs(heldout_share=0.0, ladder=False),
        save_every=10**9,
    )
    with tempfile.TemporaryDirectory() as place:
        rows = Path(place) / "rows.jsonl"
        write_comparisons(rows, found)
        inputs = [
            filled("policy", folder, "checkpoint", "policy"),
            filled("comparisons", rows, "comparisons"),
            filled("fitness", shipped("fitness.heldout"), "triples"),
        ]
        marks = room_marks(run, settings, inputs, Path(place) / "out")
    return _figures(marks, template, found)


def trl(options: argparse.Namespace, batch: int, grouped: bool) -> Figures:
    """RewardTrainer on the same token ids."""
    datasets, transformers, trl = map(importlib.import_module, ("datasets", "transformers", "trl"))
    folder = model_folder(options)
    template = template_of(folder)
    found = _pairs(options, template)
    rows = [
        {"chosen_ids": chosen, "rejected_ids": rejected, "length": max(len(chosen), len(rejected))}
        for chosen, rejected in (_sides(template, pair) for pair in found)
    ]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # A classifier looks for the last token that is not padding; SmolLM2 pads with the token that ends a turn.
    if chosen := choose_padding(template.tokenizer):
        tokenizer.pad_token = chosen[1]
    model.config.pad_token_id = tokenizer.pad_token_id
    with tempfile.TemporaryDirectory() as place:
        arguments = plain_training(Path(place)) | {
            "num_train_epochs": 1,
            "max_length": CONTEXT,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": BATCH // batch,
            "train_sampling_strategy": "group_by_length" if grouped else "random",
            "remove_unused_columns": False,  # the lengths to group by are such a column
        }
        trainer = trl.RewardTrainer(
            model=model,
            args=trl.RewardConfig(**arguments),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        marks = trainer_marks(trainer, transformers.TrainerCallback)
    return _figures(marks, template, found)


PEERS = {
    f"trl batch {batch}{' grouped' if grouped else ''}": partial(trl, batch=batch, grouped=grouped)
    for batch in (2, 4, 8)
    for grouped in (False, True)
}
COMPARISON = Comparison(
    title=str(__doc__),
    sides={"charter": charter, **PEERS},
    claims=(Claim("its best mode", "pairs_per_second", "charter", tuple(PEERS), 1.3),),
    columns=("pairs_per_second", "seconds", "pairs", "tokens", "tokens_shared", "steps"),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--pairs", type=int, default=200, help="pairs of the pass")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
