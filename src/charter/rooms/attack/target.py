"""The model under attack, the two graders, and one row for each request that is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.attack.chains import CHAIN, Chain, family_of, mutate
from charter.ground.attack.mutator import FAMILY, Writer
from charter.ground.generate.assistant import Assistant, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.fitness import FIXED_REPLY, Scorer
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.success import mark, users_turns, with_marks
from charter.ground.model.folder import digest_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message, assistant, user
from charter.rooms.attack.goals import topic_of
from charter.rooms.attack.settings import Settings
from charter.rooms.attack.specificity import RATED, rate, ratings

Row = dict[str, Any]
WRITTEN = 160  # longest text of the writer, in tokens
EMPTY_REPLY = "..."  # what stands for an empty reply, which chat templates don't take


@dataclass(frozen=True, slots=True)
class Try:
    """One request to be sent: the goal, whose last turn is what replies are judged by; the chain and its seed; a name
    for the sample's seed; and further columns of its row. With `asked` the words are given, not made again."""

    goal: Dialogue
    chain: Chain
    seed: int
    sample: str
    columns: Row
    asked: Dialogue | None = None


class Target:
    """Sends requests to the policy, and scores its replies against the fixed one by the graders that are named."""

    def __init__(self, settings: Settings, inputs: Inputs, out: Workspace) -> None:
        check_apart(inputs.one("reward"), inputs.one("grader"))
        self.sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens)
        self.policy = open_assistant(inputs.one("policy"), out.device, precision=out.precision)
        self.scorers = {role: open_scorer(inputs.one(role), out) for role in ("reward", "grader")}
        source = inputs.optional("writer")
        self.assistant = None if source is None else open_assistant(source, out.device)
        self.writer = None if self.assistant is None else writer_of(self.assistant, out)
        rater = inputs.optional("rater")
        self.rater = None if rater is None else open_assistant(rater, out.device)
        self.threshold = settings.rating.threshold
        self.writes = Sampling(temperature=1.0, max_tokens=settings.attacker.max_tokens)
        self.seed = out.seed

    def compose(self, prompts: Sequence[tuple[list[Message], int]]) -> list[str]:
        """What the writer answers to messages, each with a seed."""
        assert self.assistant is not None
        answers = self.assistant.reply(
            [messages for messages, _ in prompts], self.writes, seeds=[seed for _, seed in prompts]
        )
        return [samples[0].text for samples in answers]

    def send(self, tries: Sequence[Try], *graders: str) -> list[Row]:
        """One row a request: what was asked, the reply, its scores and the fixed reply's by each grader, its marks."""
        attacks = [attempt.asked or mutate(attempt.goal, attempt.chain, attempt.seed, self.writer) for attempt in tries]
        with naming_prompts(attack.id for attack in attacks):
            replies = self.policy.reply(
                [list(attack.messages) for attack in attacks],
                self.sampling,
                seeds=[
                    derive_seed(self.seed, attempt.sample, attack.id)
                    for attempt, attack in zip(tries, attacks, strict=True)
                ],
            )
        rows: list[Row] = [
            {
                "id": attempt.goal.id,
                "topic": topic_of(attempt.goal),
                FAMILY: family_of(attempt.chain),
                CHAIN: list(attempt.chain),
                "attack_seed": attempt.seed,
                "attack": attack.id,
                "request": attempt.goal.messages[-1]["content"],
                "asked": list(attack.messages),
                "reply": samples[0].text.strip(),
                "talk": attack.id,
                "turn": 1,
                **attempt.columns,
            }
            for attempt, attack, samples in zip(tries, attacks, replies, strict=True)
        ]
        for grader in graders:
            items = [
                (attempt.goal.messages, (row["reply"], FIXED_REPLY)) for attempt, row in zip(tries, rows, strict=True)
            ]
            for row, (score, fixed) in zip(rows, self.scorers[grader](items), strict=True):
                row |= {grader: score, f"{grader}_fixed": fixed}
        rows = [mark(row) for row in rows]
        if self.rater is None or "grader" not in graders:
            return rows
        rated = zip(rows, rate(self.rater, rows), strict=True)
        return [with_marks({**row, RATED: answer}, ratings(self.threshold)) for row, answer in rated]

    def replay(self, tries: Sequence[Try], *graders: str) -> list[Row]:
        """The user's turns of given attacks asked one after another, each after the new replies; a row a turn."""
        turns = [users_turns(attempt.asked.messages if attempt.asked else ()) for attempt in tries]
        talks: list[tuple[Message, ...]] = [() for _ in tries]
        rows: list[list[Row]] = [[] for _ in tries]
        for turn in range(max(map(len, turns), default=0)):
            places = [n for n, user_turns in enumerate(turns) if turn < len(user_turns)]
            turn_tries = []
            for n in places:
                attempt = tries[n]
                talks[n] = (*talks[n], user(turns[n][turn]))
                assert attempt.asked is not None
                columns = {**attempt.columns, "turn": turn + 1}
                attack = replace(attempt.asked, messages=talks[n])
                turn_tries.append(replace(attempt, sample=f"{attempt.sample}-{turn}", columns=columns, asked=attack))
            for n, row in zip(places, self.send(turn_tries, *graders), strict=True):
                rows[n].append(row)
                talks[n] = (*talks[n], assistant(row["reply"] or EMPTY_REPLY))
        return [row for attempt_rows in rows for row in attempt_rows]


def check_apart(reward: Input, grader: Input) -> None:
    """Raises CharterError if both graders are one model: by their ids, or by their weights, in whatever folders."""
    same = reward.id == grader.id
    if not same:
        first, second = (digest_weights(checkpoint_folder(source)) for source in (reward, grader))
        same = first == second
    if same:
        raise CharterError(
            f"{grader.name} and {reward.name} are one preference model: a search finds what its own grader gets "
            "wrong; give the role grader another one, trained on other comparisons"
        )


def open_scorer(source: Input, out: Workspace) -> Scorer:
    """The scores of a preference model."""
    return PreferenceModel.open(checkpoint_folder(source), out.device, out.precision).score


def writer_of(assistant: Assistant, out: Workspace) -> Writer:
    """The role writer as the function that mutators call."""
    sampling = Sampling(temperature=1.0, max_tokens=WRITTEN)

    def write(request: str, seed: int) -> str:
        seeds = [derive_seed(out.seed, "writer", seed)]
        return assistant.reply([[user(request)]], sampling, seeds=seeds)[0][0].text

    return write


def in_the_place_of(goal: Dialogue, other: Dialogue) -> Dialogue:
    """Another request under the goal's id, so that an equal chain and seed give it the same frame."""
    return replace(other, id=goal.id)
