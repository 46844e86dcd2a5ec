"""Supervised finetuning: the finetune room against TRL's SFTTrainer, on the same documents, tokens and loss.

One epoch over the first dialogues of HH-RLHF helpful-base, cut at 512 tokens, 8 dialogues an optimizer step, full
weights, all but one side in float32, loss on the assistant's tokens. Tokens a second count every real token, prompts included, and no
padding. The peer's best mode is the one that needs the least time for the same documents.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from clock import plain_training, room_marks, trainer_marks
from material import dialogues, filled, model_folder, template_of
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import write_dialogues
from charter.ground.text.template import Template
from charter.rooms.finetune.run import run
from charter.rooms.finetune.settings import Settings

CONTEXT = 512
BATCH = 8


def _documents(options: argparse.Namespace, template: Template) -> list[Dialogue]:
    return dialogues(template, 16 if options.quick else options.documents, CONTEXT)


def _figures(marks: list[float], lengths: list[int], learnt: int) -> Figures:
    seconds = marks[-1] - marks[0]
    return {
        "tokens_per_second": sum(lengths) / seconds,
        "seconds": seconds,
        "documents": len(lengths),
        "tokens": sum(lengths),
        "tokens_learnt": learnt,
        "steps": len(marks) - 1,
    }


def charter(options: argparse.Namespace, precision: str = "float32") -> Figures:
    """The room as a recipe would run it."""
    folder = model_folder(options)
    template = template_of(folder)
    found = _documents(options, template)
    settings = Settings(
        batch=BATCH, context=CONTEXT, lr=1e-5, warmup=0, schedule="constant", clip=1.0, save_every=10**9
    )
    with tempfile.TemporaryDirectory() as place:
        rows = Path(place) / "rows.jsonl"
        write_dialogues(rows, found)
        inputs = [
            filled("policy", folder, "checkpoint", "policy"),
            filled("dialogues", rows, "dialogues"),
            filled("constitution", shipped("constitution"), "constitution"),
        ]
        marks = room_marks(run, settings, inputs, Path(place) / "out", precision)
    encoded = [template.encode(d.messages) for d in found]
    return _figures(marks, [len(e.ids) for e in encoded], sum(sum(e.mask) for e in encoded))


def trl(options: argparse.Namespace, mode: dict[str, Any]) -> Figures:
    """SFTTrainer on the same token ids and masks."""
    datasets, transformers, trl = map(importlib.import_module, ("datasets", "transformers", "trl"))
    folder = model_folder(options)
    template = template_of(folder)
    encoded = [template.encode(d.messages) for d in _documents(options, template)]
    data = datasets.Dataset.from_list([{"input_ids": e.ids, "assistant_masks": e.mask} for e in encoded])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as place:
        arguments = plain_training(Path(place)) | {"num_train_epochs": 1, "max_length": CONTEXT} | mode
        trainer = trl.SFTTrainer(
            model=model, args=trl.SFTConfig(**arguments), train_dataset=data, processing_class=tokenizer
        )
        marks = trainer_marks(trainer, transformers.TrainerCallback)
    return _figures(marks, [len(e.ids) for e in encoded], sum(sum(e.mask) for e in encoded))


def _plain(batch: int, grouped: bool) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": BATCH // batch,
        "train_sampling_strategy": "group_by_length" if grouped else "random",
    }


MODES: dict[str, dict[str, Any]] = {
    "trl packing": {"packing": True, "per_device_train_batch_size": 4},
    # Four rows of 512 a step here too, but forward by forward: the mask is 512 x 512 instead of 2048 x 2048.
    "trl packing 1": {"packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    "trl batch 4": _plain(4, False),
    "trl batch 8": _plain(8, False),
    "trl batch 4 grouped": _plain(4, True),
    "trl batch 8 grouped": _plain(8, True),
}
COMPARISON = Comparison(
    title=str(__doc__),
    sides={
        "charter": charter,
        "charter bfloat16": partial(charter, precision="bfloat16"),
        **{name: partial(trl, mode=mode) for name, mode in MODES.items()},
    },
    claims=(
        Claim("its packing", "tokens_per_second", "charter", ("trl packing",), 1.5),
        Claim("its packing, a row a forward", "tokens_per_second", "charter", ("trl packing 1",)),
        Claim("its best mode", "tokens_per_second", "charter", tuple(MODES), 1.05),
        Claim("bfloat16 against float32", "tokens_per_second", "charter bfloat16", ("charter",)),
    ),
    columns=("tokens_per_second", "seconds", "documents", "tokens", "tokens_learnt", "steps"),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--documents", type=int, default=200, help="dialogues of the epoch")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
