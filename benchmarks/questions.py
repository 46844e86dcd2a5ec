"""Multiple choice: the scorer against lm-eval's Hugging Face backend on five-shot MMLU in its plain form.

Ten subjects, 20 questions each, prompts of about 600 tokens that end in "Answer:", the letters " A" to " D" scored
behind them, float32. Questions a second count everything from text to scores. Each side warms up with two questions.
"equal choices" asks both sides the same questions in one process, ARC-Challenge and RACE-high (200 each) beside MMLU,
and counts those whose likeliest letter is the same. "limit" is what this machine's matrix products allow: the operations
that the questions need when each subject's examples are read once, over the measured operations a second.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from exams import SUBJECTS, Exam, arc_challenge, mmlu, race_high
from material import MODEL, model_folder
from roofline import heading, peak, reading
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.prefill import prefix_groups

BATCHES = (1, 4, 8, 16, 32)
SIDE_BY_SIDE = 8  # lm-eval's batch where only its choices count

Score = Callable[[Sequence[Exam]], list[list[float]]]


def _asked(options: argparse.Namespace) -> list[Exam]:
    return mmlu(SUBJECTS[:2], 3) if options.quick else mmlu(SUBJECTS, 20)


def _folder(options: argparse.Namespace) -> Path:
    """The real model, in a smoke run too: a random one has no room for five examples."""
    options.model = options.model or MODEL
    return model_folder(options)


def _rate(score: Score, exams: list[Exam]) -> Figures:
    score(exams[:2])
    started = time.perf_counter()
    found = score(exams)
    return {"questions_s": len(found) / (time.perf_counter() - started), "questions": len(found)}


def _ours(options: argparse.Namespace) -> Score:
    return LocalAssistant.open(_folder(options)).score


def _theirs(options: argparse.Namespace, batch: int) -> Score:
    instance = importlib.import_module("lm_eval.api.instance").Instance
    made = importlib.import_module("lm_eval.models.huggingface").HFLM(
        pretrained=str(_folder(options)), device="cpu", dtype="float32", batch_size=batch
    )

    def score(exams: Sequence[Exam]) -> list[list[float]]:
        pairs = [(prompt, text) for prompt, texts in exams for text in texts]
        requests: list[Any] = [instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
        flat = iter(made.loglikelihood(requests, disable_tqdm=True))
        return [[next(flat)[0] for _ in texts] for _, texts in exams]

    return score


def charter(options: argparse.Namespace) -> Figures:
    """The scorer that the rooms use, all questions at once."""
    return _rate(_ours(options), _asked(options))


def lm_eval(options: argparse.Namespace, batch: int) -> Figures:
    """The same prompts and continuations as requests of the harness."""
    return _rate(_theirs(options, batch), _asked(options))


def equal_choices(options: argparse.Namespace) -> Figures:
    """Shares of questions on which both sides find the same letter likeliest, and the largest difference of a
    log-probability."""
    count = 6 if options.quick else 200
    sets = {"mmlu": _asked(options), "arc": arc_challenge(count), "race": race_high(count)}
    ours, theirs = _ours(options), _theirs(options, SIDE_BY_SIDE)
    figures: Figures = {}
    largest = 0.0
    for name, exams in sets.items():
        pairs = list(zip(ours(exams), theirs(exams), strict=True))
        same = [max(a) == a[b.index(max(b))] for a, b in pairs]
        figures[f"{name}_equal"] = sum(same) / len(same)
        largest = max([largest, *(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True))])
    return figures | {"largest_difference": largest}


def limit(options: argparse.Namespace) -> Figures:
    """Questions a second if nothing were done but the products that they need, at the speed of large ones."""
    made = LocalAssistant.open(_folder(options))
    prompts = [made.encode(prompt) for prompt, _ in _asked(options)]
    shape, needed = made.engine.model.shape, 0.0
    for shared, members in prefix_groups(prompts):
        places = [*range(shared), *(place for i in members for place in range(shared, len(prompts[i])))]
        needed += reading(shape, places)
    needed += heading(shape, len(prompts))
    speed = peak()
    return {
        "questions_s": len(prompts) * speed / needed,
        "gflop_s": speed / 1e9,
        "gflop_question": needed / len(prompts) / 1e9,
    }


PEERS = {f"lm-eval batch {batch}": partial(lm_eval, batch=batch) for batch in BATCHES}
COMPARISON = Comparison(
    title=str(__doc__),
    sides={"charter": charter, **PEERS, "limit": limit, "equal choices": equal_choices},
    claims=(
        Claim("five-shot MMLU", "questions_s", "charter", tuple(PEERS), 5.5),
        Claim("share of the machine's limit", "questions_s", "charter", ("limit",)),
        Claim("MMLU, equal choices", "mmlu_equal", "equal choices", aim=0.995),
        Claim("ARC-Challenge, equal choices", "arc_equal", "equal choices", aim=0.995),
        Claim("RACE-high, equal choices", "race_equal", "equal choices", aim=0.995),
    ),
    columns=("questions_s", "gflop_s", "gflop_question", "mmlu_equal", "arc_equal", "race_equal", "largest_difference"),
    needs=("transformers", "lm-eval"),
)


def main() -> None:
    """Command line."""
    compare(COMPARISON, parser(COMPARISON.title).parse_args())


if __name__ == "__main__":
    main()
