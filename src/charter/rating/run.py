"""Rater: an absolute score of harm, 0 to 4, on the last token of a conversation (Bai 2022b, section 4.5).

Loss of a conversation = (score - rating)^2. Step loss = mean over its conversations of weight * loss, whatever the
microbatches. The score is not bounded: a rating below 0 or above 4 is what squared error makes of the surest cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import torch

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.fitness import in_slices
from charter.ground.judge.preference_score import PreferenceModel, forward_scores
from charter.ground.judge.rater import KEPT
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.schedule import lr_share
from charter.ground.learn.step import autocast, backward, check_finite, update
from charter.ground.measure.metrics import scores
from charter.ground.model.checkpoint import load_policy, save_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.model.lora import add_lora, merge_lora
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.recognise import HARM_RATING
from charter.ground.settings.seed import derive_seed
from charter.ground.text.packing import microbatches
from charter.ground.text.template import Template
from charter.rating.conversations import Group, count, encode, order, rating_of, split
from charter.rating.heldout import heldout_rows
from charter.rating.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a classifier with the one label HARM_RATING, and the held-out rows behind its metrics."""
    dropped: Counter[str] = Counter()
    learnt, kept_out = split(settings, inputs, out.seed, dropped)
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    template = Template(tokenizer, tokenizer.template)
    if settings.lora:
        add_lora(model, settings.lora.rank, settings.lora.alpha, seed=derive_seed(out.seed, "adapters"))
    head = ScoreHead(model.shape.hidden_size, derive_seed(out.seed, "head")).to(out.device)
    scorer = PreferenceModel(model, head, template, out.device, out.precision)
    train = encode(template, learnt, min(settings.context, model.shape.context))
    heldout = encode(template, kept_out, scorer.context)
    steps = order(train, settings, out.seed)

    optimizer = adamw([(model.parameters(), settings.lr), (head.parameters(), settings.head_lr)])
    saver = Saver(out.state, {"model": model, "head": head}, optimizer, settings.save_every)
    done, _ = saver.load()
    out.log_truncate(done)
    seen = sum(map(count, steps[:done]))
    with out.progress("rating", len(steps), done) as bar:
        for step in range(done, len(steps)):
            loss = _accumulate(model, head, steps[step], settings, out)
            names = [dialogue.id for group in steps[step] for dialogue, _ in group.conversations]
            check_finite(loss, "loss", step, names)
            share = lr_share(step, len(steps), settings.warmup, settings.schedule)
            norm = update(optimizer, share, settings.clip)
            check_finite(norm, "gradient norm", step, names)
            seen += len(names)
            out.log(step=step, conversations=seen, loss=loss, grad_norm=norm, lr=share * settings.lr)
            saver.maybe(step + 1)
            bar.advance(1, loss=loss)
    if settings.lora:
        merge_lora(model)
    save_preference(model, head, tokenizer, out.path, label=HARM_RATING)

    out.write_jsonl(KEPT, heldout_rows(in_slices(scorer.score, out, "held-out conversations"), heldout))
    for s in scores(out.path):
        out.metric(s.name, s.value, low=s.low, high=s.high, n=s.n, version=s.version, unit=s.unit or None)
    counts = {
        "train_ratings": len(learnt),
        "heldout_ratings": len(kept_out),
        "left_out": dropped.total(),
        "shortened": sum(group.item.shortened for group in train),
    }
    out.write_json("counts.json", counts)
    for name, number in counts.items():
        out.metric(name, number)
    out.metric("loss", last_logged(out.path, "loss"), unit="rating²")


def _accumulate(
    model: Transformer, head: ScoreHead, groups: Sequence[Group], settings: Settings, out: Workspace
) -> float:
    """Accumulate one step's gradient; returns its loss in squared rating points."""
    total, loss = count(groups), 0.0
    for numbers in microbatches([group.item.tokens for group in groups], settings.microbatch_tokens):
        members = [groups[i] for i in numbers]
        with autocast(out.device, out.precision):
            scores_R = forward_scores(model, head, [group.item for group in members], out.device)
        ends = accumulate(len(group.texts) for group in members)
        placed = [
            (dialogue, end - len(group.texts) + at)
            for group, end in zip(members, ends, strict=True)
            for dialogue, at in group.conversations
        ]
        rating_B = torch.tensor([rating_of(dialogue) for dialogue, _ in placed], device=out.device)
        weight_B = torch.tensor([dialogue.weight / total for dialogue, _ in placed], device=out.device)
        error_B = scores_R[[at for _, at in placed]] - rating_B
        loss += backward((weight_B * error_B**2).sum())
    return loss
