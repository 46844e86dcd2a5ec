"""Settings and roles of the evaluate room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from pydantic import field_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.room import Estimate, Role, Room, Sizes
from charter.rooms.evaluate.catalogue import SUITES, TASKS, expand_suites
from charter.rooms.evaluate.options import Options
from charter.rooms.evaluate.task import Change, Task

ROLES = {
    "policy": Role(kind="labeller"),
    "helper": Role(kind="assistant", required=False),
    "examiner": Role(kind="assistant", required=False),
    "exam_tables": Role(kind="questions", required=False),
    "second_examiner": Role(kind="assistant", required=False),
    "third_examiner": Role(kind="assistant", required=False),
    "grader": Role(kind="checkpoint", variant="preference", required=False),
    "reward": Role(kind="checkpoint", variant="preference", required=False),
    "judge": Role(kind="assistant", required=False),
    "rater": Role(kind="checkpoint", variant="rating", required=False),
    "start": Role(kind="checkpoint", variant="policy", required=False),
    "ranker": Role(kind="checkpoint", variant="preference", required=False),
    "baseline": Role(kind="report", required=False),
    **{task.data_role: task.role for task in TASKS.values()},
    "attack_twins": Role(kind="dialogues", rows="prompts", many=True, default="shipped:twins.train"),
    "hhh_groups": Role(kind="comparisons", many=True, required=False),
    "scenarios": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "fitness": Role(kind="triples", default="shipped:fitness.heldout"),
    "detectors": Role(kind="text", default="shipped:detectors.heldout"),
    "reader": Role(kind="checkpoint", variant="policy", required=False),
    "violating": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "ordinary": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "work": Role(kind="dialogues", rows="prompts", many=True, default="shipped:ordinary_work.test"),
    "replies": Role(kind="comparisons", many=True, required=False),
}


MODELS = ("helper", "grader", "reward", "rater", "judge", "start", "ranker", "baseline")
# What a role that a task needs is.
WANTED = {
    "grader": "a preference model that grades the replies",
    "judge": "a model that judges the replies in words",
    "rater": "a rating model, which rates replies from 0 to 4",
}
# Keys and values of an engine: GiB at most, and bytes a parameter.
CACHE_GIB, CACHE_BYTES = 4.0, 45
GRADERS = ("reward", "rater", "start")


class Settings(Options):
    """One report on one model: its replies, its capability and its bias, each by the protocol of its task."""

    @field_validator("tasks", "change")
    @classmethod
    def _know_names(cls, names: Any) -> Any:
        """Names of tasks or suites. Raises ValueError for another."""
        try:
            expand_suites(names)
        except CharterError as error:
            raise ValueError(str(error)) from None
        return names

    @property
    def evaluations(self) -> tuple[Task, ...]:
        """The tasks in order, with suites expanded."""
        return tuple(TASKS[name] for name in expand_suites(self.tasks))

    def change_of(self, name: str) -> Change:
        """The changes to a task's protocol: those of its suites that it takes, then its own."""
        changes: dict[str, object] = {}
        for key, change in self.change.items():
            if name in SUITES.get(key, ()):
                fields = change.model_dump(exclude_none=True)
                changes |= {field: value for field, value in fields.items() if field in TASKS[name].takes}
        if name in self.change:
            changes |= self.change[name].model_dump(exclude_none=True)
        return Change.model_validate(changes)


def check(settings: Settings, roles: Collection[str]) -> str:
    """A contradiction in settings and roles, or ""."""
    twice = sorted(name for name, n in Counter(settings.tasks).items() if n > 1)
    if twice:
        return f"tasks names {', '.join(twice)} twice; name each once"
    names = {task.name for task in settings.evaluations}
    idle = sorted(key for key in settings.change if not names & {*SUITES.get(key, (key,))})
    if idle:
        return f"change names {', '.join(idle)}, which tasks leaves out; add it to tasks or remove the change"
    vain = [
        f"change.{name}.{field}"
        for name, change in settings.change.items()
        for field in change.model_dump(exclude_none=True)
        if not any(field in TASKS[task].takes for task in SUITES.get(name, (name,)))
    ]
    if vain:
        return f"{', '.join(vain)} would change no task; remove it"
    for task in settings.evaluations:
        if lacking := [role for role in task.needs if role not in roles]:
            return f"role {lacking[0]} is missing: {WANTED[lacking[0]]}; or leave {task.name} out of tasks"
    if "acceptable_use" in names and "preference" in settings.acceptable_use.classifiers and "grader" not in roles:
        return "the classifier preference needs the role grader, which is missing"
    if settings.show.grader:
        return "show names a grader: in a recipe the preference model that ranks is the role ranker"
    if settings.show.ranks != ("ranker" in roles):
        return "mode rejection or median in show, and the role ranker (a preference model), go together: give both"
    return ""


def uses(settings: Settings) -> set[str]:
    """The roles that the tasks need: their data, the models that answer and judge, and the judges' test sets."""
    roles = {"policy", *(task.data_role for task in settings.evaluations), *MODELS}
    roles.update(role for task in settings.evaluations for role in task.reads)
    if any("grader" in task.needs for task in settings.evaluations):
        roles.add("fitness")
    if any(task.detecting for task in settings.evaluations):
        roles.add("detectors")
    return roles


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time: a 135M model on two cores samples 300 tokens/s and reads 900. Memory, measured on such a run: weights and
    activations, and the keys and values of the engines."""
    parameters = sizes.model("policy")
    graders = (
        1 + sum(role in sizes.parameters for role in GRADERS) + (settings.show.count if settings.show.ranks else 0)
    )
    seconds = 0.0
    for task in settings.evaluations:
        change = settings.change_of(task.name)
        protocol = task.protocol.apply_change(settings.limit, change)
        available = sizes.rows.get(task.data_role, protocol.limit)
        questions = min(available, protocol.limit) if protocol.limit else available
        tokens_read, tokens_written = task.cost
        if "grader" in task.needs:
            tokens_read *= graders * protocol.samples
        if change.max_tokens is not None:
            share = change.max_tokens / max(1, task.protocol.max_tokens)
            tokens_written = min(tokens_written, round(max(0.7 * change.max_tokens, share * tokens_written)))
        if protocol.max_tokens:
            tokens_written *= settings.show.count
        seconds += questions * (tokens_read / 900 + protocol.samples * tokens_written / 300)
    if not seconds:
        return Estimate()
    cache = min(CACHE_GIB, CACHE_BYTES * parameters / 2**30)
    helped = 2 if "helper" in sizes.parameters else 1
    return Estimate(
        minutes=seconds / 60 / sizes.speed(parameters),
        memory_gib=14 * parameters / 2**30 + helped * cache,
        disk_gib=0.01,
    )


ROOM = Room(product="report", settings=Settings, roles=ROLES, estimate=estimate, check=check, uses=uses)
