"""Preference model: a scalar score on the last token of a reply, trained on soft labels (Bai 2022a, section 2.3).

Loss of a pair = cross-entropy of its label with sigma(r_chosen - r_rejected); all replies to a prompt stand behind
it in one pass. Step loss = mean over its pairs of weight * loss, whatever the microbatches and
the processes that share them; weights have mean 1 over all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.fitness import Scorer, fitness, in_slices
from charter.ground.judge.preference_score import NOTHING, PreferenceModel, forward_scores
from charter.ground.judge.rankings import Ranking, count_origins, count_pairs, duels, heldout_rows
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.loss import preference_loss
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import Work, distribute, full, portion, totals, world
from charter.ground.learn.schedule import lr_share
from charter.ground.learn.step import autocast, backward, check_finite, update
from charter.ground.measure.counts import real_pair
from charter.ground.measure.metrics import scores
from charter.ground.measure.score import ranked_right
from charter.ground.model.checkpoint import load_policy, save_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.model.lora import add_lora, merge_lora
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.ground.text.exhibits import read_triples
from charter.ground.text.template import Template
from charter.preference.ladder import count_contrasts
from charter.preference.pairs import encode, order, sample, split
from charter.preference.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a one-label classifier, samples/heldout_pairs.jsonl and samples/fitness.jsonl behind its metrics."""
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    template = Template(tokenizer, tokenizer.template)
    if settings.lora:
        add_lora(model, settings.lora.rank, settings.lora.alpha, seed=derive_seed(out.seed, "adapters"))
    head = ScoreHead(model.shape.hidden_size, derive_seed(out.seed, "head")).to(out.device)
    scorer = PreferenceModel(model, head, template, out.device, out.precision)
    unsure: Counter[str] = Counter()
    learnt, kept_out = split(settings, inputs, out.seed, unsure)
    train = encode(settings, template, learnt, min(settings.context, model.shape.context))
    heldout = encode(settings, template, kept_out, scorer.context)
    steps = order(train, settings, out.seed)
    watched = sample(heldout, settings.evaluate_pairs, out.seed)

    distribute(model, head, precision=out.precision)
    work = Work()
    optimizer = adamw([(model.parameters(), settings.lr), (head.parameters(), settings.head_lr)])
    saver = Saver(out.state, {"model": model, "head": head}, optimizer, settings.save_every)
    done, _ = saver.load()
    out.log_truncate(done)
    seen = sum(count_pairs(step) for step in steps[:done])
    with out.progress("preference", len(steps), done) as bar:
        for step in range(done, len(steps)):
            loss, accuracy, read = _accumulate(model, head, steps[step], settings, out)
            names = [pair.comparison.id for ranking in steps[step] for pair in ranking.pairs]
            check_finite(loss, "loss", step, names)
            share = lr_share(step, len(steps), settings.warmup, settings.schedule)
            norm = update(optimizer, share, settings.clip)
            check_finite(norm, "gradient norm", step, names)
            row: dict[str, Any] = {"loss": loss, "batch_accuracy": accuracy, "lr": share * settings.lr}
            if settings.evaluate_every and (step + 1) % settings.evaluate_every == 0:
                measured = _rows(scorer.score, watched)
                if found := [r["correct"] for r in measured if real_pair(r)]:
                    row |= {"heldout_accuracy": sum(found) / len(found), "heldout_pairs": len(found)}
            seen += len(names)
            out.log(step=step, pairs=seen, grad_norm=norm, **row, **work.add(read))
            saver.maybe(step + 1)
            bar.advance(1, loss=loss, accuracy=accuracy)
    work.say(out)
    with full(model) as whole, full(head) as whole_head:
        if settings.lora:
            merge_lora(whole)
        if world().leads:
            save_preference(whole, whole_head, tokenizer, out.path)
        _measure(
            PreferenceModel(whole, whole_head, template, out.device, out.precision), heldout, inputs, out
        )
    counts = {"train_pairs": count_pairs(train), "heldout_pairs": count_pairs(heldout)}
    trained = [pair.comparison for ranking in train for pair in ranking.pairs]
    counts |= count_origins(trained) | count_contrasts(trained) | dict(sorted(unsure.items()))
    counts["shortened"] = sum(ranking.item.shortened for ranking in train)
    out.write_json("counts.json", counts)
    for name, count in counts.items():
        out.metric(name, count)
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/pair")


def _accumulate(
    model: Transformer, head: ScoreHead, rankings: list[Ranking], settings: Settings, out: Workspace
) -> tuple[float, float, int]:
    """Accumulate one step's gradient; returns its loss in nats per pair, the share of pairs ranked right, and the
    tokens that this process read."""
    pairs = [pair for ranking in rankings for pair in ranking.pairs]
    loss, right, read = 0.0, 0.0, 0
    for group in portion([ranking.item.tokens for ranking in rankings], settings.microbatch_tokens):
        members = [rankings[i] for i in group]
        items = [ranking.item for ranking in members]
        read += sum(item.tokens for item in items)
        with autocast(out.device, out.precision):
            scores_R = forward_scores(model, head, items or [NOTHING], out.device)
        pairs_B = duels(members)
        p_B = torch.tensor([pair.comparison.p_chosen for pair, _, _ in pairs_B], device=out.device)
        weight_B = torch.tensor([pair.weight / len(pairs) for pair, _, _ in pairs_B], device=out.device)
        chosen_B, rejected_B = scores_R[[c for _, c, _ in pairs_B]], scores_R[[r for _, _, r in pairs_B]]
        loss += backward((preference_loss(chosen_B, rejected_B, p_B) * weight_B).sum())
        right += sum(
            ranked_right(pair.comparison.p_chosen, *scores)
            for (pair, _, _), *scores in zip(pairs_B, chosen_B.tolist(), rejected_B.tolist(), strict=True)
        )
    loss, right = totals([loss, right])
    return loss, right / len(pairs), read


def _rows(score: Scorer, rankings: Sequence[Ranking]) -> list[dict[str, Any]]:
    return heldout_rows(rankings, score([(ranking.messages, ranking.texts) for ranking in rankings]))


def _measure(model: PreferenceModel, heldout: Sequence[Ranking], inputs: Inputs, out: Workspace) -> None:
    score = in_slices(model.score, out, "held-out pairs")
    out.write_jsonl("samples/heldout_pairs.jsonl", _rows(score, heldout))
    gate = fitness(in_slices(model.score, out, "fitness"), read_triples(inputs.one("fitness").folder))
    out.write_jsonl("samples/fitness.jsonl", gate.rows)
    for s in scores(out.path):
        out.metric(s.name, s.value, low=s.low, high=s.high, n=s.n, version=s.version)
