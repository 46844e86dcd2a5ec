"""The configuration of a server: its models and their names, limits and policy.

It is a YAML file, or built from the command line's options. Relative paths start at the file's folder.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_settings, read_yaml_file
from charter.ground.settings.problems import validate
from charter_service.accounts.ladder import Ladder
from charter_service.accounts.limits import Limits
from charter_service.accounts.retention import Keep
from charter_service.tools.settings import Tools

MODEL_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}$")
ORIGIN = re.compile(r"^https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?$")
OUTPUT_CAP = 4000  # tokens: the longest output that Claude 2 was trained for (card, section 4.4)


class Model(Frozen):
    """A served model (registry entry): its names, its source, its context, and how long it is served."""

    id: str = Field(description="what programs call it")
    source: str = Field(min_length=1, description="a step's folder or any model reference")
    aliases: tuple[str, ...] = Field((), description="further names, such as claude-2")
    title: str = Field("", max_length=200, description="what people call it; empty: its id")
    context: int = Field(
        100_000, ge=16, description="tokens of prompt and reply together; the model's own bound holds too"
    )
    max_output: int = Field(OUTPUT_CAP, ge=1, description="most tokens of a reply")
    released: datetime.date | None = Field(None, description="the day that lists show; empty: that of its files")
    cutoff: datetime.date | None = Field(None, description="until when its training texts reach; empty: not known")
    deprecated: datetime.date | None = Field(None, description="from when on its use is warned of")
    retires: datetime.date | None = Field(None, description="from when on it is refused")
    successor: str = Field("", description="the id of the model to use instead")
    backend: str = Field("", description="URL of an OpenAI-shaped server, such as vLLM, that runs it")
    card: str = Field("", pattern=r"^(https?://\S+)?$", max_length=500, description="URL of its model card")
    weights_from: str = Field("", description="a folder below which new weights for it may lie; empty: it takes none")
    release: str = Field("", description="folder of its release; empty: one beside its folder")
    release_id: str = Field(
        "", pattern=r"^([0-9a-f]{12,64})?$", description="id that its release must have, or its first digits"
    )

    def asks_release(self, all_released: bool) -> bool:
        """Whether it is served only with a release: where all models are, or this one names its own."""
        return all_released or bool(self.release or self.release_id)

    @field_validator("id", "aliases")
    @classmethod
    def _named(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            if not MODEL_ID.match(name):
                raise ValueError(f"{name!r} is not a model id: expected letters, digits and . _ : / @ -, at most 200")
        return value


class Engine(Frozen):
    """How a model on this machine is run."""

    slots: int = Field(32, ge=1, le=1024, description="replies written at once")
    chunk: int = Field(256, ge=0, description="tokens of prompts read between two steps; 0: whole prompts")
    kept_mib: int = Field(1024, ge=0, description="keys and values kept for prompts that begin alike")
    memory_mib: int = Field(4096, ge=64, description="keys and values of replies under way")
    waiting: int = Field(2000, ge=1, description="requests that may wait; more are refused with 529")


class Files(Frozen):
    """Uploaded files and documents in requests."""

    file_mib: int = Field(10, ge=1, le=500, description="most MiB of a file or document")
    quota_mib: int = Field(1024, ge=0, description="MiB of an organisation's uploaded files; 0: none may be uploaded")


class Policy(Frozen):
    """The acceptable-use policy and its classifiers; `off` serves without them, and the index page shows it."""

    state: Literal["on", "off"] = Field("on", description="whether requests and replies are checked")
    file: str = Field("", description="a policy of your own; empty: the one that comes along")
    classifiers: tuple[str, ...] = Field(
        (),
        description="encoder, probe, probe:MODEL, words, grader:MODEL or preference:MODEL; empty: encoder where it is "
        "installed, else probe, and words",
    )
    thresholds: str = Field("", description="a file of thresholds; empty: those that come along")
    system_text: Literal["trusted", "screened"] = Field(
        "trusted",
        description="the system texts of API callers count against them only if they are severe or clear; screened: as "
        "users' turns do",
    )
    hold: int = Field(
        24, ge=1, description="most tokens of a reply that are checked together; a sentence's end comes first"
    )
    keep_content: bool = Field(False, description="keep the text of flagged requests for the reviewers")
    keep_days: int = Field(30, ge=1, description="days after which text of closed cases is removed")

    @field_validator("state", mode="before")
    @classmethod
    def _switched(cls, value: object) -> object:
        """YAML reads on and off without quotes as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Config(Frozen):
    """A server."""

    name: str = Field("Charter", min_length=1, max_length=80, description="what its pages are called")
    database: str = Field("serve.sqlite", description="URL or file of the accounts' database")
    people: str = Field(
        "",
        description="URL or file of the database of people, as the chat's or the arena's; empty: people.sqlite beside "
        "the accounts' database, if that is a file",
    )
    models: tuple[Model, ...] = Field(min_length=1, description="the models, the default first")
    released_only: bool = Field(False, description="refuse models without a valid release of exactly their weights")
    limits: Limits = Field(default_factory=Limits, description="of a key without limits of its own")
    ladder: Ladder = Field(default_factory=Ladder, description="what follows from violations of the policy")
    policy: Policy = Field(default_factory=Policy, description="acceptable use")
    tools: Tools | None = Field(None, description="tools that the server runs; empty: none")
    keep: Keep = Field(default_factory=Keep, description="days for which what grows by itself is kept")
    files: Files = Field(default_factory=Files, description="uploaded files and documents in requests")
    engine: Engine = Field(default_factory=Engine, description="how models on this machine are run")
    cors: tuple[str, ...] = Field(
        (), description="origins, such as https://a.example, whose pages may call the API with a key of their own"
    )
    runs: str = Field("", description="folder of evaluation runs that the admin pages show; empty: none")
    contact: str = Field("", max_length=400, description="where safety reports can be sent, beside the API")
    authenticate: bool = Field(True, description="whether a key is needed")
    proxy: bool = Field(False, description="a reverse proxy on this machine passes on callers' addresses")
    batch_share: float = Field(
        0.5, gt=0, le=1, description="share of the slots that batches may take while nobody else asks"
    )
    batch_requests: int = Field(100_000, ge=1, description="requests of an organisation's batches that have not ended")
    batch_mib: int = Field(1024, ge=1, description="requests of an organisation's batches that are kept")

    @field_validator("cors")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.match(origin):
                raise ValueError(
                    f"{origin[:200]!r} is not an origin: expected http:// or https://, a host in lower case and, if it "
                    "isn't the usual one, a port, such as https://a.example:8443; name each one"
                )
        return origins

    @model_validator(mode="after")
    def _distinct(self) -> Config:
        names = [name for model in self.models for name in (model.id, *model.aliases)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two models have the name {twice[0]!r}")
        if self.cors and not self.authenticate:
            raise ValueError("cors needs keys: without them it would open this server to the pages named there")
        if self.proxy and not self.authenticate:
            raise ValueError("a proxy needs keys: behind it every request comes from this machine")
        longest = max(self.ladder.window_days, self.ladder.clean_days)
        if min(self.keep.decisions_days, self.keep.usage_days) < longest:
            raise ValueError(
                f"keep.decisions_days and keep.usage_days: the ladder looks back {longest:g} days; keep as many"
            )
        taking = [model for model in self.models if model.weights_from]
        if len(taking) > 1 or any(model.backend for model in taking):
            raise ValueError("weights_from: one model at most may take new weights, and it runs on this machine")
        for model in self.models:
            if model.asks_release(self.released_only) and (model.backend or model.weights_from):
                why = "runs elsewhere" if model.backend else "takes new weights"
                raise ValueError(f"{model.id} {why}, so no release can hold for its weights")
        ids = {model.id for model in self.models}
        if lost := [m.successor for m in self.models if m.successor and m.successor not in ids]:
            raise ValueError(f"successor {lost[0]!r} is not a model here")
        return self


def load_config(path: Path) -> Config:
    """The configuration in a file. Raises CharterError naming the file and the problem."""
    writer = "charter serve --write-config FILE"
    return read_settings(path, Config, "server configuration", "models and limits", writer)


def load_tools(path: Path) -> Tools:
    """The tools in a file, whose relative paths start at its folder: their keys, or those below a single key `tools`,
    as a server's configuration has them. Raises CharterError naming the file and the problem."""
    raw = read_yaml_file(path, "configuration of tools", "calculator, documents, sql")
    inner = raw["tools"] if raw.keys() == {"tools"} and isinstance(raw["tools"], dict) else raw
    return beside(validate(Tools, inner, path), path.parent)


def beside(tools: Tools, folder: Path) -> Tools:
    """Tools whose relative paths start at the working directory, from those that start at a folder."""
    documents, sql = tools.documents, tools.sql
    if documents is not None:
        places = {name: str(folder.resolve() / getattr(documents, name)) for name in ("folder", "index")}
        documents = documents.model_copy(update=places)
    if sql is not None and "://" not in sql.database:
        sql = sql.model_copy(update={"database": str(folder.resolve() / sql.database)})
    return tools.model_copy(update={"documents": documents, "sql": sql})


def make_config(
    sources: Sequence[str],
    backend: str,
    database: str,
    policy: bool = True,
    weights_from: str = "",
    tools: Tools | None = None,
) -> Config:
    """The configuration of a command line: `NAME=MODEL` or `MODEL`, whose name is then its last part; the first
    one takes new weights if a folder for them is named."""
    models = []
    for text in sources:
        name, equals, source = text.partition("=")
        if not equals:
            name, source = default_name(text), text
        models.append({"id": name, "source": source, "backend": backend})
    models[0]["weights_from"] = weights_from
    given_policy = {} if policy else {"state": "off"}
    facts = {"models": models, "database": database, "policy": given_policy, "tools": tools}
    return validate(Config, facts, "charter serve")


def default_name(source: str) -> str:
    """The default name of a model: a folder's last part, or the part after the scheme."""
    path = source.split(":", 1)[-1].rstrip("/")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.rsplit("/", 1)[-1]).strip("-.")
    return name or "model"
