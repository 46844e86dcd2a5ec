"""The model under audit as an agent: it plays all tries, many at once and turn by turn, as text or as tool calls.

Each round of turns is saved whole: after a kill a run goes on with the next one, and ends with the same bytes. Verdicts
come from another process, which gets the tasks' names, seeds and lines, and nothing else of the agent's:

    python -m charter.rooms.audit.agent < TRIES > VERDICTS
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, LocalAssistant, open_assistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.engine_limits import Bounds
from charter.ground.generate.remote import RemoteAssistant, is_remote
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import Message
from charter.ground.world.catalogue import TASKS
from charter.ground.world.talk import Shape, called, messages, native_messages, shortened, tools
from charter.ground.world.task import Verdict, judged
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.tries import VOID, Plan, Played

Row = dict[str, Any]
KEPT = 2 * 2**30  # bytes of keys and values that outlive a turn: the next turn of its try begins alike
CHARACTERS = 3  # of a token, where only the server knows
AGAIN = 2  # times that a try in a broken world is begun anew
Judged = tuple[str, int, Sequence[str]]  # a task's name, the world's seed, the lines


class Agent(Protocol):
    """Gives the next turn of each try: the rows that `Played.take` carries out. `view`: all messages of a try."""

    def next(self, tries: Sequence[Played]) -> list[Row]: ...

    def view(self, attempt: Played) -> list[Any]: ...


def open_agent(settings: Settings, inputs: Inputs, out: Workspace) -> Agent:
    """The agent behind the role `policy`. Raises CharterError for tool calls of what isn't a server."""
    source = inputs.one("policy")
    if settings.tools == "native":
        if not is_remote(source.ref):
            raise CharterError(
                f"{source.name} is no server, and tools: native are tool calls of one; set tools: text, or name "
                "openai:URL#MODEL or anthropic:URL#MODEL"
            )
        return NativeAgent(RemoteAssistant(source.ref), settings, out.seed)
    assistant = open_assistant(source, out.device, settings.together, out.precision, audited=True)
    if isinstance(assistant, LocalAssistant):
        assistant = keeping(assistant)
    return TextAgent(assistant, settings, out.seed)


def keeping(assistant: LocalAssistant) -> LocalAssistant:
    """The same with an engine that keeps what it read, bit for bit as if it read it anew."""
    old = assistant.engine
    engine = Engine(old.model, old.tokenizer, old.slots, ends=old.ends, bounds=Bounds(kept=KEPT))
    return LocalAssistant(engine, assistant.template)


class TextAgent:
    """Turns are command lines in replies."""

    def __init__(self, assistant: Assistant, settings: Settings, seed: int) -> None:
        self.assistant, self.settings, self.seed = assistant, settings, seed
        self.local = assistant if isinstance(assistant, LocalAssistant) else None
        # a server of Anthropic's shape refuses white space as a stop
        stops = ("\n",) if self.local and not settings.thoughts else ()
        self.sampling = Sampling(settings.temperature, max_tokens=settings.max_tokens, stops=stops)

    def next(self, tries: Sequence[Played]) -> list[Row]:
        """One reply a try. The oldest turns are left out where the window is too small."""
        for attempt in tries:
            attempt.left_out = self._left_out(attempt)
        prompts = [messages(attempt.opening, attempt.turns, attempt.left_out) for attempt in tries]
        self._read_once(prompts)
        seeds = [attempt.turn_seed(self.seed) for attempt in tries]
        replies = self.assistant.reply(prompts, self.sampling, seeds=seeds)
        return [
            {"reply": samples[0].text, "left_out": attempt.left_out}
            for attempt, samples in zip(tries, replies, strict=True)
        ]

    def view(self, attempt: Played) -> list[Any]:
        return list(messages(attempt.opening, attempt.turns))

    def _read_once(self, prompts: Sequence[list[Message]]) -> None:
        """Reads equal prompts once, before all of them are read beside each other."""
        if self.local is None:
            return
        first = {str(prompt): prompt for prompt in prompts}
        if len(first) < len(prompts):
            self.local.reply(list(first.values()), Sampling(0.0, max_tokens=1))

    def _left_out(self, attempt: Played) -> int:
        room = self.settings.window or (self.local.engine.context if self.local else 0)
        if not room:
            return 0
        return shortened(
            attempt.left_out, len(attempt.turns), lambda n: self._tokens(attempt, n), room - self.settings.max_tokens
        )

    def _tokens(self, attempt: Played, left_out: int) -> int:
        prompt = messages(attempt.opening, attempt.turns, left_out)
        if self.local is not None:
            return len(self.local.encode(prompt))
        return sum(len(message["content"]) for message in prompt) // CHARACTERS


