"""The votes of people: reads them from the service's database, and waits if there are too few.

The step's files for people are beside the run, in a folder that no sweep removes: `arena.yaml`, the service's
configuration; `models.json`, the models that they judge; and, unless the recipe names another, the database.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.settings.notation import write_yaml
from charter.ground.text.judgments import HUMAN
from charter.ground.text.records import read_comparisons, write_comparisons
from charter.ground.text.votes import Choice
from charter_service.arena.pairs import Hidden, hidden_models, model_names
from charter_service.arena.settings import Settings
from charter_service.people.export import Attempt, attempts_of, choices_of, open_people

DATABASE, CONFIG, MODELS = "people.sqlite", "arena.yaml", "models.json"


def peoples_answers(settings: Settings, inputs: Inputs, out: Workspace) -> tuple[list[Choice], list[Attempt]]:
    """People's answers on this step's models: choices, and rated red-team attempts.

    Raises Waiting while an axis has too few answered pairs, after writing the files that the service needs.
    """
    names = model_names(settings, inputs)
    out.people.mkdir(parents=True, exist_ok=True)
    _check_models(settings, inputs, out)
    engine = open_people(settings.database or DATABASE, out.people)
    try:
        choices = [c for c in choices_of(engine, settings.axes) if _counts(c, settings, names)]
        attempts = [a for a in attempts_of(engine) if a.source == HUMAN and set(a.models) <= set(names)]
    finally:
        engine.dispose()
    answered = Counter(axis for axis, _ in {(c.axis, c.item) for c in choices})
    missing = sum(max(0, settings.comparisons - answered[axis]) for axis in settings.axes)
    if missing:
        _write_config(settings, inputs, out)
        raise Waiting(
            f"waits for {missing} of {settings.comparisons * len(settings.axes)} comparisons by people: charter "
            f"arena serve {out.people / CONFIG}, then run again"
        )
    return choices, attempts


def _counts(choice: Choice, settings: Settings, names: Sequence[str]) -> bool:
    """Whether an answer is a person's, is on this step's models, and isn't suspicious."""
    ours = choice.source == HUMAN and set(choice.models) <= set(names)
    return ours and (settings.keep_flagged or not choice.flags)


def _check_models(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Refuses to count answers on another model with the same name; stores the models the first time."""
    path = out.people / MODELS
    ids = {hidden.name: _identity(hidden, inputs) for hidden in hidden_models(settings, inputs)}
    try:
        noted = dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        noted = {}
    except (OSError, ValueError, TypeError):
        raise CharterError(
            f"{path} can't be read; move {out.people} away to ask people again, or put the file back"
        ) from None
    changed = [name for name, id in ids.items() if noted.get(name, id) != id]
    if changed:
        raise CharterError(
            f"{changed[0]} was another model when people judged it; go back to that one, or move {out.people} away to "
            "ask people again"
        )
    atomic_write(path, json.dumps(noted | ids, indent=1) + "\n")


def _identity(hidden: Hidden, inputs: Inputs) -> str:
    """What a model's replies depend on: its id, and the mode with the model that ranks."""
    if hidden.showing == SamplingStrategy():
        return hidden.source.id
    ranker = inputs.optional("ranker")
    ranked = ranker.id if ranker is not None and hidden.showing.ranks else ""
    return digest_text(canonical_json([hidden.source.id, hidden.showing.model_dump(), ranked]))


def _entry(hidden: Hidden, inputs: Inputs) -> dict[str, object]:
    """A model of the service's configuration."""
    ranker = inputs.optional("ranker")
    graded = {"grader": ranker.ref} if ranker is not None and hidden.showing.ranks else {}
    way = hidden.showing.model_dump(exclude_defaults=True)
    return {"name": hidden.name, "model": hidden.source.ref, **way, **graded}


def _write_config(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Writes the configuration for `charter arena serve`, with the models' present paths."""
    models = [_entry(hidden, inputs) for hidden in hidden_models(settings, inputs)]
    task = {} if settings.pairing == "different" else {"pairing": settings.pairing}
    content: dict[str, object] = {
        "name": out.step,
        "database": settings.database or DATABASE,
        "models": models,
        "tasks": {axis: dict(task) for axis in settings.axes},
        "goals": dict.fromkeys(settings.axes, settings.comparisons),
        "base": settings.base or models[0]["name"],
    }
    if golds := _write_golds(settings, inputs, out):
        content["golds"] = golds
    atomic_write(out.people / CONFIG, write_yaml(content))


def _write_golds(settings: Settings, inputs: Inputs, out: Workspace) -> dict[str, str]:
    """Writes the gold questions (comparisons of one question with a sure better reply), one file for each axis."""
    golds = [c for source in inputs.many("golds") for c in read_comparisons(source.folder)]
    files: dict[str, str] = {}
    for axis in settings.axes:
        rows = [c for c in golds if c.axis == axis and len(c.messages) == 1 and c.p_chosen == 1.0]
        if rows:
            files[axis] = f"golds_{axis}.jsonl"
            write_comparisons(out.people / files[axis], rows)
    if golds and not files:
        raise CharterError(
            f"golds holds no sure comparison of one question on {', '.join(settings.axes)}; give others, or leave the "
            "role out"
        )
    return files
