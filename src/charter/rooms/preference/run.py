"""Preference model: a scalar score on the last token of a reply, trained on soft labels (Bai 2022a, section 2.3).

With `members` above 1 several are learnt, one after another, and the product's weights are their average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.fitness import fitness, in_slices
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.rankings import Ranking, count_origins, count_pairs
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import Work, distribute, full, world
from charter.ground.learn.schedule import lr_share
from charter.ground.learn.step import check_finite, update
from charter.ground.measure.counts import real_pair
from charter.ground.measure.metrics import OF_PREFERENCE
from charter.ground.measure.reporting import record
from charter.ground.model.checkpoint import load_policy, save_preference
from charter.ground.model.folder import check_folder
from charter.ground.model.heads import ScoreHead
from charter.ground.model.lora import merge_lora
from charter.ground.model.moved import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.examples import read_triples
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.preference.heldout import heldout_rows, score_gaps
from charter.rooms.preference.ladder import count_contrasts
from charter.rooms.preference.learning import gradient
from charter.rooms.preference.members import Sum, member_seed
from charter.rooms.preference.pairs import encode, order, sample, split
from charter.rooms.preference.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a one-label classifier, samples/heldout_pairs.jsonl and samples/fitness.jsonl behind its metrics."""
    policy = checkpoint_folder(inputs.one("policy"))
    longest, tokenizer = check_folder(policy).context, Tokenizer.from_folder(policy)
    template = Template(tokenizer, tokenizer.template)
    unsure: Counter[str] = Counter()
    learnt, kept_out = split(settings, inputs, out.seed, unsure)
    train = encode(settings, template, learnt, min(settings.context, longest))
    heldout = encode(settings, template, kept_out, longest)
    watched = sample(heldout, settings.evaluate_pairs, out.seed)
    orders = [order(train, settings, member_seed(out.seed, n)) for n in range(settings.members)]
    members = Sum(out.state)
    for number in range(members.count(), settings.members):
        taught = _start(policy, template, out)
        choose_weights(taught.model, settings, derive_seed(member_seed(out.seed, number), "adapters"))
        _learn(taught, number, orders, watched, settings, out)
        with full(taught.model) as model, full(taught.head) as head:
            if settings.lora:
                merge_lora(model)
            whole = PreferenceModel(model, head, template, out.device, out.precision)
            if settings.members == 1:
                _keep(
                    whole, heldout_rows(in_slices(whole.score, out, "held-out pairs"), heldout), inputs, out
                )
            else:
                members.add(model, head, score_gaps(in_slices(whole.score, out, "held-out pairs"), heldout))
    if settings.members > 1:
        mean = _start(policy, template, out)
        gaps = members.mean(mean.model, mean.head)
        _keep(mean, heldout_rows(in_slices(mean.score, out, "held-out pairs"), heldout, gaps), inputs, out)
    counts = {"train_pairs": count_pairs(train), "heldout_pairs": count_pairs(heldout)}
    trained = [pair.comparison for ranking in train for pair in ranking.pairs]
    counts |= count_origins(trained) | count_contrasts(trained) | dict(sorted(unsure.items()))
    counts["shortened"] = sum(ranking.item.shortened for ranking in train)
    out.counts(counts)
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/pair")


def _start(policy: Path, template: Template, out: Workspace) -> PreferenceModel:
    """The policy under a head that is 0."""
    model, _ = load_policy(policy, out.device)
    head = ScoreHead(model.shape.hidden_size).to(out.device)
    return PreferenceModel(model, head, template, out.device, out.precision)


def _learn(
    taught: PreferenceModel,
    number: int,
    orders: Sequence[list[list[Ranking]]],
    watched: Sequence[Ranking],
    settings: Settings,
    out: Workspace,
) -> None:
    """Takes the steps of a member that are not taken yet; the log counts steps and pairs on over all members."""
    model, head, steps = taught.model, taught.head, orders[number]
    distribute(model, head, precision=out.precision)
    work = Work()
    optimizer = adamw([(model.parameters(), settings.lr), (head.parameters(), settings.head_lr)])
    alone, before = len(orders) == 1, sum(map(len, orders[:number]))
    state = out.state if alone else Sum(out.state).state(number)
    saver = Saver(state, {"model": model, "head": head}, optimizer, settings.save_every)
    done, _ = saver.load()
    out.log_truncate(before + done)
    seen = sum(map(count_pairs, [step for taken in orders[:number] for step in taken] + steps[:done]))
    title = "preference" if alone else f"preference, member {number + 1} of {len(orders)}"
    with out.progress(title, len(steps), done) as bar:
        for step in range(done, len(steps)):
            loss, accuracy, read = gradient(model, head, steps[step], settings, out)
            names = [pair.comparison.id for ranking in steps[step] for pair in ranking.pairs]
            check_finite(loss, "loss", before + step, names)
            share = lr_share(step, len(steps), settings.warmup, settings.schedule)
            norm = update(optimizer, share, settings.clip)
            check_finite(norm, "gradient norm", before + step, names)
            row: dict[str, Any] = {"loss": loss, "batch_accuracy": accuracy, "lr": share * settings.lr}
            row |= {} if alone else {"member": number + 1}
            if settings.evaluate_every and (step + 1) % settings.evaluate_every == 0:
                measured = heldout_rows(taught.score, watched)
                if found := [r["correct"] for r in measured if real_pair(r)]:
                    row |= {"heldout_accuracy": sum(found) / len(found), "heldout_pairs": len(found)}
            seen += len(names)
            out.log(step=before + step, pairs=seen, grad_norm=norm, **row, **work.add(read))
            saver.maybe(step + 1)
            bar.advance(1, loss=loss, accuracy=accuracy)
    work.say(out)


def _keep(model: PreferenceModel, rows: list[dict[str, Any]], inputs: Inputs, out: Workspace) -> None:
    """Saves what came out, with the rows behind its metrics."""
    if world().leads:
        save_preference(model.model, model.head, model.template.tokenizer, out.path)
    out.write_jsonl("samples/heldout_pairs.jsonl", rows)
    gate = fitness(in_slices(model.score, out, "fitness"), read_triples(inputs.one("fitness").folder))
    out.write_jsonl("samples/fitness.jsonl", gate.rows)
    record(out, OF_PREFERENCE)
