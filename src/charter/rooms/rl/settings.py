"""Settings and roles of the rl room, with those of the reward and of the drift monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, NonNegativeInt, field_validator, model_validator

from charter.ground.settings.frozen import Frozen, Moved
from charter.ground.settings.room import LEARNT, Estimate, Filled, Role, Room, Sizes
from charter.rooms.rl.prompts import HARMLESS, PROMPTS, label

Name = Literal[
    "boilerplate", "harsh", "loop", "cut", "evasion", "refusal_harmless", "refusal_prompts", "length", "ngrams"
]
ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "reward": Role(kind="checkpoint", variant="preference", many=True, required=False),
    "heldout_reward": Role(kind="checkpoint", variant="preference", required=False),
    "prompts": Role(kind="dialogues", rows="prompts", many=True),
    "harmless": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "heldout_prompts": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "heldout_harmless": Role(kind="dialogues", rows="prompts", many=True, required=False),
}
# rounds of replies over which the KL coefficient adapts if no horizon is set
STEADY_ROUNDS = 4
# the policy, its start and two graders read each reply, and share the reading of a prompt: about as much as one alone
READERS = 1


class Monitor(Frozen):
    """Snapshots of the replies, each compared with the first one."""

    window: int = Field(200, ge=0, description="least replies of a snapshot, in whole rounds; 0: no snapshots")
    level: float = Field(0.05, gt=0, lt=1, description="probability that a snapshot without drift has any alarm")
    stop: bool = Field(False, description="end training on an alarm that stop_on names")
    stop_on: tuple[Name, ...] = Field(
        ("loop", "harsh", "cut", "refusal_harmless"), min_length=1, description="alarms that end training"
    )


class Rules(Frozen):
    """Weights of plain rules in the reward; 0 leaves a rule out."""

    refusal: float = Field(
        0.0, ge=0, description="weight of the agreement of refusing or answering with the prompt's label, from -1 to 1"
    )
    cut: float = Field(0.0, ge=0, description="penalty of a reply cut at max_tokens")
    loop: float = Field(0.0, ge=0, description="penalty of a reply that repeats itself endlessly")
    length: float = Field(0.0, ge=0, description="penalty for each 100 tokens beyond length_over")
    length_over: int = Field(0, ge=0, description="tokens without penalty")
    answer: float = Field(
        0.0, ge=0, description="weight of a right answer to a prompt with meta.accepted; declined 0, wrong -t / (1 - t)"
    )
    target: float = Field(0.75, gt=0, lt=1, description="t of answer: the accuracy from which answering pays")

    @property
    def any(self) -> bool:
        """Whether any rule has a weight."""
        return any((self.refusal, self.cut, self.loop, self.length, self.answer))


class Steer(Frozen):
    """A price mu of refusing some prompts, moved each round until refusals reach the target."""

    source: str = Field(HARMLESS, min_length=1, description="harmless, prompts (the others), or the name of a source")
    side: Literal["most", "least"] = Field(
        "most", description="whether the target is an upper or a lower bound of the share of refusals"
    )
    target: float = Field(0.06, ge=0, le=1, description="bound of the share of refusals")
    rate: float = Field(0.5, gt=0, description="change of mu in a round per unit of distance from the target")
    start: float = Field(0.0, ge=0, description="mu of the first round")


class Rewards(Frozen):
    """The reward of a reply before the KL penalty."""

    weights: tuple[NonNegativeFloat, ...] = Field((), description="weight of each `reward` model; empty: equal")
    join: Literal["mean", "min"] = Field(
        "mean", description="with several models, the weighted mean or the least score"
    )
    sources: dict[str, tuple[NonNegativeInt, ...]] = Field(
        {}, description="by source, or harmless and prompts: indices (from 0) of the models that judge it; else all"
    )
    whiten: Literal["batch", "prompt", "none"] = Field(
        "batch",
        description="scale scores to mean 0, variance 1 over all rounds so far; prompt: deviations within prompts",
    )
    rules: Rules = Field(Rules(), description="weights of plain rules")
    steer: Annotated[tuple[Steer, ...], Field(max_length=8)] = Field(
        (), description="prices of refusing, or of not refusing, that bound shares of refusals"
    )

    @field_validator("steer", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, dict | Steer) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.join == "min" and self.weights:
            raise ValueError("the least score has no weights; leave weights out, or set join to mean")
        sources = [steer.source for steer in self.steer]
        if len(set(sources)) < len(sources):
            raise ValueError(f"steer names {sources}; give each source one price")
        return self


class Server(Frozen):
    """A server that writes the replies, vLLM or `charter serve`. It gets the policy's weights before each round."""

    url: str = Field(description="where the server is, such as http://127.0.0.1:8000")
    model: str = Field("policy", min_length=1, description="the server's name of the model that it started with")
    weights: Literal["reload", "lora"] = Field(
        "reload", description="whole weights into the server's model, or (with lora) an adapter beside it"
    )
    folder: str = Field(
        "", description="folder for the weights, on a disk that both see; empty: in the step's own state"
    )
    there: str = Field("", description="path of that folder on the server's machine; empty: the same")
    untied: bool = Field(
        False, description="write a tied head as a tensor of its own: vLLM on a CPU reloads no tied one"
    )
    tolerance: float = Field(
        0.05, gt=0, description="mean gap of log-probabilities, nats a token, up to which its replies are the policy's"
    )
    beyond: Literal["refuse", "correct"] = Field(
        "refuse", description="beyond it, refuse the round, or correct by importance weights of its tokens"
    )
    truncate: float = Field(2.0, ge=1, description="largest importance weight of a token")
    away: float = Field(600.0, ge=0, description="seconds to wait for an unreachable server")

    @field_validator("url")
    @classmethod
    def _reachable(cls, value: str) -> str:
        place = urlsplit(value)
        if place.scheme not in ("http", "https") or not place.hostname or place.fragment or place.password:
            raise ValueError(
                f"{value} is no address of a server; write http://HOST:PORT, and set a key as OPENAI_API_KEY"
            )
        return value.rstrip("/")


