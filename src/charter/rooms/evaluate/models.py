"""The models of a report, each loaded once, at its first use."""

from __future__ import annotations

from functools import cached_property

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, LocalAssistant, open_assistant
from charter.ground.generate.response_cache import Memory
from charter.ground.judge.best_of_n import apply_strategy, scores_of
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.model.opening import checkpoint_folder

# Of first, second and third readings of essays.
EXAMINERS = ("examiner", "second_examiner", "third_examiner")


def examiner_role(inputs: Inputs) -> str:
    """The role of the model that reads essays first: the helper, else the model under test, if no examiner is given."""
    return next((role for role in (EXAMINERS[0], "helper") if inputs.optional(role)), "policy")


class Models:
    """The models of a report. Each is loaded once, at its first use.

    `helper` maps free answers to options; without one the model under test does. `reward` is the preference model that
    RL maximised; its scores stand beside the frozen grader's. `rater` rates harm from 0 to 4. `judge` reads replies and
    answers questions about them. `start` scores how likely each reply is. The last four are None if a report has none.
    `show` says how the model under test is sampled.
    """

    def __init__(self, inputs: Inputs, out: Workspace, show: SamplingStrategy | None = None) -> None:
        self.inputs, self.out, self.show = inputs, out, show or SamplingStrategy()
        self._memory = Memory.of(out)

    @cached_property
    def policy(self) -> Assistant:
        """The model under test by itself."""
        return self._assistant("policy")

    @cached_property
    def assistant(self) -> Assistant:
        """The model under test, sampled as the report shows it. Raises CharterError if the ranker is the grader."""
        source = self.inputs.optional("ranker")
        if source is None:
            return apply_strategy(self.policy, self.show)
        grader = self.inputs.optional("grader")
        if grader is not None and grader.id == source.id:
            raise CharterError(
                f"ranker and grader are one model ({source.name}): a model can't grade the replies that it chose; give "
                "a ranker of other comparisons (`pairs.part`)"
            )
        ranker = PreferenceModel.open(source.folder, self.out.device, self.out.precision)
        return apply_strategy(self.policy, self.show, scores_of(ranker))

    @cached_property
    def helper(self) -> Assistant:
        """The model that maps free answers to options."""
        return self._assistant("helper") if self.inputs.optional("helper") else self.policy

    @cached_property
    def judge(self) -> Assistant | None:
        """The engine that judges replies in words."""
        return self._assistant("judge") if self.inputs.optional("judge") else None

    @cached_property
    def start(self) -> LocalAssistant | None:
        """The model that training started from."""
        source = self.inputs.optional("start")
        if source is None:
            return None
        return LocalAssistant.open(checkpoint_folder(source), self.out.device, precision=self.out.precision)

    @cached_property
    def grader(self) -> PreferenceModel:
        """The frozen preference model that judges all stages."""
        return PreferenceModel.open(self.inputs.one("grader").folder, self.out.device, self.out.precision)

    @cached_property
    def reward(self) -> PreferenceModel | None:
        """The preference model that RL maximised. Raises CharterError if it is the grader itself."""
        source = self.inputs.optional("reward")
        if source is not None and source.id == self.inputs.one("grader").id:
            raise CharterError(
                f"grader and reward are one model ({source.name}): a model can't grade what was trained to please it; "
                "give a grader of other prompts (`pairs.part`), or leave `reward` out if nothing maximised it"
            )
        return PreferenceModel.open(source.folder, self.out.device, self.out.precision) if source else None

    @cached_property
    def rater(self) -> PreferenceModel | None:
        """The model that rates harm."""
        source = self.inputs.optional("rater")
        if source is None:
            return None
        return PreferenceModel.open(source.folder, self.out.device, self.out.precision, "rating")

    @cached_property
    def examiners(self) -> list[Assistant]:
        """The models that read essays first, second and third; without a role of its own, the one before reads."""
        return [self._assistant(role) for role in self._examiner_roles]

    @property
    def examiner_ids(self) -> list[str]:
        """The ids of these models, each once, in order."""
        return list(dict.fromkeys(self.inputs.one(role).id for role in self._examiner_roles))

    @property
    def _examiner_roles(self) -> list[str]:
        before, roles = examiner_role(self.inputs), []
        for role in EXAMINERS:
            before = role if self.inputs.optional(role) else before
            roles.append(before)
        return roles

    def _assistant(self, role: str) -> Assistant:
        source = self.inputs.one(role)
        return open_assistant(source, self.out.device, precision=self.out.precision, memory=self._memory)
