"""The facts on a card that are not measured: the model, how it was made, and where everything was made."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import yaml

from charter.ground.artifact.curves import read_object
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.hub import HUB_NAME
from charter.ground.reports.stages import POLICY
from charter.ground.settings.packages import package_of
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import SHARE_IN_TEXT
from charter.rooms.card.settings import Settings

# Stands for red teaming by machine among the tasks of a card.
ATTACKS = "attacks"
COUNTED = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Subjects that a reader may ask about, and the tasks that measure each.
USES = (
    ("search", ()),
    ("coding", ("humaneval",)),
    ("other languages", ("translation",)),
    ("long documents", ("position", "recall", "quality")),
    ("structured output", ()),
)
RISKS = (
    ("truthfulness", ("truthfulqa",)),
    ("social bias", ("bbq",)),
    ("other languages", ("translation",)),
    ("long context", ("position", "recall", "quality")),
    ("coding", ("humaneval",)),
    ("attacks by machine", (ATTACKS,)),
)
# What the numbers are split by (the factors of Mitchell et al.), and a metric that each has.
FACTORS = {
    "topics met in training or not": "harm_rate_unseen",
    "seen and unseen kinds of look-alikes": "lookalike_refusal_rate_unseen",
    "helpful, honest and harmless choices": "hhh_content_helpful",
    "social dimension": "bbq_ambiguous_bias_age",
    "race and gender of whom is decided on": "decisions_gap_race",
    "occupation": "occupations_bias",
    "subject": "mmlu_subjects",
    "language": "translation_bleu",
    "position in a document": "position_exponent",
    "length and place of a fact": "recall",
}
REFERENCES = (
    "Anthropic, Model Card and Evaluations for Claude Models, 2023.",
    "Bai et al., Constitutional AI: Harmlessness from AI Feedback, arXiv 2212.08073, 2022.",
    "Bai et al., Training a Helpful and Harmless Assistant with RL from Human Feedback, arXiv 2204.05862, 2022.",
    "Askell et al., A General Language Assistant as a Laboratory for Alignment, arXiv 2112.00861, 2021.",
    "Gao, Schulman and Hilton, Scaling Laws for Reward Model Overoptimization, arXiv 2210.10760, 2022.",
    "Ganguli et al., Red Teaming Language Models to Reduce Harms, arXiv 2209.07858, 2022.",
    "Röttger et al., XSTest: identifying exaggerated safety behaviours, arXiv 2308.01263, 2023.",
    "Kaplan et al., Scaling Laws for Neural Language Models, arXiv 2001.08361, 2020.",
    "Hoffmann et al., Training Compute-Optimal Large Language Models, arXiv 2203.15556, 2022.",
    "Mitchell et al., Model Cards for Model Reporting, arXiv 1810.03993, 2019.",
    "Wilson, Probable inference, the law of succession, and statistical inference, JASA, 1927.",
    "Cameron, Gelbach and Miller, Bootstrap-based improvements for inference with clustered errors, REStat, 2008.",
    "Zou and Donner, Construction of confidence limits about effect measures, Statistics in Medicine, 2008.",
)


def base_model(settings: Settings, run: Run) -> str:
    """The hub name of the model that everything started from, else its reference, else nothing."""
    if settings.base_model:
        return settings.base_model
    refs = _first_models(run)
    for ref in refs:
        if (package := package_of(ref)) is not None:
            return package.hub
        if ref.startswith("hf:"):
            return ref.removeprefix("hf:").partition("@")[0]
    return refs[0] if refs else ""


def describe_start(settings: Settings, run: Run) -> str:
    """The model that everything started from. If a package held the weights, it says how: they differ from those on
    the hub."""
    base = base_model(settings, run)
    packages = (package_of(ref) for ref in _first_models(run))
    weights = next((package.weights for package in packages if package is not None), "")
    return f"the {weights} of {base}" if base and weights else base


def _first_models(run: Run) -> list[str]:
    """References of models from outside that the final model was trained from."""
    return [e.ref for a in run.went_on for e in a.manifest.external if e.role == POLICY]


def title(settings: Settings) -> str:
    """The model's name at the beginning of a line: a name of one word unchanged, a phrase with a capital."""
    name = settings.model_name
    return name[:1].upper() + name[1:] if " " in name else name