class Rollout(Frozen):
    """How the policy acts. Its own distribution is sampled, so there is no top-k, top-p or penalty to set."""

    prompts: int = Field(16, ge=1, description="prompts per step")
    replies: int = Field(1, ge=1, description="replies per prompt, sharing one prefill")
    max_tokens: int = Field(48, ge=1, description="longest reply, in tokens")
    temperature: float = Field(1.0, gt=0, description="sampling temperature; also used by the log-probabilities")
    missing_end: float = Field(
        0.0, ge=0, description="penalty on the (whitened) score of a reply cut at max_tokens, like reward.rules.cut"
    )
    sampler: Server | None = Field(None, description="a server that writes the replies; null: this process does")


class Kl(Frozen):
    """The penalty that keeps the policy near its start: r = s - coefficient * KL."""

    coefficient: float = Field(0.05, ge=0, description="lambda; the paper's 0.001 fits its own score scale")
    form: Literal["token", "sequence"] | None = Field(
        None, description="charge KL at each token or at the end; null: token with a critic, sequence without"
    )
    adaptive_target: float = Field(0.0, ge=0, description="nats a reply to steer towards; 0 keeps lambda fixed")
    horizon: float = Field(
        0.0, ge=0, description="replies over which the adaptive lambda moves; 0: those of four rounds"
    )
    stop_at: float = Field(0.0, ge=0, description="end training once mean KL a reply exceeds this; 0: never")

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.adaptive_target and not self.coefficient:
            raise ValueError("a coefficient of 0 can't adapt; start it above 0, or set adaptive_target to 0")
        return self


class Value(Frozen):
    """The critic, and how advantages are estimated with it."""

    trunk: Literal["shared", "own"] = Field("shared", description="shared adds no cost, own is trained separately")
    coefficient: float = Field(0.1, ge=0, description="weight of the value loss")
    clip: float = Field(0.2, ge=0, description="clip range around the old value; 0: free")
    lr: float = Field(1e-3, gt=0, description="learning rate of the head (and of an own trunk, a tenth of it)")
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    gae_lambda: float = Field(
        1.0, ge=0, le=1, description="lambda of the advantage estimate; below 1 the first tokens learn little"
    )


