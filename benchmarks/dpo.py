"""Direct preference optimisation: the dpo room against TRL's DPOTrainer, on the same pairs and tokens.

First the loss: one batch, a policy that has left its start, both losses and gradient norms; a soft label p is p times
the trainer's loss plus 1 - p times its loss on the same pairs turned round. Then speed: one pass over the first pairs
of HH-RLHF helpful-base, both sides of a pair within 512 tokens, 8 pairs an optimizer step, full weights in float32. The
room reads the reference in one pass before and computes a prompt once for both replies; the trainer reads the reference
likewise, or beside each step by a second model, and computes each prompt twice. Seconds hold the reference's.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from clock import Clock, LoopDone, plain_training, trainer_marks
from material import filled, model_folder, pairs, template_of
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.progress import Bar
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.rankings import rank
from charter.ground.model.checkpoint import choose_padding, load_policy
from charter.ground.text.dialogue import Comparison as Pair
from charter.ground.text.records import write_comparisons
from charter.ground.text.template import Template
from charter.rooms.dpo.learning import accumulate, add_reference
from charter.rooms.dpo.run import run
from charter.rooms.dpo.settings import Settings

CONTEXT = 512
BATCH = 8
LABELS = (1.0, 0.8)
AWAY = 0.02  # how far the policy of the equality check has left its start: relative noise on every weight


class Bars(Clock):
    """Notes how long the reference takes, and then a mark for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.reference, self.what = 0.0, ""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """Itself, for this bar."""
        self.what = description
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.what != "reference":
            raise LoopDone
        self.reference = time.perf_counter() - self.marks[0]


def _pairs(options: argparse.Namespace, template: Template) -> list[Pair]:
    return pairs(template, 16 if options.quick else options.pairs, CONTEXT)


def _rows(template: Template, found: Sequence[Pair]) -> list[dict[str, list[int]]]:
    rows = []
    for pair in found:
        prompt, chosen = template.encode_reply(pair.messages, pair.chosen)
        _, rejected = template.encode_reply(pair.messages, pair.rejected)
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return rows


def _trainer(folder: Path, template: Template, found: Sequence[Pair], place: Path, **more: Any) -> Any:
    """DPOTrainer on these token ids; `reference_seconds` is what its pass over the reference took."""
    datasets, transformers, trl = map(importlib.import_module, ("datasets", "transformers", "trl"))

    class Given(trl.DPOTrainer):  # type: ignore[name-defined,misc]
        reference_seconds = 0.0

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *given: Any) -> Any:
            started = time.perf_counter()
            made = super()._precompute_ref_logps(*given)
            self.reference_seconds = time.perf_counter() - started
            return made

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if chosen := choose_padding(template.tokenizer):
        tokenizer.pad_token = chosen[1]
    model, start = (
        transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        for name in (more.pop("policy", folder), folder)
    )
    arguments = plain_training(place) | {"num_train_epochs": 1, "max_length": CONTEXT, "beta": 0.1} | more
    return Given(
        model=model,
        ref_model=None if arguments.get("precompute_ref_log_probs") else start,
        args=trl.DPOConfig(**arguments),
        train_dataset=datasets.Dataset.from_list(_rows(template, found)),
        processing_class=tokenizer,
    )


