"""Supervised finetuning: cross-entropy on the assistant's tokens (SL-CAI: Bai 2022b, section 3), and KL from the start
on anchor dialogues, which keep what the model could do.

The loss of an optimizer step is `learn.supervised`'s.
"""

from __future__ import annotations

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.product import save_learnt
from charter.ground.learn.supervised import finetune
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.lora import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import CLAUDE_2023, Template
from charter.rooms.finetune.gather import gather
from charter.rooms.finetune.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint."""
    policy = checkpoint_folder(inputs.one("policy"))
    model, tokenizer = load_policy(policy, out.device)
    if settings.template == "claude-2023":
        tokenizer = tokenizer.with_template(CLAUDE_2023)
    template = Template(tokenizer, tokenizer.template)
    choose_weights(model, settings, derive_seed(out.seed, "adapters"))
    bounded = settings.model_copy(update={"context": min(settings.context, model.shape.context)})
    steps, counts = gather(bounded, inputs, template, out.seed)
    start = load_policy(policy, out.device)[0] if inputs.many("anchor") else None
    finetune(model, steps, settings, out, start)
    save_learnt(model, tokenizer, out)
    out.counts(counts)
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/token")