class Keep(Frozen):
    """Which round's policy is the product. Checks rank by bounds first, then by held-out reward."""

    round: Literal["last", "best"] = Field("last", description="the policy that is the product")
    every: int = Field(4, ge=1, description="rounds between checks")
    most_refusal: float = Field(1.0, ge=0, le=1, description="bound of the share of harmless prompts that are refused")
    most_cut: float = Field(1.0, ge=0, le=1, description="bound of the share of replies cut at max_tokens")
    patience: int = Field(0, ge=0, description="end training after this many checks without improvement; 0: never")

    @model_validator(mode="after")
    def _checks(self) -> Self:
        fields = type(self).model_fields
        idle = [name for name, field in fields.items() if getattr(self, name) != field.default]
        if self.round == "last" and idle:
            raise ValueError(f"{' and '.join(idle)} need checks; set keep.round to best, or leave them out")
        return self


class Updates(Moved):
    """Number and size of rounds and optimizer steps."""

    steps: int = Field(8, ge=1, description="rollout-and-update rounds")
    epochs: int = Field(1, ge=1, description="passes over each round's replies")
    minibatches: int = Field(1, ge=1, description="optimizer steps per pass")
    lr: float = Field(2e-6, gt=0, description="learning rate of the policy, constant after the warm-up")
    warmup: int = Field(0, ge=0, description="rounds of linear warm-up")
    clip: float = Field(0.2, gt=0, description="clip range of the probability ratio")
    gradient_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")


class Settings(Updates):
    """Policy gradients against preference models and rules, with a KL penalty to the starting policy."""

    baseline: Literal["critic", "others"] = Field(
        "critic", description="what a reply is compared with: a critic, or the other replies to its prompt"
    )
    microbatch_tokens: int = Field(2048, ge=64, description="most tokens in one forward pass; bounds memory")
    rollout: Rollout = Field(Rollout(), description="how replies are sampled")
    kl: Kl = Field(Kl(), description="the penalty")
    value: Value = Field(Value(), description="the critic")
    reward: Rewards = Field(Rewards(), description="the reward of a reply")
    keep: Keep = Field(Keep(), description="which round's policy is the product")
    monitor: Monitor = Field(Monitor(), description="snapshots that show drift of the replies")
    save_every: int = Field(0, ge=0, description="rounds between resume states; 0 saves every three minutes")

    @property
    def has_critic(self) -> bool:
        """Whether advantages need a critic."""
        return self.baseline == "critic"

    @property
    def kl_by_token(self) -> bool:
        """Whether KL is charged at each token."""
        return (self.kl.form or ("token" if self.has_critic else "sequence")) == "token"

    @property
    def kl_horizon(self) -> float:
        """Replies over which the adaptive lambda moves."""
        return self.kl.horizon or STEADY_ROUNDS * self.rollout.prompts * self.rollout.replies

    @property
    def kl_reach(self) -> float:
        """About the logarithm of the largest factor by which the adaptive lambda can change in all rounds."""
        replies = self.rollout.prompts * self.rollout.replies
        return 0.2 * self.steps * min(1.0, replies / self.kl_horizon)

    @model_validator(mode="after")
    def _enough_prompts(self) -> Settings:
        prompts = self.rollout.prompts
        # the replies of a prompt share it and stay together
        if self.minibatches > prompts:
            raise ValueError(f"minibatches ({self.minibatches}) must not exceed the {prompts} prompts of a step")
        return self

    @model_validator(mode="after")
    def _enough_replies(self) -> Settings:
        compares = {"baseline others": not self.has_critic, "reward.whiten prompt": self.reward.whiten == "prompt"}
        for name in (name for name, on in compares.items() if on and self.rollout.replies < 2):
            raise ValueError(f"{name} compares the replies to a prompt, and rollout.replies is 1; set it to 2 or more")
        if not self.has_critic and self.value != Value():
            raise ValueError("baseline others makes no critic; leave value out, or set baseline to critic")
        return self

    @model_validator(mode="after")
    def _adapters(self) -> Settings:
        sampler = self.rollout.sampler
        if sampler is not None and sampler.weights == "lora" and self.lora is None:
            raise ValueError("a sampler that takes adapters needs lora; set lora, or its weights to reload")
        return self


