"""The graders: the preference models to maximise, and one that the policy never learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.parallel import divide
from charter.rooms.rl.reward import judges
from charter.rooms.rl.rollout import Episode, Reply, all_replies


@dataclass(frozen=True, slots=True)
class Graders:
    """`sources`: which maximised models judge which prompts, from `reward.sources`. `heldout`: the model that only
    watches and ranks rounds, if there is one. Each process has its own copies."""

    maximised: tuple[PreferenceModel, ...]
    heldout: PreferenceModel | None
    sources: Mapping[str, Sequence[int]]

    @classmethod
    def open(
        cls, inputs: Inputs, sources: Mapping[str, Sequence[int]], device: str, precision: str
    ) -> Graders:
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
