"""Scaling laws: held-out loss as a function of compute, of parameters, and of parameters and text.

    L(C) = E + (C0 / C)^a,  L(N) = E + (N0 / N)^a      along one ladder of models (Kaplan et al. 2020, arXiv 2001.08361)
    L(N, D) = E + A N^-alpha + B D^-beta               (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3)

`power_law` fits them. Letters: R resamples, M models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.counts import Row
from charter.ground.measure.metric import EXPONENT, Better, Metric
from charter.ground.measure.power_law import Law, law
from charter.ground.measure.score import Floats, Table, sum_by_cluster

SCALING = "scaling.jsonl"
BITS = "bits/byte"
FURTHER = 10.0  # the prediction is for n times the largest compute
SAME = 1.05  # models of one size differ in tokens by less than this factor
LEAST_SIZES = 3  # a fit has three parameters
LEAST_PLACES = 5  # pairs of parameters and tokens: the joint fit has five parameters
# deviation of log tokens from their trend in log parameters; below it the two effects can't be separated
LEAST_APART = 0.2


@dataclass(frozen=True, slots=True)
class Model:
    """One pretrained model: parameters without embeddings, training tokens, and training FLOPs."""

    run: str
    parameters: float
    tokens: float
    compute: float


@dataclass(frozen=True)
class Ladder:
    """Models measured on the same documents. Models of equal parameters and about equal tokens have one size and
    different seeds: the end of a step depends on the order of the text."""

    models: tuple[Model, ...]

    @staticmethod
    def of(rows: Sequence[Row]) -> Ladder:
        """The models of kept rows, in order of appearance. Raises CharterError if rows of a model differ, or a count is
        not above 0."""
        models: dict[str, Model] = {}
        for row in rows:
            model = Model(str(row["run"]), float(row["parameters"]), float(row["tokens"]), float(row["compute"]))
            if models.setdefault(model.run, model) != model or not 0 < min(_counts(model)) < math.inf:
                raise CharterError(
                    f"rows of {model.run} say {_counts(model)} of its parameters, tokens and compute; they must be "
                    "above 0 and alike in all of its rows"
                )
        return Ladder(tuple(models.values()))

    @cached_property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the models of each size, the smallest compute first."""
        groups: list[list[int]] = []
        for place in sorted(range(len(self.models)), key=lambda at: _counts(self.models[at])):
            model, first = self.models[place], self.models[groups[-1][0]] if groups else None
            if first and model.parameters == first.parameters and model.tokens <= SAME * first.tokens:
                groups[-1].append(place)
            else:
                groups.append([place])
        return tuple(sorted(map(tuple, groups), key=lambda places: self.models[places[0]].compute))

    def logs(self, name: str, places: Sequence[int] | None = None) -> Floats:
        """Natural logs of one count of the models [M]."""
        models = self.models if places is None else [self.models[place] for place in places]
        return np.log([getattr(model, name) for model in models])

    @property
    def joint(self) -> bool:
        """Whether parameters and tokens vary independently enough for L(N, D); on a ladder of one shape they don't."""
        size, text = self.logs("parameters"), self.logs("tokens")
        if len(self.sizes) < LEAST_PLACES or np.ptp(size) == 0 or np.ptp(text) == 0:
            return False
        slope, level = np.polyfit(size, text, 1)
        return bool(np.std(text - slope * size - level) >= LEAST_APART)


def _counts(model: Model) -> tuple[float, float, float]:
    return model.parameters, model.tokens, model.compute


def laws(rows: Sequence[Row]) -> dict[str, Law]:
    """The laws that kept rows allow, fitted to all documents: over compute, over parameters, and over parameters and
    tokens together ("joint")."""
    ladder = Ladder.of(rows)
    data = losses(table("scaling_exponent")(rows).sums.sum(axis=0)[None]), weights(ladder, 1)
    fits = {"compute": fit_over(ladder, "compute", *data)}
    if not _one_size(ladder):
        fits["parameters"] = fit_over(ladder, "parameters", *data)
    if ladder.joint:
        fits["joint"] = _fit_joint(ladder, *data)
    return fits


def losses(sums: Floats) -> Floats:
    """Bits per byte [R, M] of sums [R, 2 M]: bits and bytes of each model in turn."""
    return sums[:, 0::2] / sums[:, 1::2]


def weights(ladder: Ladder, resamples: int) -> Floats:
    """Weight of each model [R, M]: 1 for a single resample; for several the models of a size are resampled, so
    variation over seeds widens an interval."""
    counts = np.ones((resamples, len(ladder.models)))
    rng = np.random.default_rng(0)
    for places in ladder.sizes:
        if resamples > 1 and len(places) > 1:
            each = np.full(len(places), 1 / len(places))
            counts[:, places] = rng.multinomial(len(places), each, size=resamples)
    return counts


def fit_over(ladder: Ladder, name: str, loss_RM: Floats, weight_RM: Floats) -> Law:
    """The law of loss over "compute", "parameters" or "tokens" along the ladder."""
    return law([ladder.logs(name)], loss_RM, weight_RM)


def predict_further(ladder: Ladder, loss_RM: Floats, weight_RM: Floats) -> Floats:
    """The loss [R] that the law predicts for FURTHER times the largest compute."""
    return fit_over(ladder, "compute", loss_RM, weight_RM).at(ladder.logs("compute").max() + math.log(FURTHER))