def sentence(settings: Settings, run: Run) -> str:
    """How the model was made, in three sentences: its own steps in their order, what they learnt from, the proof."""
    line = [a for a in run.went_on if a.manifest.kind != "report" and a.manifest.method]
    steps = [f"{_method(a)} ({a.step})" for a in line]
    ids = {a.manifest.id for a in run.went_on} | {run.final.manifest.id}
    others = sorted((a for a in run.behind if a.manifest.id not in ids), key=lambda a: a.manifest.timing.started)
    taught = dict.fromkeys(a.manifest.method for a in others if a.manifest.method)
    helpers = [method for method in taught if method not in {a.manifest.method for a in line}]
    start = describe_start(settings, run)
    begun = "new weights" if not start and run.from_raw_text else start or "its starting model"
    count = f"{COUNTED[len(steps)] if len(steps) < len(COUNTED) else 'many'} step{'s' if len(steps) > 1 else ''}"
    history = f"was made from {begun} in {count}: {_and(steps)}" if steps else f"is {begun}, with no training"
    data_from = f" Its data and rewards came from other steps: {'; '.join(helpers)}." if helpers and steps else ""
    proof = "All figures here are computed from replies that are kept beside this card."
    return f"{title(settings)} {history}.{data_from} {proof}"


def _method(artifact: Artifact) -> str:
    """What the room of an artifact does; beyond the policy, a place on the line of two models is an extrapolation."""
    share = artifact.own.get("share") if artifact.manifest.room == "merge" else None
    beyond = share is not None and share.value is not None and share.value > 1
    return "an extrapolation of weights" if beyond else artifact.manifest.method


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def mitigations(run: Run) -> tuple[str, ...]:
    """What the rooms that made the model did against harm, and against overdoing that."""
    words = list(dict.fromkeys(a.manifest.against_harm for a in run.behind if a.manifest.against_harm))
    if run.comparisons is not None and "label_accuracy" in run.comparisons.numbers:
        words.append("The labeller was examined on known pairs first.")
    parts = {a.manifest.id: _part(a) for a in run.lineage if a.manifest.variant == "preference"}
    grader, reward = (str((run.final.report.get(role) or {}).get("id")) for role in ("grader", "reward"))
    if {parts.get(grader), parts.get(reward)} == {"first", "second"}:
        words.append("The models that reward and grade were trained on disjoint halves of the prompts.")
    if any(_was_watched(a) for a in run.lineage):
        words.append("A preference model that the policy was not trained on watched for rewards that are gamed.")
    return tuple(words)


def _part(preference: Artifact) -> str:
    """The half of all prompts that a preference model was trained on."""
    pairs = preference.manifest.resolved.get("pairs")
    return str(pairs.get("part", "")) if isinstance(pairs, dict) else ""


def _was_watched(artifact: Artifact) -> bool:
    """Whether a preference model that is not a reward model followed how an artifact was trained."""
    inputs = artifact.manifest.inputs
    watching = inputs.get("heldout_reward", [])
    return bool(set(watching) - set(inputs.get("reward", [])))


def list_unmeasured(subjects: Sequence[tuple[str, Collection[str]]], tasks: Collection[str]) -> str:
    """The subjects that none of these tasks measures, as a list in words."""
    return _and([subject for subject, by in subjects if not set(by) & set(tasks)])


