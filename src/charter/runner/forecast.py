"""What `charter plan` says of each step: whether it runs, and its estimated minutes, memory and disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import MANIFEST, Environment
from charter.ground.artifact.store import folder_bytes
from charter.ground.model.shape import to_config
from charter.ground.settings.environment import environment_of
from charter.ground.settings.recognise import count_rows, mean_characters
from charter.ground.settings.room import CHARACTERS, ROW_TOKENS, TEMPLATE_TOKENS, Estimate, Sizes
from charter.ground.settings.texts import text_bytes
from charter.ground.text.corpus_index import INDEX, read_index
from charter.runner.directory import RunDirectory, Standing
from charter.runner.machine import read_speed
from charter.runner.pace import START
from charter.runner.plan import Plan, PlannedStep, own_parents

T = TypeVar("T")
_STATUS = {"reused": "reused", "restore": "reused", "publish": "resume", "resume": "resume", "run": "run"}


@dataclass(frozen=True)
class Forecast:
    """One line of the plan; status is "reused", "run", "resume", or "waiting" for people."""

    planned: PlannedStep
    standing: Standing
    status: str
    path: Path
    estimate: Estimate | None


def forecast(plan: Plan, until: str | None = None) -> list[Forecast]:
    """The lines of a plan, from the disk and the rooms' estimates."""
    directory = RunDirectory(plan.run)
    environment = environment_of(plan.execution)
    lines = []
    for planned, cost in _estimates(plan, until, environment):
        standing = directory.look(planned, environment)
        status = "waiting" if standing.waiting else _STATUS[standing.action]
        if status == "reused" and standing.folder is not None:
            cost = Estimate(0.0, None, folder_bytes(standing.folder) / 2**30)
        elif cost is not None and cost.minutes is not None:
            cost = replace(cost, minutes=cost.minutes + START)
        lines.append(Forecast(planned, standing, status, directory.artifact(planned.name), cost))
    return lines


@dataclass(frozen=True)
class Totals:
    """Sums over the steps of a plan that will run; None for what no estimate says. `unknown`: steps without an estimate
    of minutes."""

    minutes: float | None
    memory_gib: float | None
    disk_gib: float | None
    unknown: tuple[str, ...]


def totals(lines: Sequence[Forecast]) -> Totals:
    """Minutes and disk of all steps that will run, together, and the largest memory of one."""
    todo = [line for line in lines if line.status != "reused"]
    costs = [line.estimate for line in todo if line.estimate is not None]
    minutes = [cost.minutes for cost in costs if cost.minutes is not None]
    memory = [cost.memory_gib for cost in costs if cost.memory_gib is not None]
    disk = [cost.disk_gib for cost in costs if cost.disk_gib is not None]
    return Totals(
        sum(minutes) if minutes else None,
        max(memory) if memory else None,
        sum(disk) if disk else None,
        tuple(line.planned.name for line in todo if line.estimate is None or line.estimate.minutes is None),
    )


def expected_minutes(plan: Plan, until: str | None = None) -> dict[str, float | None]:
    """Minutes of each step by its room's estimate, finished or not; None if there is no estimate."""
    costs = _estimates(plan, until, environment_of(plan.execution))
    return {planned.name: cost.minutes if cost else None for planned, cost in costs}


def _estimates(
    plan: Plan, until: str | None, environment: Environment
) -> Iterator[tuple[PlannedStep, Estimate | None]]:
    """The rooms' estimates of the steps, each from the sizes of the steps before it."""
    speed = read_speed() if environment.device == "cpu" else None
    earlier = _StepSizes(1.0 if speed is None else speed.factor)
    for planned in plan.until(until):
        sizes = earlier.sizes(planned, environment)
        cost = planned.room.estimate(planned.settings, sizes) if planned.room.estimate is not None else None
        earlier.learn(planned, sizes, cost)
        yield planned, cost


