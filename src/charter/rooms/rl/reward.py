"""What a reply earns before the KL penalty: preference models on scales of their own, rules, and prices of refusing.

    z_g   = (raw score of model g - its mean) / its spread      over all that it has scored so far
    s     = join of z_g over the models that judge the prompt   mean or min (Coste 2023, 2310.02743)
    earned = s + Σ rules - missing_end if cut - mu [refused]    mu of each price on these prompts
    mu   <- max(0, mu + rate (share refused - target))          after each round; for `least` with the opposite sign

The last line is dual ascent on the Lagrangian of a bound (Dai 2023, Safe RLHF, 2310.12773, section 3.2): mu rises while
too many harmless prompts are refused, and falls back to 0 once they are not.

The rules need no grader. Each has its own unit:

    refusal    (1 - 2 p) · (-1 if refused else 1)      p: probability that the prompt should be refused
    cut        -1 for a reply cut at the limit
    loop       -1 for a reply that repeats itself without end
    length     -1 per 100 tokens beyond a bound
    answer     1 right, 0 declined, -t / (1 - t) wrong     t: target accuracy

Positive weights reward answers to harmless prompts, refusals of unsafe ones, and complete, varied, short replies. The
refusal rule gives 0 for a prompt without a label or with p one half, the answer rule for one without accepted answers.
An answer that is right with a probability above t earns more than a decline, one below t less.

Sources: Mu 2024 (2411.01111), rule-based rewards beside a preference model; Kalai 2025 (2509.04664), the penalty of
wrong answers. Bai 2022b (2212.08073) has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.combine import combine
from charter.ground.judge.declining import RIGHT, WRONG, by_accepted
from charter.ground.judge.detect import is_loop
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.parallel import divide
from charter.ground.text.labels import P_REFUSE
from charter.rooms.rl.prompts import Prompt
from charter.rooms.rl.rollout import Episode, Reply, all_replies
from charter.rooms.rl.settings import Rewards, Settings, Steer

LENGTH_UNIT = 100  # tokens
# Right answers to a prompt, in its meta.
ACCEPTED = "accepted"


def refusal(refused: bool, p_refuse: float | None) -> float:
    """Agreement with the prompt's label, from -1 to 1; 0 for a prompt without a label."""
    if p_refuse is None:
        return 0.0
    return (1 - 2 * p_refuse) * (-1.0 if refused else 1.0)


def cut(stop: str) -> float:
    """-1 for a reply that ended at the token limit, else 0."""
    return -1.0 if stop == "length" else 0.0


def loop(text: str) -> float:
    """-1 for a reply that repeats itself without end, else 0."""
    return -1.0 if is_loop(text) else 0.0


def length(tokens: int, bound: int) -> float:
    """Minus the hundreds of tokens beyond the bound."""
    return -max(0, tokens - bound) / LENGTH_UNIT


def answer(text: str, meta: Mapping[str, Any], target: float) -> float:
    """Points of a reply to a question with `accepted` answers in its prompt's meta: an empty list means that nothing
    can be known, where a decline earns 0 and all else the penalty. 0 for a prompt without `accepted`."""
    if "accepted" not in meta:
        return 0.0
    outcome = by_accepted({"accepted": meta["accepted"], "answerable": bool(meta["accepted"])}, text)
    if outcome == WRONG:
        return -target / (1 - target)
    return float(outcome == RIGHT and bool(meta["accepted"]))