def predict_largest(ladder: Ladder, loss_RM: Floats, weight_RM: Floats) -> tuple[Floats, Floats]:
    """(predicted, measured) loss [R] of the largest size, by the law of the others; of two others without a floor."""
    *others, largest = ladder.sizes
    smaller = [place for places in others for place in places]
    compute = ladder.logs("compute", smaller)
    predicted = law([compute], loss_RM[:, smaller], weight_RM[:, smaller], len(others) >= LEAST_SIZES)
    measured = np.average(loss_RM[:, largest], axis=1, weights=weight_RM[:, largest])
    return predicted.at(ladder.logs("compute", largest)[0]), measured


def _fit_joint(ladder: Ladder, loss_RM: Floats, weight_RM: Floats) -> Law:
    return law([ladder.logs("parameters"), ladder.logs("tokens")], loss_RM, weight_RM)


def _one_size(ladder: Ladder) -> bool:
    return bool(np.ptp(ladder.logs("parameters")) == 0)


def _gap(ladder: Ladder, loss_RM: Floats, weight_RM: Floats) -> Floats:
    predicted, measured = predict_largest(ladder, loss_RM, weight_RM)
    return predicted - measured


def _share(ladder: Ladder, loss_RM: Floats, weight_RM: Floats) -> Floats:
    exponents = _fit_joint(ladder, loss_RM, weight_RM).exponents
    return exponents[:, 2] / (exponents[:, 1] + exponents[:, 2])


# name -> (ladder, loss, weight) -> [R]
LAW_NUMBERS: Mapping[str, Callable[[Ladder, Floats, Floats], Floats]] = {
    "scaling_exponent": lambda ladder, *data: fit_over(ladder, "compute", *data).exponent,
    "scaling_floor": lambda ladder, *data: fit_over(ladder, "compute", *data).floor,
    "scaling_further": predict_further,
    "scaling_left_out": lambda *data: predict_largest(*data)[0],
    "scaling_left_out_gap": _gap,
    "scaling_exponent_size": lambda ladder, *data: fit_over(ladder, "parameters", *data).exponent,
    "scaling_joint_size": lambda *data: _fit_joint(*data).exponents[:, 1],
    "scaling_joint_text": lambda *data: _fit_joint(*data).exponents[:, 2],
    "scaling_joint_floor": lambda *data: _fit_joint(*data).floor,
    "scaling_optimal_share": _share,
}


@dataclass(frozen=True, slots=True)
class LawStatistic:
    """One number of a ladder's law as a statistic of sums [..., 2 M]. Several sums are resamples of documents; then the
    models of each size are resampled as well (`weights`)."""

    name: str
    ladder: Ladder

    def __call__(self, sums: Floats) -> Floats:
        flat = sums.reshape(-1, sums.shape[-1])
        if not self.computable:
            return np.full(sums.shape[:-1], np.nan)
        values = LAW_NUMBERS[self.name](self.ladder, losses(flat), weights(self.ladder, len(flat)))
        return values.reshape(sums.shape[:-1])

    @property
    def computable(self) -> bool:
        """Whether the ladder has what the number needs."""
        if len(self.ladder.sizes) < LEAST_SIZES:
            return False
        if self.name.startswith(("scaling_joint", "scaling_optimal")):
            return self.ladder.joint
        return not (self.name == "scaling_exponent_size" and _one_size(self.ladder))


def table(name: str) -> Callable[[Sequence[Row]], Table]:
    """A number of the law, clustered by document; `n` counts documents. Every model has a row for each."""

    def each(rows: Sequence[Row]) -> Table:
        ladder = Ladder.of(rows)
        place = {model.run: 2 * number for number, model in enumerate(ladder.models)}
        sums = ((str(r["id"]), (r["nats"] / math.log(2), float(r["bytes"])), place[str(r["run"])]) for r in rows)
        by_document = sum_by_cluster(sums, 2 * len(ladder.models), LawStatistic(name, ladder))
        return replace(by_document, n=len(by_document.clusters))

    return each


def _metric(name: str, meaning: str, unit: str = EXPONENT, better: Better = "neither", *, label: str) -> Metric:
    return Metric(name, SCALING, table(name), better, meaning, unit, about="others", label=label)


OF_SCALING: tuple[Metric, ...] = (
    _metric(
        "scaling_exponent",
        "a of L(C) = E + (C0 / C)^a: how fast loss falls with compute",
        label="Exponent over compute",
    ),
    _metric("scaling_floor", "E of L(C): the loss that no compute takes away", BITS, label="Floor of the law"),
    _metric(
        "scaling_further",
        f"loss predicted for {FURTHER:g} times the largest compute",
        BITS,
        better="lower",
        label="Predicted for 10 times the compute",
    ),
    _metric(
        "scaling_left_out",
        "loss predicted for the largest size by the smaller ones",
        BITS,
        label="Largest size, predicted by the smaller ones",
    ),
    _metric(
        "scaling_left_out_gap",
        "predicted less measured loss of the largest size",
        BITS,
        better="zero",
        label="Predicted less measured, largest size",
    ),
    _metric(
        "scaling_exponent_size",
        "a of L(N) along the same ladder: loss over parameters",
        label="Exponent over parameters",
    ),
    _metric(
        "scaling_joint_size", "alpha of L(N, D) = E + A N^-alpha + B D^-beta", label="Exponent of size, with text apart"
    ),
    _metric("scaling_joint_text", "beta of L(N, D)", label="Exponent of text, with size apart"),
    _metric("scaling_joint_floor", "E of L(N, D)", BITS, label="Floor, with size and text apart"),
    _metric(
        "scaling_optimal_share",
        "the best size grows as compute to the power beta / (alpha + beta)",
        label="Best size grows as compute to the power",
    ),
)