def details(settings: Settings, run: Run) -> tuple[tuple[str, str], ...]:
    """Rows of the model details."""
    final = run.final.report.get("model") or {}
    rows = [
        ("Name", settings.model_name),
        ("Authors", ", ".join(settings.authors)),
        ("Started from", describe_start(settings, run)),
        ("Architecture", _architecture(run, str(final.get("id", "")))),
        ("Languages", ", ".join(settings.language)),
        ("Licence", settings.license),
        ("Checkpoint", f"{final.get('name', '')} {str(final.get('id', ''))[:12]}".strip()),
        ("Recipe", run.final.manifest.command or run.final.manifest.recipe),
        ("Constitution", " ".join(run.constitution.get(k, "") for k in ("name", "version", "digest")).strip()),
        ("Stages", " → ".join(s.label for s in run.stages)),
        ("Factors", "; ".join(words for words, name in FACTORS.items() if name in run.final.numbers)),
    ]
    return tuple((k, v) for k, v in rows if v)


def _architecture(run: Run, name: str) -> str:
    for artifact in run.lineage:
        config = artifact.path / "config.json"
        if artifact.manifest.id == name and config.exists():
            return ", ".join(read_object(config).get("architectures", []))
    return ""


def environment(run: Run) -> tuple[tuple[str, str], ...]:
    """Where the artifacts were made: a row for each fact, with all of its values if they differ."""
    manifests = [a.manifest for a in run.lineage]
    processes = [m.environment.processes for m in manifests]

    def distinct(values: list[Any]) -> str:
        return ", ".join(dict.fromkeys(str(v) for v in values if v not in (None, "")))

    rows = [
        ("Commit", distinct([(m.source.commit or "")[:12] for m in manifests]) or "unknown"),
        ("Working tree", _tree([m.source.dirty for m in manifests])),
        ("Source digest", distinct([m.source.digest[:12] for m in manifests])),
        ("Seeds", distinct([f"{m.step} {m.seed}" for m in manifests])),
        ("Python", distinct([m.environment.python for m in manifests])),
        ("torch", distinct([m.environment.torch for m in manifests])),
        ("Device", distinct([f"{m.environment.device}, {m.environment.precision}" for m in manifests])),
        ("Threads", distinct([m.environment.threads for m in manifests])),
        ("Processes", distinct([n for n in processes if max(processes) > 1])),
        ("Platform", distinct([m.environment.platform for m in manifests])),
        ("Packages", distinct([f"{k} {v}" for m in manifests for k, v in sorted(m.environment.packages.items())])),
    ]
    return tuple((k, v) for k, v in rows if v)


def _tree(flags: list[bool | None]) -> str:
    if any(flags):
        return "dirty: some artifacts were made from uncommitted code"
    return "clean" if all(f is False for f in flags) else "unknown"


def names_with_shares(run: Run) -> tuple[str, ...]:
    """Names of stages and steps, and words of metrics, that hold a share."""
    stages = (*run.stages, *run.at_protocol, *run.comparators, *([run.previous] if run.previous else []))
    words = {s.label for s in stages} | {a.step for a in run.lineage}
    words |= {text for s in stages for metric in s.metrics.values() for text in (metric.label, metric.meaning)}
    return tuple(sorted((text for text in words if SHARE_IN_TEXT.search(text)), key=len, reverse=True))


def identity(run: Run) -> tuple[tuple[str, str], ...]:
    """The protocol of the final model's reports: prompt sets with digests, template, sampling."""
    reports = (run.final, *run.final.beside)
    return tuple(row for report in reports for row in _flat(report.report.get("identity") or {}))


def _flat(value: dict[str, Any], path: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, entry in value.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(entry, dict):
            rows += _flat(entry, name)
        else:
            text = entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
            rows.append((name, text if len(text) <= 80 else text[:77] + "..."))
    return rows


def front_matter(settings: Settings, run: Run) -> str:
    """The YAML block of a model page, between its two lines of dashes."""
    base = base_model(settings, run)
    fields: dict[str, Any] = {
        "license": settings.license,
        "language": list(settings.language),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(settings.tags),
    }
    if HUB_NAME.fullmatch(base):
        fields["base_model"] = base
    return "---\n" + yaml.safe_dump(fields, sort_keys=True, allow_unicode=True) + "---\n"