@dataclass(slots=True)
class Scale:
    """Running mean and spread of all scores (Welford), so lambda has one meaning for all preference models."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, scores: Sequence[float]) -> None:
        """Add a round's scores."""
        for score in scores:
            self.count += 1
            delta = score - self.mean
            self.mean += delta / self.count
            self.squares += delta * (score - self.mean)

    @property
    def spread(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def apply(self, score: float) -> float:
        """The score in standard deviations from the mean."""
        spread = self.spread
        return (score - self.mean) / spread if spread > 0 else 0.0

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return asdict(self)


def judges(prompt: Prompt, sources: Mapping[str, Sequence[int]], graders: int) -> list[int]:
    """Indices of the models that judge replies to a prompt: those of its source, else of its group, else all."""
    for name in (prompt.source, prompt.group):
        if name in sources:
            return sorted(set(sources[name]))
    return list(range(graders))


class Reward:
    """The reward of a run; its scales and prices change with the rounds and are part of the resume state."""

    def __init__(self, settings: Rewards, missing_end: float, graders: int, state: Mapping[str, Any]) -> None:
        self.settings, self.missing_end, self.graders = settings, missing_end, graders
        self.scales = [Scale(**scale) for scale in state.get("scales", [{}] * graders)]
        self.within = Scale(**state.get("within", {}))
        self.mu: list[float] = list(state.get("mu", [steer.start for steer in self.settings.steer]))

    def of(self, episodes: Sequence[Episode]) -> list[float]:
        """The reward of each reply of a round, also stored in the replies. The scales add the round first."""
        for number, scale in enumerate(self.scales):
            scale.add([s for r in all_replies(episodes) if (s := r.scores.get(number)) is not None])
        judged = [self._judge(episode) for episode in episodes]
        if self.settings.whiten == "prompt":
            judged = [_centre(scores) for scores in judged]
            self.within.add([score for scores in judged for score in scores])
            spread = self.within.spread or 1.0
            judged = [[score / spread for score in scores] for scores in judged]
        for episode, scores in zip(episodes, judged, strict=True):
            for reply, score in zip(episode.replies, scores, strict=True):
                reply.rules = self.by_rules(episode.prompt, reply)
                missing = self.missing_end if reply.stop == "length" else 0.0
                reply.earned = score + reply.rules - missing - self._price(episode.prompt, reply)
        return [reply.earned for reply in all_replies(episodes)]

    def _judge(self, episode: Episode) -> list[float]:
        """The joined scores of an episode's replies, each model on its own scale."""
        numbers = judges(episode.prompt, self.settings.sources, self.graders)
        if not numbers:
            return [0.0] * len(episode.replies)
        plain = self.settings.whiten == "none"
        rows = [[r.scores[n] if plain else self.scales[n].apply(r.scores[n]) for r in episode.replies] for n in numbers]
        weights = [self.settings.weights[n] for n in numbers] if self.settings.weights else None
        return combine(rows, weights, self.settings.join)

    def by_rules(self, prompt: Prompt, reply: Reply) -> float:
        """The part of a reply's reward that the rules give."""
        weights = self.settings.rules
        earned = 0.0
        if weights.refusal:
            earned += weights.refusal * refusal(reply.refused, prompt.p_refuse)
        if weights.cut:
            earned += weights.cut * cut(reply.stop)
        if weights.loop:
            earned += weights.loop * loop(reply.text)
        if weights.length:
            earned += weights.length * length(len(reply.ids), weights.length_over)
        if weights.answer:
            earned += weights.answer * answer(reply.text, prompt.dialogue.meta, weights.target)
        return earned

    def _price(self, prompt: Prompt, reply: Reply) -> float:
        """The price that a refusal costs; negative if `least` rewards it."""
        if not reply.refused:
            return 0.0
        priced = zip(self.settings.steer, self.mu, strict=True)
        return fsum(_sign(steer) * mu for steer, mu in priced if prompt.is_of(steer.source))

    def move(self, episodes: Sequence[Episode]) -> None:
        """Update each price by the round's share of refusals on its prompts; without such prompts it stays."""
        for number, steer in enumerate(self.settings.steer):
            refused = [r.refused for e in episodes if e.prompt.is_of(steer.source) for r in e.replies]
            if refused:
                over = _sign(steer) * (sum(refused) / len(refused) - steer.target)
                self.mu[number] = max(0.0, self.mu[number] + steer.rate * over)

    def figures(self) -> dict[str, float]:
        """The prices for the log."""
        return {f"mu_of_{s.source}": mu for s, mu in zip(self.settings.steer, self.mu, strict=True)}

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return {"scales": [scale.state() for scale in self.scales], "within": self.within.state(), "mu": list(self.mu)}


def check_labels(prompts: Sequence[Prompt], heldout: Sequence[Prompt], settings: Settings) -> None:
    """Raises CharterError if a rule, a price or a bound applies to no prompt."""
    advice = f"fill the role harmless, or give rows a {P_REFUSE}"
    if settings.reward.rules.refusal and all(prompt.p_refuse is None for prompt in prompts):
        raise CharterError(f"reward.rules.refusal needs prompts with a label; {advice}")
    if settings.reward.rules.answer and not any(
        isinstance(prompt.dialogue.meta.get(ACCEPTED), list) for prompt in prompts
    ):
        raise CharterError(
            f"reward.rules.answer needs prompts with meta.{ACCEPTED}, a list of right answers; a step of the room "
            "honesty makes them"
        )
    for steer in settings.reward.steer:
        if not any(prompt.is_of(steer.source) for prompt in prompts):
            raise CharterError(f"reward.steer {steer.source}: there are no such prompts; {advice}")
    if settings.keep.most_refusal < 1 and not any(prompt.harmless for prompt in heldout or prompts):
        role = "heldout_harmless" if heldout else "harmless"
        raise CharterError(f"keep.most_refusal needs harmless prompts; fill the role {role}, or give rows a {P_REFUSE}")


def _sign(steer: Steer) -> int:
    return 1 if steer.side == "most" else -1


def _centre(scores: Sequence[float]) -> list[float]:
    """Scores less their mean; exactly 0 if all are equal."""
    if min(scores) == max(scores):
        return [0.0] * len(scores)
    mean = fsum(scores) / len(scores)
    return [score - mean for score in scores]


@dataclass(frozen=True, slots=True)
class Graders:
    """The preference models to maximise, and one that the policy never learns from. `sources`: which maximised models
    judge which prompts, from `reward.sources`. `heldout`: the model that only watches and ranks rounds, if there is
    one. Each process has its own copies."""

    maximised: tuple[PreferenceModel, ...]
    heldout: PreferenceModel | None
    sources: Mapping[str, Sequence[int]]

    @classmethod
    def open(cls, inputs: Inputs, sources: Mapping[str, Sequence[int]], device: str, precision: str) -> Graders:
        """Load the models of the roles `reward` and `heldout_reward`."""
        maximised = [PreferenceModel.open(i.folder, device, precision) for i in inputs.many("reward")]
        heldout = inputs.optional("heldout_reward")
        watching = PreferenceModel.open(heldout.folder, device, precision) if heldout else None
        return cls(tuple(maximised), watching, sources)

    def score(self, episodes: Sequence[Episode]) -> None:
        """Fill in the scores of the maximised models, each for the replies that it judges, and of the held-out one."""
        judge_numbers = [judges(e.prompt, self.sources, len(self.maximised)) for e in episodes]
        for number, grader in enumerate(self.maximised):
            judged = [e for e, numbers in zip(episodes, judge_numbers, strict=True) if number in numbers]
            for reply, value in _score_replies(grader, judged):
                reply.scores[number] = value
        self.score_heldout(episodes)

    def score_heldout(self, episodes: Sequence[Episode]) -> None:
        """Fill in the scores of the held-out model."""
        if self.heldout is not None:
            for reply, value in _score_replies(self.heldout, episodes):
                reply.heldout = value


def _score_replies(grader: PreferenceModel, episodes: Sequence[Episode]) -> Iterator[tuple[Reply, float]]:
    """Every reply of the episodes with its score."""
    items = [(e.dialogue.messages, [r.text for r in e.replies]) for e in episodes]
    scores = divide(items, grader.score) if items else []
    return zip(all_replies(episodes), (score for each in scores for score in each), strict=True)