def equal(options: argparse.Namespace) -> Figures:
    """Loss and gradient norm of both on one batch, for a sure and a soft label, and the furthest apart."""
    transformers = importlib.import_module("transformers")
    folder = model_folder(options)
    template = template_of(folder)
    found = _pairs(options, template)[:BATCH]
    with tempfile.TemporaryDirectory() as place:
        policy, out = Path(place) / "policy", Workspace(Path(place) / "out", seed=1)
        left = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        torch.manual_seed(1)
        with torch.no_grad():
            for weight in left.parameters():
                weight.mul_(1 + AWAY * torch.randn_like(weight))
        left.save_pretrained(policy)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(policy)
        start, model = load_policy(folder)[0], load_policy(policy)[0]
        theirs = []
        for turned in (False, True):
            own = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in found] if turned else found
            trainer = _trainer(folder, template, own, Path(place), policy=policy)
            trainer.model.train()
            batch = trainer.data_collator(list(trainer.train_dataset))
            loss = trainer.compute_loss(trainer.model, batch)
            loss.backward()
            theirs.append((loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters()}))
        figures: Figures = {"pairs": len(found)}
        for p in LABELS:
            labelled = [replace(pair, p_chosen=p, weight=1.0) for pair in found]
            groups = add_reference(start, rank(template, labelled, CONTEXT, lambda c: c.weight), Settings(), out)
            model.zero_grad()
            loss = accumulate(model, groups, Settings(), out)[0]["loss"]
            norm = float(torch.stack([w.grad.norm() for w in model.parameters() if w.grad is not None]).norm())
            (first, ones), (second, others) = theirs
            mixed = torch.stack([(p * ones[n] + (1 - p) * others[n]).norm() for n in ones]).norm()
            figures |= {
                f"loss p={p}": loss,
                f"its loss p={p}": p * first + (1 - p) * second,
                f"gradient norm p={p}": norm,
                f"its gradient norm p={p}": float(mixed),
            }
    figures["apart"] = max(abs(figures[f"loss p={p}"] - figures[f"its loss p={p}"]) for p in LABELS)
    figures["gradient_apart"] = max(
        abs(figures[f"gradient norm p={p}"] / figures[f"its gradient norm p={p}"] - 1) for p in LABELS
    )
    figures["losses"] = {f"p={p}": f"{figures[f'loss p={p}']:.7f} {figures[f'its loss p={p}']:.7f}" for p in LABELS}
    return figures


def _figures(marks: list[float], reference: float, rows: list[dict[str, list[int]]]) -> Figures:
    seconds = marks[-1] - marks[0] + reference
    return {
        "pairs_per_second": len(rows) / seconds,
        "seconds": seconds,
        "seconds_a_step": (marks[-1] - marks[0]) / (len(marks) - 1),
        "reference_seconds": reference,
        "pairs": len(rows),
        "tokens": sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows),
        "tokens_shared": sum(len(r["prompt_ids"]) for r in rows),
        "steps": len(marks) - 1,
    }


def charter(options: argparse.Namespace) -> Figures:
    """The room as a recipe would run it."""
    folder = model_folder(options)
    template = template_of(folder)
    found = _pairs(options, template)
    settings = Settings(
        batch=BATCH, context=CONTEXT, lr=1e-5, warmup=0, schedule="constant", heldout_share=0.0, save_every=10**9
    )
    clock = Bars()
    with tempfile.TemporaryDirectory() as place:
        rows = Path(place) / "rows.jsonl"
        write_comparisons(rows, found)
        inputs = [filled("policy", folder, "checkpoint", "policy"), filled("comparisons", rows, "comparisons")]
        with suppress(LoopDone):
            run(settings, Inputs(inputs), Workspace(Path(place) / "out", seed=1, progress=clock))
    return _figures(clock.marks, clock.reference, _rows(template, found))


def trl(options: argparse.Namespace, batch: int, before: bool) -> Figures:
    """DPOTrainer; `before`: it reads the reference in a pass of its own, else beside each step."""
    transformers = importlib.import_module("transformers")
    folder = model_folder(options)
    template = template_of(folder)
    found = _pairs(options, template)
    with tempfile.TemporaryDirectory() as place:
        trainer = _trainer(
            folder,
            template,
            found,
            Path(place),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=BATCH // batch,
            precompute_ref_log_probs=before,
        )
        marks = trainer_marks(trainer, transformers.TrainerCallback)
        return _figures(marks, trainer.reference_seconds, _rows(template, found))


PEERS = {f"trl batch {batch}": partial(trl, batch=batch, before=True) for batch in (2, 4, 8)}
PEERS["trl batch 4, reference beside"] = partial(trl, batch=4, before=False)
COMPARISON = Comparison(
    title=str(__doc__),
    sides={"equal": equal, "charter": charter, **PEERS},
    claims=(
        Claim("furthest from its loss, sure and soft labels", "apart", "equal", aim=1e-5, lower=True),
        Claim("furthest from its gradient norm", "gradient_apart", "equal", aim=1e-3, lower=True),
        Claim("its best mode", "pairs_per_second", "charter", tuple(PEERS), 1.3),
        Claim("its best mode, a step alone", "seconds_a_step", "charter", tuple(PEERS), lower=True),
    ),
    columns=(
        "pairs_per_second",
        "seconds",
        "seconds_a_step",
        "reference_seconds",
        "pairs",
        "tokens",
        "tokens_shared",
        "steps",
        "apart",
        "gradient_apart",
        "losses",
    ),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--pairs", type=int, default=200, help="pairs of the pass")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
