"""Leave-one-out on equal data: advantages and gradient of the rl room with `baseline: others` against TRL's RLOOTrainer.

TRL samples 4 replies to each of 4 prompts, rewards them by a function of their tokens, and makes advantages and a loss.
The room is given the same tokens, rewards, policy and reference. The policy was moved off its reference, so that KL
counts. Printed: the furthest advantage, and the distance of the gradients over the length of TRL's. Their loss is a mean
over replies and ours one over tokens, so our gradient is taken times tokens / replies.

    python benchmarks/rloo.py                        a tiny random model; --model for another
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from clock import plain_training
from material import filled
from torch import Tensor

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.model.checkpoint import load_policy, named_tensors
from charter.ground.model.opening import materialise
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.records import read_dialogues
from charter.rooms.rl.learning import accumulate, targets_of
from charter.rooms.rl.prompts import Prompt
from charter.rooms.rl.rollout import Episode, Reply, by_reply
from charter.rooms.rl.run import open_models
from charter.rooms.rl.settings import Settings

PROMPTS, REPLIES, NEW, BETA, NOISE = 4, 4, 16, 0.2, 0.02


def _reward(completion_ids: Sequence[Sequence[int]], **_: object) -> list[float]:
    return [sum(ids) % 17 / 4 for ids in completion_ids]


def theirs(folder: Path, moved: Path, work: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A batch of RLOOTrainer with its advantages, and its gradient by name; the policy goes to `moved`."""
    datasets, transformers, trl = map(importlib.import_module, ("datasets", "transformers", "trl"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [prompt_of(d) for d in read_dialogues(shipped("helpful.train"))[:PROMPTS]]
    config = trl.RLOOConfig(
        **plain_training(work)
        | {
            "per_device_train_batch_size": PROMPTS * REPLIES,
            "num_generations": REPLIES,
            "max_completion_length": NEW,
            "beta": BETA,
            "max_steps": 1,
        }
    )
    trainer = trl.RLOOTrainer(
        model=model,
        reward_funcs=_reward,
        args=config,
        train_dataset=datasets.Dataset.from_list([{"prompt": list(d.messages)} for d in prompts]),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(NOISE * parameter.std() * torch.randn(parameter.shape, generator=generator))
    shutil.copytree(folder, moved)
    model.save_pretrained(moved)
    model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    gradient = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return dict(batch), gradient


def _episodes(batch: Mapping[str, Any]) -> tuple[list[Episode], list[int]]:
    """Their batch, which they have shuffled, as a round of ours, and the row of each of its replies."""
    prompts, completions = (
        [ids[mask.bool()].tolist() for ids, mask in zip(batch[f"{part}_ids"], batch[f"{part}_mask"], strict=True)]
        for part in ("prompt", "completion")
    )
    rows = sorted(range(len(prompts)), key=lambda row: prompts[row])
    episodes = []
    for start in range(0, len(rows), REPLIES):
        own = rows[start : start + REPLIES]
        replies = [Reply(completions[row], "", "end", [], []) for row in own]
        episodes.append(Episode(Prompt(Dialogue(str(start), ()), "made"), prompts[own[0]], replies))
    return episodes, rows


def ours(folder: Path, moved: Path, work: Path, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Advantages [replies] in the order of their batch, and the gradient by name, times tokens / replies."""
    settings = Settings.model_validate(
        {
            "baseline": "others",
            "rollout": {"prompts": PROMPTS, "replies": REPLIES, "max_tokens": NEW},
            "kl": {"coefficient": BETA},
        }
    )
    inputs = Inputs([filled("policy", moved, "checkpoint", "policy")])
    policy, critic, _, _ = open_models(settings, inputs, Workspace(work))
    policy = replace(policy, reference=load_policy(folder)[0].requires_grad_(False))
    episodes, rows = _episodes(batch)
    replies = [reply for episode in episodes for reply in episode.replies]
    for reply, log_probs in zip(replies, by_reply(policy.logprobs(episodes).tolist(), episodes), strict=True):
        reply.log_probs = log_probs
    rewards = _reward([reply.ids for reply in replies])
    targets = targets_of(policy, critic, episodes, rewards, BETA, settings.kl_by_token)
    accumulate(policy, critic, targets, range(PROMPTS), settings.clip)
    lengths = [len(reply.ids) for reply in replies]
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    for parameter in policy.model.parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.data = gradient * (sum(lengths) / len(lengths))
    advantages = torch.empty(len(rows))
    advantages[rows] = targets.advantages[starts]
    return advantages, named_tensors(policy.model)


def compare(options: argparse.Namespace) -> dict[str, float]:
    """How far apart both are."""
    folder = materialise(options.model)
    with tempfile.TemporaryDirectory() as place:
        moved = Path(place) / "moved"
        batch, their_gradient = theirs(folder, moved, Path(place) / "trl")
        advantages, gradient = ours(folder, moved, Path(place) / "charter", batch)
    names = [name for name in their_gradient if name in gradient]
    apart = sum(float((gradient[name] - their_gradient[name]).square().sum()) for name in names) ** 0.5
    length = sum(float(their_gradient[name].square().sum()) for name in names) ** 0.5
    return {
        "weights_compared": len(names),
        "largest_advantage": float(batch["advantages"].abs().max()),
        "furthest_advantage": float((advantages - batch["advantages"]).abs().max()),
        "gradient_length": length,
        "gradient_distance": apart / length,
    }


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="random:tiny", help="model reference")
    print(json.dumps(compare(options.parse_args()), indent=1))


if __name__ == "__main__":
    main()
