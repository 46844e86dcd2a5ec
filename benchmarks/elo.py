"""Elo: seconds of 1,000 bootstraps over a million votes, coverage of 95 % intervals, and equality with evalica.

Seconds: 1,000,000 simulated votes on 100 models, all pairs alike, no ties; what is timed is everything from the votes
as they are handed over (ours: a list of rows; FastChat: its data frame) to ratings of all resamples, in ours also all
pairs' intervals and ranks. FastChat's own published code (fschat 0.2.36: one logistic regression a resample of rows) is
timed over two rounds and scaled to 1,000, since all rounds cost the same. "multinomial" is the method that FastChat
went over to later (its pull request 3523), written anew here because no published package has it: counts of distinct
(pair, outcome) are resampled, then a quasi-Newton fit for each from zero, in as many processes as there are threads; 100
rounds are timed and scaled. "cpu_s" are seconds of all processors and processes together, which other work beside them
hardly changes.

Coverage: the share of 95 % intervals of simulated votes that hold the truth, 2,000 simulations, of which 500 are also
resampled. Where raters differ, the truth is what an endless number of raters would give (of 400,000 drawn ones);
"hessian" there shows what intervals that know nothing of raters do, and "bootstrap" resamples raters.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import multiprocessing
import resource
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from side import Claim, Comparison, Figures, compare, parser

from charter.ground.measure.bradley_terry import SCALE, Design, fit
from charter.ground.measure.elo import Kind, standings
from charter.ground.settings.places import find_data
from charter.ground.text.jsonl import read_jsonl

Rows = list[dict[str, Any]]

ROUNDS = 1000
TIMED_ROWS, TIMED_COUNTS = 2, 100  # rounds of the peers that are timed
TOLERANCE = 1e-6
MOST_RESAMPLED = 500  # simulations whose intervals are resampled, too, which takes longest


def million(options: argparse.Namespace) -> tuple[list[str], list[str], list[str]]:
    """model_a, model_b and winner of simulated votes."""
    votes, models = (20_000, 20) if options.quick else (1_000_000, 100)
    rng = np.random.default_rng(1)
    ratings = rng.normal(0, 200, models)
    a = rng.integers(0, models, votes)
    b = (a + rng.integers(1, models, votes)) % models
    won = rng.random(votes) < expit((ratings[a] - ratings[b]) / SCALE)
    names = np.array([f"model-{n:03d}" for n in range(models)])
    return names[a].tolist(), names[b].tolist(), np.where(won, "a", "b").tolist()


def rounds(options: argparse.Namespace) -> int:
    return 50 if options.quick else ROUNDS


class Watch:
    """Seconds since it was made, by the clock and of all processors, with processes that were waited for."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), self._cpu()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._started[0], self._cpu() - self._started[1]

    @staticmethod
    def _cpu() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )


def charter(options: argparse.Namespace) -> Figures:
    rows = [{"model_a": a, "model_b": b, "winner": w} for a, b, w in zip(*million(options), strict=True)]
    watch = Watch()
    found = standings(rows, interval="bootstrap", resamples=rounds(options))["all"]
    seconds, cpu = watch.read()
    return {"seconds": seconds, "cpu_s": cpu, "rounds": rounds(options), "models": len(found.standings)}


def _frame(options: argparse.Namespace) -> Any:
    a, b, winner = million(options)
    frame = importlib.import_module("pandas").DataFrame({"model_a": a, "model_b": b, "winner": winner})
    return frame.assign(winner="model_" + frame["winner"])


def logistic(options: argparse.Namespace) -> Figures:
    """FastChat's own functions."""
    frame, theirs = _frame(options), importlib.import_module("fastchat.serve.monitor.elo_analysis")
    watch = Watch()
    with contextlib.redirect_stderr(io.StringIO()):
        found = theirs.get_bootstrap_result(frame, theirs.compute_elo_mle_with_tie, num_round=TIMED_ROWS)
    return _scaled(watch, TIMED_ROWS, options) | {"models": found.shape[1]}


def _scaled(watch: Watch, timed: int, options: argparse.Namespace) -> Figures:
    seconds, cpu = (value * rounds(options) / timed for value in watch.read())
    return {"seconds": seconds, "cpu_s": cpu, "rounds": f"{timed}, scaled"}


