"""Three searches in which a writer composes the attacks, as rules for what follows on a round.

    PAIR       lines of a request, each refined with its replies and scores (Chao 2023, 2310.08419)
    TAP        each line branches; messages off the topic aren't sent, and the best lines stay (Mehrotra 2023,
               2312.02119)
    Crescendo  a conversation that goes a step further each turn; a refused turn is taken back (Russinovich 2024,
               2404.01833)

A request is left once an attack on it succeeds. Ours: the score is the search's margin for the plain request, on a
scale from 1 to 10, not a model's word; and one rule of words says what is off the topic, in PAIR too. In Crescendo it
holds for no turn, since the first ones are harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.attack.mutator import Messages
from charter.ground.text.dialogue import Dialogue, Message, assistant, user
from charter.rooms.attack.composing import HIGHEST, LOWEST, Attempt, ask_rewriting, ask_turn
from charter.rooms.attack.search import reward_of
from charter.rooms.attack.settings import Attacker
from charter.rooms.attack.target import NOTHING

Row = dict[str, Any]
PAIR, TAP, CRESCENDO = "pair", "tap", "crescendo"


@dataclass(frozen=True, slots=True)
class Line:
    """What was tried on a request in one line. `talk`: the turns of a conversation that stand, `refused`: those that
    were taken back; `parent`: the last attack of the line; `margin`: of that attack."""

    goal: Dialogue
    place: int
    attempts: tuple[Attempt, ...] = ()
    talk: Messages = ()
    refused: tuple[str, ...] = ()
    parent: str = ""
    margin: float = 0.0

    @property
    def turn(self) -> int:
        """Number of the next turn, from 1."""
        return len(self.talk) // 2 + 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line, what the writer answered to it, and the row of the request that came of it, if one was sent."""

    line: Line
    written: Row
    sent: Row | None

    @property
    def next(self) -> Line:
        """The line with the attempt."""
        if self.sent is None:
            return self.line
        score = LOWEST + round((HIGHEST - LOWEST) * reward_of(self.sent["margin"]))
        attempt = Attempt(self.written["message"], self.sent["reply"], score)
        return replace(
            self.line,
            attempts=(*self.line.attempts, attempt),
            parent=self.sent["attack"],
            margin=self.sent["margin"],
        )


def lines_of(settings: Attacker, goal: Dialogue) -> list[Line]:
    """The lines with which an attack on a request begins."""
    return [Line(goal, place) for place in range(settings.streams)]


def branches_of(settings: Attacker, by: str) -> int:
    """Answers of the writer to each line of a round."""
    return settings.branches if by == TAP else 1


def rounds_of(settings: Attacker, by: str) -> int:
    """Most rounds of a request."""
    return settings.depth + (settings.backtracks if by == CRESCENDO else 0)


def ask_for(settings: Attacker, by: str, line: Line) -> list[Message]:
    """What the writer is asked for a line."""
    request = line.goal.messages[-1]["content"]
    if by == CRESCENDO:
        return ask_turn(request, line.talk, line.refused, settings.depth)
    return ask_rewriting(request, line.attempts)


def least_of(settings: Attacker, by: str) -> float:
    """Share of the request's telling words that a message must keep."""
    return 0.0 if by == CRESCENDO else settings.keep


def _pair(settings: Attacker, outcomes: Sequence[Outcome]) -> list[Line]:
    return [outcome.next for outcome in outcomes]


def _tap(settings: Attacker, outcomes: Sequence[Outcome]) -> list[Line]:
    """The lines whose last attacks have the best margins; a line of which nothing was sent ends."""
    alive = [outcome.next for outcome in outcomes if outcome.sent is not None]
    best = sorted(alive, key=lambda line: -line.margin)[: settings.streams]
    return [replace(line, place=place) for place, line in enumerate(best)]


def _crescendo(settings: Attacker, outcomes: Sequence[Outcome]) -> list[Line]:
    """The conversations one turn further, or with a refused turn taken back."""
    lines = []
    for outcome in outcomes:
        line, sent = outcome.next, outcome.sent
        if sent is None or sent["refusal"]:
            line = replace(line, refused=(*line.refused, outcome.written["message"]))
            if len(line.refused) <= settings.backtracks:
                lines.append(line)
        else:
            said = (user(outcome.written["message"]), assistant(sent["reply"] or NOTHING))
            line = replace(line, talk=(*line.talk, *said))
            if line.turn <= settings.depth:
                lines.append(line)
    return lines


_FURTHER: Mapping[str, Callable[[Attacker, Sequence[Outcome]], list[Line]]] = {
    PAIR: _pair,
    TAP: _tap,
    CRESCENDO: _crescendo,
}


def further(settings: Attacker, by: str, outcomes: Sequence[Outcome]) -> list[Line]:
    """The lines of the next round, of all requests on which no attack succeeded."""
    by_goal: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_goal.setdefault(outcome.line.goal.id, []).append(outcome)
    return [
        line
        for own in by_goal.values()
        if not any(outcome.sent is not None and outcome.sent["found"] for outcome in own)
        for line in _FURTHER[by](settings, own)
    ]