@dataclass(frozen=True)
class _StepSizes:
    """Parameters, rows, tokens of a row, vocabularies and config.json of the steps so far; the speed of the machine."""

    machine: float
    parameters: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    vocabulary: dict[str, int] = field(default_factory=dict)
    configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)

    def sizes(self, planned: PlannedStep, environment: Environment) -> Sizes:
        """The rows of each role's inputs, and the known sizes of the models, texts and corpora in each."""
        rows: dict[str, list[int | None]] = {}
        parameters: dict[str, int] = {}
        texts: dict[str, int] = {}
        vocabulary: dict[str, int] = {}
        configs: dict[str, Mapping[str, Any]] = {}
        lengths: dict[str, list[float]] = {}
        parents = own_parents(planned)
        for entry in planned.inputs:
            count = _over_rows(entry, count_rows)
            if entry.name in parents and count is None:
                count = self.rows.get(entry.name)
            rows.setdefault(entry.role, []).append(count)
            characters = _over_rows(entry, mean_characters)
            expected = self.tokens.get(entry.name, ROW_TOKENS)
            tokens_a_row = characters / CHARACTERS + TEMPLATE_TOKENS if characters else expected
            lengths.setdefault(entry.role, []).append(tokens_a_row)
            if planned.room.roles[entry.role].kind == "sources" and entry.path is not None:
                texts[entry.role] = texts.get(entry.role, 0) + text_bytes(entry.path)
            model = planned.models.get(entry.ref)
            size = self.parameters.get(entry.name) or (model.parameters if model else None)
            if size is not None:
                parameters[entry.role] = max(size, parameters.get(entry.role, 0))
            if tokens := self.vocabulary.get(entry.name) or read_vocabulary(entry):
                vocabulary[entry.role] = tokens
            if config := self.configs.get(entry.name) or (to_config(model.shape) if model else None):
                configs[entry.role] = config
        row_counts = {role: tuple(c for c in counts if c is not None) for role, counts in rows.items()}
        complete = {role: counts for role, counts in row_counts.items() if len(counts) == len(rows[role])}
        execution = environment.threads, environment.device, environment.precision
        row_tokens = {role: tuple(tokens_by_input) for role, tokens_by_input in lengths.items() if role in complete}
        return Sizes(complete, parameters, *execution, texts, vocabulary, configs, self.machine, row_tokens)

    def learn(self, planned: PlannedStep, sizes: Sizes, estimate: Estimate | None) -> None:
        """Records a step's sizes for later steps. A checkpoint is as large as its room estimates, else as the largest
        input model. Rows are those that the room estimates, else one for each prompt up to its `limit`."""
        size = (estimate and estimate.parameters) or max(sizes.parameters.values(), default=0)
        if planned.room.product == "checkpoint" and size:
            self.parameters[planned.name] = size
        config = (estimate and estimate.config) or sizes.configs.get("policy")
        if planned.room.product == "checkpoint" and config:
            self.configs[planned.name] = config
        if estimate is not None and estimate.vocabulary:
            self.vocabulary[planned.name] = estimate.vocabulary
        if estimate is not None and estimate.row_tokens:
            self.tokens[planned.name] = estimate.row_tokens
        rows = estimate.rows if estimate is not None else None
        if rows is None and planned.room.product in ("dialogues", "comparisons"):
            limit = planned.resolved.get("limit")
            prompts = sizes.rows.get("prompts")
            if prompts is not None:
                rows = min(prompts, limit) if isinstance(limit, int) and limit > 0 else prompts
        if rows is not None:
            self.rows[planned.name] = rows


def read_vocabulary(entry: Input) -> int | None:
    """Tokens of the vocabulary of a finished corpus; None for other inputs."""
    if entry.kind != "corpus" or entry.path is None or not (entry.path / INDEX).is_file():
        return None
    return read_index(entry.path).vocab_size


def _over_rows(entry: Input, look: Callable[[Path], T | None]) -> T | None:
    """What a look at the rows of a file or of a finished artifact says; None if it doesn't exist or has no rows."""
    if entry.path is None:
        return None
    if entry.path.is_file():
        return look(entry.path)
    if not (entry.path / MANIFEST).is_file():
        return None
    files = sorted(entry.path.glob(f"{entry.kind}.jsonl*"))
    return look(files[0]) if files else None


def plan_records(lines: list[Forecast]) -> list[dict[str, object]]:
    """The plan as JSON: one object a step."""
    return [
        {
            "name": line.planned.name,
            "room": line.planned.room.name,
            "kind": line.planned.room.product,
            "id": line.planned.id,
            "path": str(line.path),
            "status": line.status,
            "metrics": {},
            "minutes": line.estimate.minutes if line.estimate else None,
            "memory_gib": line.estimate.memory_gib if line.estimate else None,
            "disk_gib": line.estimate.disk_gib if line.estimate else None,
        }
        for line in lines
    ]
