"""Direct preference optimisation: the policy learns from pairs without a preference model (Rafailov 2023).

A reply's reward is beta times the log ratio of its probability under the policy and under the start. A pair's loss is
the cross-entropy of its soft label with sigma of the reward difference. A prompt is read once for all its replies.
"""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.rankings import count_origins, count_pairs, rank
from charter.ground.learn import supervised
from charter.ground.learn.loop import Loop
from charter.ground.learn.parallel import total
from charter.ground.learn.product import merge_adapters, save_learnt
from charter.ground.learn.step import check_finite
from charter.ground.measure.metrics import OF_PREFERENCE
from charter.ground.measure.reporting import record
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.lora import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.ground.text.packing import fill_steps
from charter.ground.text.template import Template
from charter.rooms.dpo.learning import Group, accumulate, add_reference, curve, score_heldout
from charter.rooms.dpo.pairs import keep_fitting, read_replay, replay_of_step, split
from charter.rooms.dpo.settings import Settings

# metrics: the last logged values
FINAL = ("loss", "margin", "log_ratio", "replay_loss", "heldout_loss")


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint, and samples/heldout_pairs.jsonl if pairs were held out."""
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    choose_weights(model, settings, derive_seed(out.seed, "adapters"))
    train, heldout, replay, counts = _groups(settings, inputs, model, Template(tokenizer, tokenizer.template), out)
    steps = fill_steps(train, lambda group: len(group.ranking.pairs), settings.batch, settings.epochs, out.seed)

    loop = Loop({"model": (model, settings.lr)}, settings, out, settings.weight_decay)
    pairs_seen = sum(_pairs(step) for step in steps[: loop.done])
    with loop.over("dpo", len(steps)) as remaining:
        for step in remaining:
            figures, tokens = accumulate(model, steps[step], settings, out)
            names = [pair.comparison.id for group in steps[step] for pair in group.ranking.pairs]
            if more := replay_of_step(replay, step, settings.replay_batch, out.seed):
                loss, extra = supervised.accumulate(
                    model, more, settings.microbatch_tokens, out.precision, settings.replay_weight
                )
                figures["replay_loss"] = total(loss) / settings.replay_weight
                tokens, names = tokens + extra, names + [row.id for row in more]
                check_finite(figures["replay_loss"], "replay loss", step, names)
            rates = loop.update(step, figures["loss"], names)
            if settings.evaluate_every and (step + 1) % settings.evaluate_every == 0:
                figures |= curve(score_heldout(model, heldout, settings, out))
            pairs_seen += _pairs(steps[step])
            row = {"pairs": pairs_seen, "tokens_read": tokens, **rates, **figures}
            loop.end(step, tokens, row, loss=figures["loss"], margin=figures["margin"])
    with merge_adapters(model) as merged_model:
        save_learnt(merged_model, tokenizer, out)
        if heldout:
            rows = score_heldout(merged_model, heldout, settings, out)
            out.write_jsonl("samples/heldout_pairs.jsonl", rows)
            out.log(step=len(steps), **curve(rows))
    _record(counts, out)


def _groups(
    settings: Settings, inputs: Inputs, model: Transformer, template: Template, out: Workspace
) -> tuple[list[Group], list[Group], list[supervised.Row], dict[str, int]]:
    """Training groups, held-out groups, replayed dialogues, and counts of them."""
    context = min(settings.context, model.shape.context)
    train_rows, heldout_rows, counts = split(settings, inputs, out.seed)
    if unmatched := sum(counts.values()):
        out.note(f"{out.step}: {unmatched} replies of better and worse have no counterpart for their prompt")
    train, heldout = (keep_fitting(template, rows, context) for rows in (train_rows, heldout_rows))
    if not train:
        raise CharterError(
            f"every pair is over the context of {context} tokens; raise `context`, at most to the model's own"
        )
    replay, overlong = read_replay(settings, inputs, template, context, out.seed)
    counts |= {"train_pairs": len(train), "heldout_pairs": len(heldout), "replayed": len(replay)}
    counts["dropped_overlong"] = len(train_rows) + len(heldout_rows) - len(train) - len(heldout) + overlong
    counts |= count_origins(train)
    rankings = [rank(template, rows, context, lambda c: c.weight) for rows in (train, heldout)]
    groups = add_reference(model, rankings[0] + rankings[1], settings, out)
    return groups[: len(rankings[0])], groups[len(rankings[0]) :], replay, counts


def _pairs(groups: Sequence[Group]) -> int:
    return count_pairs([group.ranking for group in groups])


def _record(counts: dict[str, int], out: Workspace) -> None:
    out.counts(counts)
    for name in FINAL:
        if (value := last_logged(out.path, name)) is not None:
            out.metric(name, value)
    record(out, OF_PREFERENCE)
