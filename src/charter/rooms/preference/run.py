"""Preference model: a scalar score on the last token of a reply, trained on soft labels (Bai 2022a, section 2.3).

With `members` above 1 several are trained, one after another, and the product's weights are their average.
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
from charter.ground.learn.loop import Loop
from charter.ground.learn.parallel import full
from charter.ground.learn.product import merge_adapters, save_learnt_scorer
from charter.ground.measure.counts import real_pair
from charter.ground.measure.metrics import OF_PREFERENCE
from charter.ground.measure.reporting import record
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.folder import check_folder
from charter.ground.model.heads import ScoreHead
from charter.ground.model.lora import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.examples import read_triples
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.preference.learning import gradient
from charter.rooms.preference.members import Sum, member_seed
from charter.rooms.preference.pairs import count_contrasts, encode, heldout_rows, order, sample, score_gaps, split
from charter.rooms.preference.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a one-label classifier, samples/heldout_pairs.jsonl, samples/fitness.jsonl (rows of its metrics)."""
    policy = checkpoint_folder(inputs.one("policy"))
    longest, tokenizer = check_folder(policy).context, Tokenizer.from_folder(policy)
    template = Template(tokenizer, tokenizer.template)
    unsure: Counter[str] = Counter()
    train_rows, heldout_pairs = split(settings, inputs, out.seed, unsure)
    train = encode(settings, template, train_rows, min(settings.context, longest))
    heldout = encode(settings, template, heldout_pairs, longest)
    watched = sample(heldout, settings.evaluate_pairs, out.seed)
    orders = [order(train, settings, member_seed(out.seed, n)) for n in range(settings.members)]
    members = Sum(out.state)
    for number in range(members.count(), settings.members):
        scorer = _start(policy, template, out)
        choose_weights(scorer.model, settings, derive_seed(member_seed(out.seed, number), "adapters"))
        _learn(scorer, number, orders, watched, settings, out)
        with merge_adapters(scorer.model) as model, full(scorer.head) as head:
            merged_scorer = PreferenceModel(model, head, template, out.device, out.precision)
            if settings.members == 1:
                _keep(
                    merged_scorer,
                    heldout_rows(in_slices(merged_scorer.score, out, "held-out pairs"), heldout),
                    inputs,
                    out,
                )
            else:
                members.add(model, head, score_gaps(in_slices(merged_scorer.score, out, "held-out pairs"), heldout))
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
    """The policy with a zero head."""
    model, _ = load_policy(policy, out.device)
    head = ScoreHead(model.shape.hidden_size).to(out.device)
    return PreferenceModel(model, head, template, out.device, out.precision)


def _learn(
    scorer: PreferenceModel,
    number: int,
    orders: Sequence[list[list[Ranking]]],
    watched: Sequence[Ranking],
    settings: Settings,
    out: Workspace,
) -> None:
    """Take the remaining steps of a member; the log counts steps and pairs over all members."""
    model, head, steps = scorer.model, scorer.head, orders[number]
    learners = {"model": (model, settings.lr), "head": (head, settings.head_lr)}
    alone, before = len(orders) == 1, sum(map(len, orders[:number]))
    state = out.state if alone else Sum(out.state).state(number)
    loop = Loop(learners, settings, out, state=state, before=before)
    pairs_seen = sum(map(count_pairs, [step for finished in orders[:number] for step in finished] + steps[: loop.done]))
    title = "preference" if alone else f"preference, member {number + 1} of {len(orders)}"
    with loop.over(title, len(steps)) as remaining:
        for step in remaining:
            loss, accuracy, tokens = gradient(model, head, steps[step], settings, out)
            names = [pair.comparison.id for ranking in steps[step] for pair in ranking.pairs]
            rates = loop.update(step, loss, names)
            pairs_seen += len(names)
            row = {"pairs": pairs_seen, "loss": loss, "batch_accuracy": accuracy, **rates}
            row |= {} if alone else {"member": number + 1}
            if settings.evaluate_every and (step + 1) % settings.evaluate_every == 0:
                measured = heldout_rows(scorer.score, watched)
                if correct := [r["correct"] for r in measured if real_pair(r)]:
                    row |= {"heldout_accuracy": sum(correct) / len(correct), "heldout_pairs": len(correct)}
            loop.end(step, tokens, row, loss=loss, accuracy=accuracy)


def _keep(model: PreferenceModel, rows: list[dict[str, Any]], inputs: Inputs, out: Workspace) -> None:
    """Save the product and the rows of its metrics."""
    save_learnt_scorer(model.model, model.head, model.template.tokenizer, out)
    out.write_jsonl("samples/heldout_pairs.jsonl", rows)
    gate = fitness(in_slices(model.score, out, "fitness"), read_triples(inputs.one("fitness").folder))
    out.write_jsonl("samples/fitness.jsonl", gate.rows)
    record(out, OF_PREFERENCE)
