"""Builds a screen from names: the policy, the classifiers with their models, the thresholds.

encoder, encoder:REF   a sentence encoder trained on the policy, from its package, a folder or the hub
probe, probe:REF       logistic regression on a checkpoint's states (default: the packaged model)
words                  phrases that the policy names
grader:REF             a model that judges category by category; any checkpoint or server
guard:REF              a guard model that answers safe or unsafe, such as openai:URL#MODEL
preference:REF         a preference model, for replies
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.progress import Progress
from charter.ground.generate.assistant import open_assistant
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.sentence_encoder import is_installed
from charter.ground.moderation.classifiers.classifier import Classifier
from charter.ground.moderation.classifiers.grader import Grader
from charter.ground.moderation.classifiers.guard import Guard
from charter.ground.moderation.classifiers.preference import PreferenceClassifier
from charter.ground.moderation.classifiers.probe import DEFAULT, Probe
from charter.ground.moderation.classifiers.words import Words
from charter.ground.moderation.policy import Policy, open_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import Thresholds, read_thresholds, shipped_thresholds
from charter.ground.settings.problems import suggest
from charter.ground.settings.sources import resolve

KINDS = ("encoder", "probe", "words", "grader", "guard", "preference")


def default_classifiers() -> tuple[str, ...]:
    """The encoder if its package is installed, else the probe; and the policy's words."""
    return ("encoder" if is_installed() else "probe", "words")


def open_screen(
    policy: str | Path | None = None,
    classifiers: Sequence[str] = (),
    thresholds: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Screen:
    """The screen of a policy (a path; None: the shipped one) and classifiers by name (none: the default). A probe of
    any other checkpoint than the packaged one learns at its first start, which takes minutes. Raises CharterError."""
    opened = open_policy(policy)
    by_version: dict[str, Thresholds] = dict(shipped_thresholds())
    if thresholds is not None:
        by_version |= read_thresholds(thresholds)
    return Screen(
        opened,
        [open_classifier(name, opened, device, progress) for name in classifiers or default_classifiers()],
        by_version,
    )


def open_classifier(name: str, policy: Policy, device: str = "cpu", progress: Progress | None = None) -> Classifier:
    """One classifier by name. Raises CharterError for an unknown kind, and for a missing or superfluous model."""
    kind, _, ref = name.partition(":")
    if kind == "probe":
        return Probe.open(ref or DEFAULT, device, progress=progress)
    if kind == "encoder":
        return Probe.on_encoder(ref, device)
    if kind == "words" and not ref:
        return Words(policy)
    if kind in ("grader", "guard", "preference") and not ref:
        raise CharterError(f"{name} needs a model: write {name}:REF, such as {name}:runs/demo/pm_grader")
    if kind in ("grader", "guard"):
        source, made_by = _source(ref), Grader if kind == "grader" else Guard
        return made_by(open_assistant(source, device), policy, source.id)
    if kind == "preference":
        source = _source(ref)
        return PreferenceClassifier(PreferenceModel.open(checkpoint_folder(source), device), policy, source.id)
    if kind == "words":
        raise CharterError(f"{name}: words needs no model; write words")
    raise CharterError(f"{name}: no such kind of classifier; {suggest(kind, KINDS)}")


def _source(ref: str) -> Input:
    """A reference as a filled role, as the functions that open models expect it."""
    source = resolve(ref)
    return Input("classifier", ref, source.kind, source.variant, source.path, source.ref, source.digest)
