"""What every evaluation of the battery shares: the model under test, its task, drawn questions and worked examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, LocalAssistant, Prompt, local_of
from charter.ground.settings.seed import derive_seed
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Asked, Question
from charter.rooms.benchmark.settings import DATA, Settings, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """One task on one model. `helper` maps free answers to options where a task asks for that, and is the model itself
    where none is given. `facts`: what a task finds out of itself that is part of its score's identity."""

    settings: Settings
    inputs: Inputs
    out: Workspace
    assistant: Assistant
    helper: Assistant
    task: Task
    protocol: Protocol
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """The file or folder of the task's data."""
        return self.inputs.one(DATA[self.task]).folder

    @property
    def title(self) -> str:
        """What progress bars say."""
        return f"{self.settings.stage}: {self.task}"

    @property
    def local(self) -> LocalAssistant | None:
        """The model under test where it is on this machine, with its engine and its template."""
        return local_of(self.assistant)

    def seed(self, *names: str | int) -> int:
        """A seed of the draw, the task and names alone: equal for every stage."""
        return derive_seed(self.settings.draw_seed, self.task, *names)

    @property
    def chunk(self) -> int:
        """Questions asked together: as many answers whatever the samples of each."""
        return max(1, self.settings.chunk // self.protocol.samples)

    def draw(self, rows: Sequence[T]) -> list[T]:
        """At most `limit` rows (0: all) in their order, the same for every stage."""
        limit = self.protocol.limit
        if not limit or limit >= len(rows):
            return list(rows)
        chosen = random.Random(self.seed("draw")).sample(range(len(rows)), limit)
        return [rows[i] for i in sorted(chosen)]

    def examples(self, pool: Sequence[T], what: str = "") -> list[T]:
        """As many worked examples as the protocol has, drawn from a pool that is not scored.

        Raises CharterError where the pool is too small.
        """
        shots = self.protocol.shots
        if shots > len(pool):
            raise CharterError(
                f"{self.task}: {shots} worked examples are wanted and {what or self.source} has {len(pool)}; give "
                f"more, or set change.{self.task}.shots"
            )
        if shots == len(pool):
            return list(pool)
        return random.Random(self.seed("examples", what)).sample(list(pool), shots)

    def fits(self, asked: Asked, answer_tokens: int) -> bool:
        """Whether the context of a local model holds a question and its answer; what a server holds only it knows."""
        return self.holds(asked.prompt(self.protocol.form), answer_tokens)

    def holds(self, prompt: Prompt, answer_tokens: int) -> bool:
        """The same of a prompt."""
        local = self.local
        return local is None or len(local.encode(prompt)) + answer_tokens <= local.engine.context

    def identity(self) -> dict[str, Any]:
        """What must be equal for two scores of this task to be compared."""
        role = self.inputs.one(DATA[self.task])
        assistant, protocol = self.assistant, self.protocol
        found: dict[str, Any] = {
            "data": {"ref": role.name, "id": role.id},
            "limit": protocol.limit,
            "shots": protocol.shots,
            "form": protocol.form,
            "scored": "options"
            if not protocol.max_tokens and "score" in assistant.capabilities
            else "samples",
            "draw_seed": self.settings.draw_seed,
            "version": protocol.version,
        }
        if found["scored"] == "samples":
            found |= protocol.decoding.facts | {
                "samples": protocol.samples,
                "max_tokens": protocol.max_tokens,
            }
        if protocol.form == "chat":
            found["template"] = digest_text(self.local.template.jinja) if self.local else "remote"
        return found | self.facts

    def show(self, asked: Asked) -> None:
        """Keeps the first prompt as the model reads it, so that a person can look at it."""
        self.show_prompt(asked.prompt(self.protocol.form))

    def show_prompt(self, prompt: Prompt) -> None:
        """The same of a prompt."""
        local = self.local
        if local is not None:
            text = local.engine.tokenizer.decode(local.encode(prompt), skip_special=False)
        else:
            text = (
                prompt
                if isinstance(prompt, str)
                else "\n\n".join(f"{m['role']}: {m['content']}" for m in prompt)
            )
        self.out.write_text(f"prompts/{self.task}.txt", text + "\n")


def check_questions(task: str, questions: Sequence[Question]) -> None:
    """Refuses a set without questions, or with one id twice. Raises CharterError."""
    if not questions:
        raise CharterError(f"{task}: its data holds no question that can be asked; name another set")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise CharterError(f"{task}: two questions have the id {question.id!r}; give each its own")
        seen.add(question.id)