def multinomial(options: argparse.Namespace) -> Figures:
    """The later method, in our words."""
    frame, pandas = _frame(options), importlib.import_module("pandas")
    timed = min(rounds(options), TIMED_COUNTS)
    watch = Watch()
    codes, names = pandas.factorize(pandas.concat([frame["model_a"], frame["model_b"]]))
    first = (frame["winner"] == "model_a").to_numpy()
    schedule = np.stack([codes[: len(frame)], codes[len(frame) :], first], axis=1)
    distinct, counts = np.unique(schedule, axis=0, return_counts=True)
    counting, counting_cpu = watch.read()
    watch = Watch()
    drawn = np.random.default_rng(0).multinomial(len(frame), counts / counts.sum(), size=timed)
    one_fit = partial(_quasi_newton, distinct, len(names))
    with multiprocessing.Pool(options.threads) as pool:
        ratings = np.array(pool.map(one_fit, drawn / len(frame), chunksize=4))
        pool.close()
        pool.join()
    np.percentile(ratings - ratings[:, :1], [2.5, 97.5], axis=0)
    figures = _scaled(watch, timed, options)
    figures["seconds"] += counting
    figures["cpu_s"] += counting_cpu
    return figures | {"models": len(names)}


def _quasi_newton(distinct: Any, models: int, weights: Any) -> Any:
    one, two, won = distinct[:, 0], distinct[:, 1], distinct[:, 2].astype(float)
    scale = np.log(10)

    def loss(ratings: Any) -> tuple[float, Any]:
        p = expit(scale * (ratings[one] - ratings[two]))
        slope = scale * (p - won) * weights
        gradient = np.bincount(one, slope, models) - np.bincount(two, slope, models)
        likelihood = weights @ (won * np.log(p) + (1 - won) * np.log1p(-p))
        return -float(likelihood), gradient

    options = {"maxiter": 100, "gtol": TOLERANCE}
    return minimize(loss, np.zeros(models), jac=True, method="L-BFGS-B", options=options).x


def _coverage(found: Iterator[tuple[Rows, np.ndarray]], kinds: tuple[Kind, ...], resamples: int) -> Figures:
    """The share of intervals against the base that hold the truth, by kind."""
    held: dict[str, list[bool]] = {kind: [] for kind in kinds}
    for number, (rows, truth) in enumerate(found):
        for kind in kinds[: None if number < MOST_RESAMPLED else -1]:
            ranking = standings(rows, base="m0", interval=kind, resamples=resamples, seed=number)["all"]
            for s in ranking.standings:
                if s.model != "m0" and s.elo is not None:
                    low, high = (-np.inf if s.low is None else s.low), (np.inf if s.high is None else s.high)
                    held[kind].append(bool(low <= truth[int(s.model[1:])] <= high))
    return {kind: 100 * float(np.mean(values)) for kind, values in held.items()}


def _simulations(options: argparse.Namespace) -> int:
    return 20 if options.quick else options.simulations


def independent_votes(options: argparse.Namespace) -> Figures:
    """Six models, 600 votes."""
    truth = np.array([0.0, 60.0, -80.0, 150.0, 20.0, -200.0])

    def simulate() -> Iterator[tuple[Rows, np.ndarray]]:
        for number in range(_simulations(options)):
            rng = np.random.default_rng(number)
            a = rng.integers(0, 6, 600)
            b = (a + rng.integers(1, 6, 600)) % 6
            won = rng.random(600) < expit((truth[a] - truth[b]) / SCALE)
            yield _rows(a, b, won), truth

    return _coverage(simulate(), ("hessian", "bootstrap"), 400)


