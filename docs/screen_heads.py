"""Learns the encoder's head for prompts anew, with harmless work of many kinds; adapters and all else stay.

    python docs/screen_heads.py --out src/charter/data/acceptable_use_encoder.safetensors

    minimise  mean_i log(1 + exp(-y_i (w x_i + b)))  +  PULL / 2 |w - w_0|^2

x are the vectors of the shipped encoder, w_0 the shipped head. Learns from violating prompts, look-alikes and ordinary
prompts of docs/screen.py, and from pieces of harmless work as the screen reads them (sentences, windows, other
spellings): charter's own system texts and tables, descriptions of installed packages, the standard library,
and documents in the public domain, all of the split `train` of docs/screen_kinds.py. Reads bfloat16.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import screen
import screen_kinds
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from scipy.special import expit

from charter.ground.moderation.classifiers.encoder import Encoder, encoder_folder
from charter.ground.moderation.classifiers.probe import SHIPPED_ENCODER, Probe
from charter.ground.moderation.classifiers.regression import Floats
from charter.ground.moderation.places import places
from charter.ground.settings.sources import shipped_folder

FREE = {"python peps", "us presidential addresses", "public domain essays stories", "encyclopaedia"}
BAD, ALIKE, ORDINARY = 2400, 1300, 500  # prompts of docs/screen.py
PIECES = 110  # pieces of documents of each source
PULL = 1e-2  # of weights to the old ones, chosen on dev
RISE = 0.2  # of the threshold with the pieces of a text, chosen on dev
STEPS = 150
Text = screen.Text


def violating(found: Sequence[Text]) -> list[Text]:
    """The violating prompts that aren't near to a measured one."""
    plain, bad = Encoder.open(encoder_folder(), {}), [text for text in found if text.bad]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = screen.vectors(plain, [_cut(text) for text in screen.measured()]).float()
        near = (screen.vectors(plain, [_cut(text.said) for text in bad]).float() @ theirs.T).max(1).values
    return [text for text, cosine in zip(bad, near.tolist(), strict=True) if cosine < screen.NEAR]


def _cut(text: str) -> str:
    return " ".join(text.split()[:24])


def pieces(dice: random.Random) -> list[str]:
    """Pieces of harmless work, as the screen reads them."""
    pools: dict[str, list[str]] = {}
    sources = [
        *(entry for entry in screen_kinds.documents() if entry[0] in FREE),
        *screen_kinds.packages(),
        *(entry for entry in screen_kinds.code() if entry[0] == "standard library"),
    ]
    for source, group, text in sources:
        if screen_kinds.split_of(group) == "train":
            pools.setdefault(source, []).append(text)
    rows = screen_kinds.packed("json_schema/test_suite_draft2020-12.jsonl.gz")
    pools["json"] = [json.dumps(row, indent=1) for row in rows]
    found: list[str] = []
    for source, texts in sorted(pools.items()):
        code = source == "standard library"
        questions = screen_kinds.CODE_QUESTIONS if code else screen_kinds.QUESTIONS
        for number in range(PIECES):
            words = dice.choice(texts).split(" ")
            most = min(len(words), dice.choice((30, 60, 90)))
            start = dice.randint(0, len(words) - most)
            talk = screen_kinds.about(" ".join(words[start : start + most]), number, questions)[-1:]
            read = [place.messages[-1]["content"] for place in places(talk)]
            found += read[:1] * (number % 3 == 0) + dice.sample(read[1:], min(3, len(read) - 1))
    ours = [
        place.messages[-1]["content"] for one in screen_kinds.own("train") for place in places(one.messages)
    ]
    return [text for text in ours + found if text.strip()]


def texts(dice: random.Random) -> list[Text]:
    """What is learnt from."""
    found = list({(text.before, text.said.lower()): text for text in screen.prompts() if text.said}.values())
    good = [text for text in found if not text.bad and not text.kept_out]
    alike, rest = ([text for text in good if text.alike is which] for which in (True, False))
    drawn = [dice.sample(violating(found), BAD), dice.sample(alike, ALIKE), dice.sample(rest, ORDINARY)]
    return [
        *(text for part in drawn for text in part),
        *(Text("prompt", "", text, False) for text in pieces(dice)),
    ]


def learnt(x_NF: Floats, bad_N: Floats, old_F: Floats, old_bias: float) -> tuple[Floats, float]:
    """Weights [F] and bias, from vectors and whether each violates."""

    def loss(flat: Floats) -> tuple[float, Floats]:
        weight, bias = flat[:-1], flat[-1]
        odds_N = x_NF @ weight + bias
        error_N = (expit(odds_N) - bad_N) / len(bad_N)
        value = np.logaddexp(0, np.where(bad_N > 0, -odds_N, odds_N)).mean()
        value += PULL / 2 * ((weight - old_F) ** 2).sum()
        return float(value), np.append(x_NF.T @ error_N + PULL * (weight - old_F), error_N.sum())

    start = np.append(old_F, old_bias)
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    return flat[:-1], float(flat[-1])


def vectors_of(found: Sequence[Text]) -> Floats:
    """Vectors [N, F] of the first window of each text, by the shipped encoder."""
    encoder = Probe.on_encoder().states
    windows = [encoder.windows(" ".join(text.said.split()[:50]), text.before)[0] for text in found]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return encoder.vectors(windows).half().double().numpy()


def main() -> None:
    """Gathers, learns, writes."""
    parser = argparse.ArgumentParser(description="Learns the encoder's head for prompts anew.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    start = shipped_folder() / SHIPPED_ENCODER
    found, tensors = texts(random.Random(options.seed)), load_file(start)
    old_F, old_bias = (
        tensors["prompt.violation.weight"][:, 1].numpy(),
        float(tensors["prompt.violation.bias"][1]),
    )
    bad_N = np.array([float(text.bad) for text in found])
    print(f"{len(found):,} texts, {int(bad_N.sum()):,} violate", flush=True)
    weight, bias = learnt(vectors_of(found), bad_N, old_F, old_bias)
    tensors["prompt.violation.weight"][:, 1] = torch.from_numpy(weight)
    tensors["prompt.violation.bias"][1] = bias
    with safe_open(start, "np") as file:
        notes = dict(file.metadata())
    notes["prompt"] = json.dumps(json.loads(notes["prompt"]) | {"rise": RISE})
    save_file(tensors, options.out, metadata=notes)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