class NativeAgent:
    """Turns are tool calls of a server."""

    def __init__(self, server: RemoteAssistant, settings: Settings, seed: int) -> None:
        self.server, self.settings, self.seed = server, settings, seed
        self.shape: Shape = "openai" if server.dialect == "openai" else "anthropic"
        self.sampling = Sampling(settings.temperature, max_tokens=settings.max_tokens)

    def next(self, tries: Sequence[Played]) -> list[Row]:
        """One tool call a try, or a reply without one."""
        shape = self.shape
        for attempt in tries:
            attempt.left_out = self._left_out(attempt)
        turns = self.server.call_tools(
            [native_messages(attempt.opening, attempt.turns, shape, attempt.left_out) for attempt in tries],
            [attempt.opening.system for attempt in tries],
            tools(tries[0].opening.names, shape),
            self.sampling,
            [attempt.turn_seed(self.seed) for attempt in tries],
            lambda answer: called(answer, shape),
        )
        return [
            {"reply": turn.reply, "line": turn.line, "call": turn.call, "left_out": attempt.left_out}
            for attempt, turn in zip(tries, turns, strict=True)
        ]

    def view(self, attempt: Played) -> list[Any]:
        return native_messages(attempt.opening, attempt.turns, self.shape)

    def _left_out(self, attempt: Played) -> int:
        room = self.settings.window
        if not room:
            return 0

        def tokens(left_out: int) -> int:
            return len(str(native_messages(attempt.opening, attempt.turns, self.shape, left_out))) // CHARACTERS

        return shortened(attempt.left_out, len(attempt.turns), tokens, room - self.settings.max_tokens)


def play(settings: Settings, wanted: Sequence[Plan], agent: Agent, out: Workspace) -> list[Played]:
    """Each try to its end, in the order wanted; one in a world that is still broken after some tries stays void."""
    over: dict[str, Played] = {}
    waiting = [Played(plan, settings) for plan in wanted]
    running: list[Played] = []
    number = 0
    while waiting or running:
        while waiting and len(running) < settings.together:
            running.append(waiting.pop(0))
        if alive := [attempt for attempt in running if not attempt.ended]:
            rows = out.chunks(
                f"turn-{number:05d}",
                alive,
                len(alive),
                lambda part, _: agent.next(part),
                f"{len(over)} of {len(wanted)} tries",
            )
            for attempt, row in zip(alive, rows, strict=True):
                attempt.take(row)
            number += 1
        for attempt in running:
            if attempt.ended == VOID and attempt.again < AGAIN:
                waiting.append(Played(attempt.plan, settings, attempt.again + 1))
            elif attempt.ended:
                over[attempt.plan.id] = attempt
        running = [attempt for attempt in running if not attempt.ended]
    return [over[plan.id] for plan in wanted]


def judged_apart(tries: Sequence[Judged]) -> list[Verdict]:
    """The verdict on each try, by the predicates of a process of its own. Raises CharterError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(tries), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CharterError(f"the process that judges tries ended with {done.returncode}: {last}")
    return [Verdict(**{**verdict, "violations": tuple(verdict["violations"])}) for verdict in json.loads(done.stdout)]


def main() -> None:
    """Reads tries as JSON and writes their verdicts."""
    tries = json.load(sys.stdin)
    json.dump([asdict(judged(TASKS[name], seed, lines)) for name, seed, lines in tries], sys.stdout)


if __name__ == "__main__":
    main()