def rater_votes(options: argparse.Namespace, raters: int, items: bool) -> Figures:
    """Four models; each rater has a taste for each (sd 0.8 nats) and for the left (mean 0.2, sd 0.5); 24 votes each, or
    (`items`) three raters on each item, whose replies are better or worse than their models' (sd 1 nat)."""
    means = np.array([0.0, 0.3, -0.4, 0.7])
    truth = _marginal(means, items)

    def simulate() -> Iterator[tuple[Rows, np.ndarray]]:
        for number in range(_simulations(options)):
            rng = np.random.default_rng(number)
            taste, left = rng.normal(0, 0.8, (raters, 4)), rng.normal(0.2, 0.5, raters)
            votes = raters * 24
            a = rng.integers(0, 4, votes // 3 if items else votes)
            b = (a + rng.integers(1, 4, len(a))) % 4
            luck = rng.normal(0, 1, len(a)) if items else np.zeros(len(a))
            if items:
                item, who = (
                    np.repeat(np.arange(len(a)), 3),
                    rng.permuted(np.tile(np.arange(raters), (len(a), 1)), axis=1)[:, :3].reshape(-1),
                )
                a, b, luck = a[item], b[item], luck[item]
            else:
                item, who = None, np.repeat(np.arange(raters), 24)
            gap = means[a] - means[b] + taste[who, a] - taste[who, b] + luck + left[who]
            yield _rows(a, b, rng.random(len(a)) < expit(gap), who, item), truth

    return _coverage(simulate(), ("clustered", "hessian", "bootstrap"), 400)


def _marginal(means: np.ndarray, items: bool) -> np.ndarray:
    """Elo that an endless number of raters, with each side as often on the left, would give."""
    rng = np.random.default_rng(0)
    taste, left = rng.normal(0, 0.8, (400_000, 2)), rng.normal(0.2, 0.5, 400_000)
    noise = taste[:, 0] - taste[:, 1] + (rng.normal(0, 1, 400_000) if items else 0.0)
    one, two = np.triu_indices(len(means), 1)
    p = np.array([(expit(g + noise + left) + expit(g + noise - left)).mean() / 2 for g in means[one] - means[two]])
    found, _ = fit(Design(len(means), one, two, 0), np.concatenate([p, 1 - p])[None])
    return found[0] * SCALE


def _rows(a: Any, b: Any, won: Any, who: Any = None, item: Any = None) -> Rows:
    found = [
        {"model_a": f"m{x}", "model_b": f"m{y}", "winner": "a" if w else "b"}
        for x, y, w in zip(a.tolist(), b.tolist(), won.tolist(), strict=True)
    ]
    for column, values in (("rater", who), ("item", item)):
        for row, value in zip(found, [] if values is None else values.tolist(), strict=False):
            row[column] = str(value)
    return found


def real_votes(options: argparse.Namespace) -> dict[str, Rows]:
    """PandaLM's people and AlpacaEval's GPT-4, ties left out."""
    people, judge = (
        read_jsonl(find_data(f"pairwise/{name}")) for name in ("pandalm_human_999", "alpaca_eval_gpt4_votes")
    )
    panda = [
        {"model_a": pair[0], "model_b": pair[1], "winner": {1: "a", 2: "b"}[row[f"annotator{n}"]]}
        for row in people
        for n in (1, 2, 3)
        if (pair := row["cmp_key"].split("_")) and row[f"annotator{n}"] in (1, 2)
    ]
    alpaca = [
        {"model_a": row["model_1"], "model_b": row["model_2"], "winner": {1.0: "a", 2.0: "b"}[row["preference"]]}
        for row in judge
        if row["preference"] in (1.0, 2.0)
    ]
    return {"pandalm_human_999": panda, "alpaca_eval_gpt4_votes": alpaca}


def evalica(options: argparse.Namespace) -> Figures:
    """The largest difference in Elo, its iteration run on until it no longer moves."""
    peer, figures = importlib.import_module("evalica"), {}
    for name, rows in real_votes(options).items():
        winners = [peer.Winner.X if row["winner"] == "a" else peer.Winner.Y for row in rows]
        columns = [row["model_a"] for row in rows], [row["model_b"] for row in rows], winners
        theirs = SCALE * np.log(peer.bradley_terry(*columns, tolerance=1e-13, limit=1_000_000).scores)
        ours = {s.model: s.elo for s in standings(rows, base=rows[0]["model_a"])["all"].standings}
        theirs = theirs - theirs[rows[0]["model_a"]]
        figures[name] = max(abs(ours[model] - theirs[model]) for model in ours)
    return {"furthest": max(figures.values()), "differences": figures}


COVERAGE = {
    "independent votes": independent_votes,
    "40 raters": partial(rater_votes, raters=40, items=False),
    "12 raters": partial(rater_votes, raters=12, items=False),
    "40 raters with shared items": partial(rater_votes, raters=40, items=True),
}
COMPARISON = Comparison(
    title=str(__doc__),
    sides={
        "charter": charter,
        "fastchat logistic": logistic,
        "fastchat multinomial": multinomial,
        **COVERAGE,
        "evalica": evalica,
    },
    claims=(
        Claim("bootstrap of a million votes", "seconds", "charter", ("fastchat logistic",), 10.0, lower=True),
        Claim("the same", "seconds", "charter", ("fastchat multinomial",), 1.0, lower=True),
        Claim("the same, all processors", "cpu_s", "charter", ("fastchat logistic",), lower=True),
        Claim("the same, all processors", "cpu_s", "charter", ("fastchat multinomial",), lower=True),
        Claim("covered by Hessian intervals, %", "hessian", "independent votes", aim=93.0),
        Claim("covered by resampled intervals, %", "bootstrap", "independent votes", aim=93.0),
        Claim("covered by intervals by rater, %", "clustered", "40 raters", aim=93.0),
        Claim("covered by intervals by rater and item, %", "clustered", "40 raters with shared items", aim=93.0),
        Claim("furthest from evalica, Elo", "furthest", "evalica", aim=0.1, lower=True),
    ),
    columns=("seconds", "cpu_s", "rounds", "models", "hessian", "bootstrap", "clustered", "differences"),
    needs=("pandas", "scikit-learn", "fschat", "evalica"),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--simulations", type=int, default=2000, help="simulations of coverage")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
