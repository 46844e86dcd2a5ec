"""A round of reinforcement learning: PPO in the rl room against TRL's GRPOTrainer, which has no critic.

8 prompts x 2 replies of at most 64 tokens, one epoch, temperature 1, a KL penalty of 0.05 to the start. Ours: sampling
with values from a critic on the trunk, a preference model's scores, reference log-probabilities, one update of policy
and critic, with full weights and with LoRA. Theirs: the same sizes with beta 0.05, rewarded by a function that costs
nothing, and by the same preference model. A warm-up round is dropped; seconds are the mean of the others.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from clock import plain_training, room_marks, trainer_marks
from material import filled, model_folder, prompts, template_of
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.artifact.curves import read_log
from charter.ground.model.checkpoint import load_policy, save_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import write_dialogues
from charter.rooms.rl.run import run
from charter.rooms.rl.settings import Settings

PROMPTS, REPLIES, NEW = 8, 2, 64
BETA, RANK, ALPHA = 0.05, 16, 32
TOKENS = (60, 100)  # of a prompt


def _rounds(options: argparse.Namespace) -> int:
    return 1 + (1 if options.quick else int(options.rounds))


def _questions(options: argparse.Namespace, folder: Path) -> list[Dialogue]:
    return prompts(template_of(folder), PROMPTS * _rounds(options), TOKENS)


def _grader(folder: Path, target: Path) -> Path:
    """The policy's weights under a new score head, as a preference model that both sides can load."""
    model, tokenizer = load_policy(folder)
    save_preference(model, ScoreHead(model.shape.hidden_size), tokenizer, target)
    return target


def _figures(marks: list[float], reply_tokens: list[float]) -> Figures:
    rounds = [after - before for before, after in pairwise(marks[1:])]
    kept = reply_tokens[1:]
    return {
        "seconds_a_round": sum(rounds) / len(rounds),
        "rounds": len(rounds),
        "reply_tokens": sum(kept) / len(kept) if kept else None,
    }


def charter(options: argparse.Namespace, lora: bool) -> Figures:
    """The room as a recipe would run it."""
    folder = model_folder(options)
    settings = Settings.model_validate(
        {
            "steps": _rounds(options),
            "lr": 1e-6,
            "rollout": {"prompts": PROMPTS, "replies": REPLIES, "max_tokens": 8 if options.quick else NEW},
            "kl": {"coefficient": BETA},
            "lora": {"rank": RANK, "alpha": ALPHA} if lora else None,
            "save_every": 10**9,
        }
    )
    with tempfile.TemporaryDirectory() as place:
        rows, out = Path(place) / "rows.jsonl", Path(place) / "out"
        write_dialogues(rows, _questions(options, folder))
        inputs = [
            filled("policy", folder, "checkpoint", "policy"),
            filled("reward", _grader(folder, Path(place) / "grader"), "checkpoint", "preference"),
            filled("prompts", rows, "dialogues"),
        ]
        marks = room_marks(run, settings, inputs, out)
        return _figures(marks, [row["tokens"] for row in read_log(out / "files")])


def _length(completions: list[Any], **_: object) -> list[float]:
    return [float(len(completion[0]["content"]) % 17) for completion in completions]


def grpo(options: argparse.Namespace, lora: bool, grader: bool) -> Figures:
    """GRPOTrainer on the same questions."""
    datasets, transformers, trl, peft = map(importlib.import_module, ("datasets", "transformers", "trl", "peft"))
    folder = model_folder(options)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    adapters = (
        peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    )
    data = datasets.Dataset.from_list([{"prompt": list(d.messages)} for d in _questions(options, folder)])
    with tempfile.TemporaryDirectory() as place:
        arguments = plain_training(Path(place)) | {
            "max_steps": _rounds(options),
            "per_device_train_batch_size": PROMPTS * REPLIES,
            "num_generations": REPLIES,
            "max_completion_length": 8 if options.quick else NEW,
            "temperature": 1.0,
            "beta": BETA,
            "learning_rate": 1e-6,
            "logging_strategy": "steps",
            "logging_steps": 1,
        }
        trainer = trl.GRPOTrainer(
            model=model,
            args=trl.GRPOConfig(**arguments),
            reward_funcs=str(_grader(folder, Path(place) / "grader")) if grader else _length,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=adapters,
        )
        marks = trainer_marks(trainer, transformers.TrainerCallback)
        history = trainer.state.log_history
    return _figures(marks, [row[key] for row in history if (key := "completions/mean_length") in row])


COMPARISON = Comparison(
    title=str(__doc__),
    sides={
        "charter full": partial(charter, lora=False),
        "grpo full": partial(grpo, lora=False, grader=False),
        "grpo full, graded": partial(grpo, lora=False, grader=True),
        "charter lora": partial(charter, lora=True),
        "grpo lora": partial(grpo, lora=True, grader=False),
    },
    claims=(
        # Under 16 and 13 seconds where GRPO with full weights takes 19.5.
        Claim("full weights", "seconds_a_round", "charter full", ("grpo full",), 19.5 / 16, lower=True),
        Claim("LoRA against full weights", "seconds_a_round", "charter lora", ("grpo full",), 19.5 / 13, lower=True),
        Claim("LoRA", "seconds_a_round", "charter lora", ("grpo lora",), lower=True),
        Claim("full weights, both graded", "seconds_a_round", "charter full", ("grpo full, graded",), lower=True),
    ),
    columns=("seconds_a_round", "rounds", "reply_tokens"),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--rounds", type=int, default=3, help="timed rounds")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