def check(settings: Settings, roles: Filled) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    graders, reward = len(roles.get("reward", ())), settings.reward
    if not graders and not reward.rules.any:
        return "nothing rewards a reply: give the role reward, or a weight in reward.rules"
    if graders and reward.weights and len(reward.weights) != graders:
        return f"reward.weights has {len(reward.weights)} numbers for {graders} reward models; give one per model"
    sources = [label(source.name) for role in (PROMPTS, HARMLESS) for source in roles.get(role, ())]
    return (
        _wrong_sources(reward, graders, sources)
        or _wrong_keep(settings, roles, graders)
        or _wrong_names([steer.source for steer in reward.steer], "reward.steer", sources)
    )


def _wrong_names(names: Sequence[str], setting: str, sources: Sequence[str]) -> str:
    allowed = dict.fromkeys([HARMLESS, PROMPTS, *sources])
    unknown = [name for name in names if name not in allowed]
    return f"{setting} names {unknown[0]}, which no prompts have; allowed: {', '.join(allowed)}" if unknown else ""


def _wrong_sources(reward: Rewards, graders: int, sources: Sequence[str]) -> str:
    for name, numbers in reward.sources.items():
        wrong = [number for number in numbers if number >= graders]
        if wrong:
            return f"reward.sources {name} names model {wrong[0]}, but the {graders} of reward count from 0"
        if not numbers or (reward.weights and not sum(reward.weights[number] for number in set(numbers))):
            return f"reward.sources {name} leaves no model that counts; name one with a weight above 0"
    if reward.weights and not sum(reward.weights):
        return "reward.weights are all 0; set one above it"
    return _wrong_names(list(reward.sources), "reward.sources", sources)


def _wrong_keep(settings: Settings, roles: Filled, graders: int) -> str:
    checked = [role for role in ("heldout_prompts", "heldout_harmless") if roles.get(role)]
    if settings.keep.round == "last":
        return f"{checked[0]} are read only by checks: set keep.round to best, or leave them out" if checked else ""
    if graders and not roles.get("heldout_reward") and not settings.reward.rules.any:
        return "keep.round best ranks by held-out reward or by rules: give heldout_reward, or set reward.rules"
    if checked == ["heldout_harmless"]:
        return "heldout_harmless needs heldout_prompts: give these too"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time of sampling (300 tokens/s at 135M on two cores), of learning, and of the models that read each reply, each
    at a third of learning's; one more round measures the product."""
    parameters = sizes.parameters.get("policy")
    if not parameters:
        return Estimate()
    scale = sizes.speed(parameters)
    replies = settings.rollout.prompts * settings.rollout.replies
    # a check writes a reply to each held-out prompt
    if settings.keep.round == "best":
        checked = sizes.rows.get("heldout_prompts", 0) + sizes.rows.get("heldout_harmless", 0)
        replies += checked // settings.keep.every
    sampled_tokens = replies * settings.rollout.max_tokens
    # how fast a server writes is not known
    local_tokens = 0 if settings.rollout.sampler else sampled_tokens
    prompt_tokens = replies * sizes.mean_tokens("prompts", "harmless")
    learnt_tokens = (prompt_tokens + sampled_tokens) * (
        settings.epochs * sizes.training_share(settings.frozen_layers) + READERS / 3
    )
    seconds = (settings.steps + 1) * (local_tokens / (300 * scale) + learnt_tokens / (LEARNT * scale))
    copies = 4 if settings.lora else 16
    checkpoints = (3 if settings.rollout.sampler else 0) + (2 if settings.keep.round == "best" else 0)
    return Estimate(
        minutes=seconds / 60,
        memory_gib=(parameters * (copies + 4 + 8) + 4 * 3000 * settings.microbatch_tokens * 30) / 2**30,
        disk_gib=4 * parameters * (1 + checkpoints) / 2**30,
    )


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="policy",
    estimate=estimate,
    check=check,
    learns=True,
    method="reinforcement learning",
    against_harm="The policy was charged for moving away from its start (KL).",
)
