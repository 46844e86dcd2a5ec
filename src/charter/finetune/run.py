"""Supervised finetuning: cross-entropy on the assistant's tokens (SL-CAI: Bai 2022b, section 3).

The loss of an optimizer step is `learn.supervised`'s.
"""

from __future__ import annotations

import time

from charter.finetune.gather import gather
from charter.finetune.settings import Settings
from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.schedule import lr_share
from charter.ground.learn.step import check_finite, update
from charter.ground.learn.supervised import accumulate
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.model.lora import add_lora, merge_lora
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import CLAUDE_2023, Template


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint."""
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    if settings.template == "claude-2023":
        tokenizer = tokenizer.with_template(CLAUDE_2023)
    template = Template(tokenizer, tokenizer.template)
    if settings.lora:
        add_lora(model, settings.lora.rank, settings.lora.alpha, seed=derive_seed(out.seed, "adapters"))
    bounded = settings.model_copy(update={"context": min(settings.context, model.shape.context)})
    steps, counts = gather(bounded, inputs, template, out.seed)
    optimizer = adamw([(model.parameters(), settings.lr)], settings.weight_decay)
    saver = Saver(out.state, {"model": model}, optimizer, settings.save_every)
    done, _ = saver.load()
    out.log_truncate(done)

    model.train()
    with out.progress("finetune", len(steps), done) as bar:
        for step in range(done, len(steps)):
            started = time.perf_counter()
            loss = accumulate(model, steps[step], settings.microbatch_tokens, out.precision)
            names = [row.id for row in steps[step]]
            check_finite(loss, "loss", step, names)
            share = lr_share(step, len(steps), settings.warmup, settings.schedule)
            norm = update(optimizer, share, settings.clip)
            check_finite(norm, "gradient norm", step, names)
            tokens = sum(len(row.ids) for row in steps[step])
            out.log(step=step, loss=loss, lr=share * settings.lr, grad_norm=norm, tokens=tokens)
            saver.maybe(step + 1)
            bar.advance(1, loss=loss, rate=tokens / (time.perf_counter() - started))
    if settings.lora:
        merge_lora(model)
    save_policy(model, tokenizer, out.path)
    out.write_json("counts.json", counts)
    for name, value in counts.items():
        out.metric(name, value)
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/token")
