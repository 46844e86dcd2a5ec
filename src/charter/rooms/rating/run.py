"""Rater: an absolute score of harm, 0 to 4, on the last token of a conversation (Bai 2022b, section 4.5).

Loss of a conversation = (score - rating)^2. Step loss = mean over its conversations of weight * loss, whatever the
microbatches and the processes that share them. The score is not bounded: under squared error the surest cases may lie
below 0 or above 4.
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
from charter.ground.judge.preference_score import PADDING_ITEM, PreferenceModel, forward_scores
from charter.ground.judge.rater import KEPT, rating_of
from charter.ground.learn.loop import Loop
from charter.ground.learn.parallel import full, portion, total
from charter.ground.learn.product import merge_adapters, save_learnt_scorer
from charter.ground.learn.step import autocast, backward
from charter.ground.measure.ratings import OF_RATERS
from charter.ground.measure.reporting import record
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.heads import ScoreHead
from charter.ground.model.lora import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.recognise import HARM_RATING
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import Template
from charter.rooms.rating.conversations import Group, count, encode, heldout_rows, order, split
from charter.rooms.rating.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a classifier with the one label HARM_RATING, and the held-out rows of its metrics."""
    dropped: Counter[str] = Counter()
    train_rows, heldout_dialogues = split(settings, inputs, out.seed, dropped)
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    template = Template(tokenizer, tokenizer.template)
    choose_weights(model, settings, derive_seed(out.seed, "adapters"))
    head = ScoreHead(model.shape.hidden_size, derive_seed(out.seed, "head")).to(out.device)
    train = encode(template, train_rows, min(settings.context, model.shape.context))
    heldout = encode(template, heldout_dialogues, model.shape.context)
    steps = order(train, settings, out.seed)

    loop = Loop({"model": (model, settings.lr), "head": (head, settings.head_lr)}, settings, out)
    conversations_seen = sum(map(count, steps[: loop.done]))
    with loop.over("rating", len(steps)) as remaining:
        for step in remaining:
            loss, tokens = _accumulate(model, head, steps[step], settings, out)
            names = [dialogue.id for group in steps[step] for dialogue, _ in group.conversations]
            rates = loop.update(step, loss, names)
            conversations_seen += len(names)
            loop.end(step, tokens, {"conversations": conversations_seen, "loss": loss, **rates}, loss=loss)
    with merge_adapters(model) as merged_model, full(head) as whole_head:
        save_learnt_scorer(merged_model, whole_head, tokenizer, out, HARM_RATING)
        scorer = PreferenceModel(merged_model, whole_head, template, out.device, out.precision)
        rows = heldout_rows(in_slices(scorer.score, out, "held-out conversations"), heldout)
    out.write_jsonl(KEPT, rows, restricted=True)
    record(out, OF_RATERS)
    counts = {
        "train_ratings": len(train_rows),
        "heldout_ratings": len(heldout_dialogues),
        "left_out": dropped.total(),
        "shortened": sum(group.item.shortened for group in train),
    }
    out.counts(counts)
    out.metric("loss", last_logged(out.path, "loss"), unit="rating²")


def _accumulate(
    model: Transformer, head: ScoreHead, groups: Sequence[Group], settings: Settings, out: Workspace
) -> tuple[float, int]:
    """Accumulate one step's gradient; returns its loss in squared rating points, and how many tokens this process
    read."""
    conversations, loss, tokens = count(groups), 0.0, 0
    for numbers in portion([group.item.tokens for group in groups], settings.microbatch_tokens):
        members = [groups[i] for i in numbers]
        items = [group.item for group in members]
        tokens += sum(item.tokens for item in items)
        with autocast(out.device, out.precision):
            scores_R = forward_scores(model, head, items or [PADDING_ITEM], out.device)
        ends = accumulate(len(group.texts) for group in members)
        placed = [
            (dialogue, end - len(group.texts) + at)
            for group, end in zip(members, ends, strict=True)
            for dialogue, at in group.conversations
        ]
        rating_B = torch.tensor([rating_of(dialogue) for dialogue, _ in placed], device=out.device)
        weight_B = torch.tensor([dialogue.weight / conversations for dialogue, _ in placed], device=out.device)
        error_B = scores_R[[at for _, at in placed]] - rating_B
        loss += backward((weight_B * error_B**2).sum())
    return total(loss), tokens
