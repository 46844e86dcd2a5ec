"""Opens the parts of a configuration: models, the policy's screen, the accounts' database."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.progress import Progress, SilentProgress
from charter.ground.artifact.release import digest_checkpoint, find_release, releases_in
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.engine_limits import Bounds
from charter.ground.generate.fair import Processor, apart
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.generation import talk_decoding
from charter.ground.model.opening import checkpoint_folder
from charter.ground.moderation.opening import default_classifiers, open_screen
from charter.ground.moderation.policy import read_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import read_thresholds
from charter.ground.settings.execution import Execution
from charter.ground.text.template import Template
from charter_service.api.config import Config, Model
from charter_service.api.local import LocalBackend
from charter_service.api.policy_versions import in_force, in_words
from charter_service.api.registry import Registry, Served, ServedRelease, constitutions_of, steps_of
from charter_service.api.service import Service, open_database
from charter_service.api.upstream import UpstreamBackend
from charter_service.forms.alphabet import alphabet_of
from charter_service.tools.opening import open_tools

MIB = 2**20
WARM_TOKENS = 70
QUIET = SilentProgress()


def open_service(
    config: Config, folder: Path, sources: Mapping[str, Input], execution: Execution, progress: Progress = QUIET
) -> Service:
    """The service of a configuration. `sources`: the model of each id; `progress` shows the steps. Raises CharterError
    if a part can't be opened."""
    database = open_database(config, folder)
    served, processor = list[Served](), Processor()
    try:
        # before the models, which take minutes: a missing folder is reported at once
        tools = open_tools(config.tools, folder, progress)
        # before the policy, which may have to learn: a missing model is reported at once
        for model in config.models:
            if model.backend:
                progress.note(f"asking {model.backend} for {model.source}")
                served.append(open_upstream(model))
            else:
                progress.note(f"opening {model.id} ({model.source})")
                source = sources[model.id]
                served.append(apart(open_model, model, source, config, execution, folder, processor))
                if ignored := served[-1].backend.decoding.ignored:
                    progress.note(f"{model.id} ignores {', '.join(ignored)} of its generation_config.json")
        screen = open_policy_screen(config, folder, execution, progress)
        configured, published = screen, None
        if screen is not None:
            screen, published = in_force(database, screen)
            progress.note(in_words(screen.policy, published))
        service = Service(
            config,
            database,
            Registry(served),
            screen,
            processor,
            folder=folder,
            tools=tools,
            published=published,
            configured=configured,
        )
    except BaseException:
        Registry(served).close()
        database.dispose()
        raise
    try:
        if config.people:
            service.people.engine()  # a wrong place is reported at once
    except BaseException:
        service.close()
        raise
    return service


def open_model(
    model: Model,
    source: Input,
    config: Config,
    execution: Execution,
    beside: Path = Path(),
    processor: Processor | None = None,
) -> Served:
    """A model with its own engine; relative paths of the configuration start at `beside`. `processor`: shared with
    other threads that compute."""
    folder = checkpoint_folder(source)
    standing = None
    if model.asks_release(config.released_only):
        # the same bytes are hashed and opened, wherever a link leads meanwhile
        folder = folder.resolve()
        standing = open_release(model, folder, beside)
    transformer, tokenizer = load_policy(folder, execution.device)
    if standing is not None and digest_checkpoint(folder) != standing.release.checkpoint.digest:
        raise CharterError(f"{model.id} is not served, for {folder} was changed while it was opened; start again")
    transformer.precision = execution.precision
    template = Template(tokenizer, tokenizer.template)
    how = config.engine
    engine = Engine(
        transformer,
        tokenizer,
        how.slots,
        context=model.context,
        ends=[template.end_id],
        bounds=Bounds(how.memory_mib * MIB, how.kept_mib * MIB, how.chunk, how.waiting),
    )
    _warm(engine)
    root = (beside / model.weights_from).expanduser().resolve() if model.weights_from else None
    shared = processor if execution.device == "cpu" else None
    assistant = LocalAssistant(engine, template)
    assistant.decoding = talk_decoding(source.ref, assistant.decoding)
    backend = LocalBackend(assistant, model.context, root, shared)
    created = (folder / "config.json").stat().st_mtime if folder.is_dir() else time.time()
    provenance = steps_of(folder), constitutions_of(folder)
    return Served(model, backend, source.id, _created(model, created), *provenance, standing)


def open_release(model: Model, folder: Path, beside: Path) -> ServedRelease:
    """The release that a model is served under. Raises CharterError if none holds for exactly its folder now."""
    places = [beside / Path(model.release).expanduser()] if model.release else releases_in(run_of(folder))
    try:
        now = datetime.datetime.now(datetime.UTC)
        release, manifest = find_release(places, digest_checkpoint(folder), now, model.release_id)
    except CharterError as error:
        raise CharterError(
            f"{model.id} is not served, for it has no valid release: {error}; charter release makes one"
        ) from None
    return ServedRelease(manifest.id, release)


def _warm(engine: Engine) -> None:
    """Warms up: the first request takes longer, since weights are laid out for products and tokens are spelled for
    forms. A temporary engine does it, so that the real one's figures count only real requests."""
    Engine(engine.model, engine.tokenizer, slots=1).generate(
        [[0] * min(WARM_TOKENS, engine.context - 2)], Sampling(max_tokens=2)
    )
    alphabet_of(engine.tokenizer, engine.ends)


def open_upstream(model: Model) -> Served:
    """A model behind an OpenAI-shaped server; its source is its name there."""
    backend = UpstreamBackend(model.backend, model.source, model.id)
    digest = digest_text(f"{model.backend}#{model.source}")
    return Served(model, backend, digest, _created(model, time.time()))


def _created(model: Model, otherwise: float) -> float:
    """When a model was released, in seconds since 1970: the start of its day (UTC); `otherwise` if the configuration
    has none."""
    if model.released is None:
        return otherwise
    return datetime.datetime.combine(model.released, datetime.time(), datetime.UTC).timestamp()


def open_policy_screen(config: Config, folder: Path, execution: Execution, progress: Progress = QUIET) -> Screen | None:
    """The screen of the policy; None if it is off. Raises CharterError, also for wrong files that are named while it is
    off."""
    policy = config.policy
    file = folder / policy.file if policy.file else None
    thresholds = folder / policy.thresholds if policy.thresholds else None
    if policy.state == "off":
        if file is not None:
            read_policy(file)
        if thresholds is not None:
            read_thresholds(thresholds)
        return None
    names = ", ".join(policy.classifiers or default_classifiers())
    progress.note(f"opening the policy's classifiers ({names}); --no-policy starts at once and checks nothing")
    return apart(open_screen, file, policy.classifiers, thresholds, execution.device, progress)
