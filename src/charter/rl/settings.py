"""Settings and roles of the rl room."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from charter.ground.artifact.kinds import Kind
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen, Lora
from charter.ground.settings.roles import Role

PRODUCT: Kind = "checkpoint"
VARIANT = "policy"
LEARNS = True
ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "reward": Role(kind="checkpoint", variant="preference"),
    "heldout_reward": Role(kind="checkpoint", variant="preference", required=False),
    "prompts": Role(kind="dialogues", many=True),
}


class Sampler(Frozen):
    """A server that writes the replies, vLLM or `charter serve`: it is given the policy's weights before each round."""

    url: str = Field(description="where the server is, such as http://127.0.0.1:8000")
    model: str = Field(
        "policy", min_length=1, description="what the server calls the model that it started with"
    )
    weights: Literal["reload", "lora"] = Field(
        "reload", description="whole weights into the server's model, or (with lora) an adapter beside it"
    )
    folder: str = Field(
        "",
        description="where weights are written for it, on a disk that both see; empty: the step's own state",
    )
    there: str = Field("", description="the same folder as the server's machine names it; empty: alike")
    untied: bool = Field(
        False, description="write a tied head as a tensor of its own: vLLM on a CPU reloads no tied one"
    )
    tolerance: float = Field(
        0.05,
        gt=0,
        description="mean gap of log-probabilities, nats a token, up to which its replies are the policy's",
    )
    beyond: Literal["refuse", "correct"] = Field(
        "refuse", description="beyond it the round is refused, or its tokens are weighted by importance"
    )
    truncate: float = Field(2.0, ge=1, description="most weight of a token where they are")
    away: float = Field(600.0, ge=0, description="seconds that a server which can't be reached is waited for")

    @field_validator("url")
    @classmethod
    def _reachable(cls, value: str) -> str:
        place = urlsplit(value)
        if place.scheme not in ("http", "https") or not place.hostname or place.fragment or place.password:
            raise ValueError(
                f"{value} is no address of a server; write http://HOST:PORT, a key goes into OPENAI_API_KEY"
            )
        return value.rstrip("/")


class Rollout(Frozen):
    """How the policy acts. Its own distribution is sampled, so there is no top-k, top-p or penalty to set."""

    prompts: int = Field(16, ge=1, description="prompts per step")
    replies: int = Field(1, ge=1, description="replies per prompt, sharing one prefill")
    max_tokens: int = Field(48, ge=1, description="longest reply, in tokens")
    temperature: float = Field(
        1.0, gt=0, description="sampling temperature; also used by the log-probabilities"
    )
    missing_end: float = Field(
        0.0, ge=0, description="taken off the (whitened) score of a reply cut at max_tokens"
    )
    sampler: Sampler | None = Field(
        None, description="a server that writes the replies; none: this process does"
    )


class Kl(Frozen):
    """The penalty that keeps the policy near its start: r = r_PM - coefficient * KL."""

    coefficient: float = Field(0.05, ge=0, description="lambda; the paper's 0.001 fits its own score scale")
    form: Literal["token", "sequence"] = Field("token", description="charge KL where it arises or at the end")
    adaptive_target: float = Field(
        0.0, ge=0, description="nats a reply to steer towards; 0 keeps lambda fixed"
    )
    horizon: float = Field(1000.0, gt=0, description="replies over which the adaptive lambda moves")
    stop_at: float = Field(0.0, ge=0, description="end training once mean KL a reply exceeds this; 0: never")

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.adaptive_target and not self.coefficient:
            raise ValueError("a coefficient of 0 can't adapt; start it above 0, or set adaptive_target to 0")
        return self


class Value(Frozen):
    """The critic: a linear head on the policy's trunk or on a trunk of its own."""

    trunk: Literal["shared", "own"] = Field(
        "shared", description="shared costs nothing, own learns on its own"
    )
    coefficient: float = Field(0.1, ge=0, description="weight of the value loss")
    clip: float = Field(0.2, ge=0, description="clip range around the old value; 0: free")
    lr: float = Field(
        1e-3, gt=0, description="learning rate of the head (and of an own trunk, a tenth of it)"
    )


class Settings(Frozen):
    """PPO against a preference model with a KL penalty to the starting policy."""

    steps: int = Field(8, ge=1, description="rollout-and-update rounds")
    epochs: int = Field(1, ge=1, description="passes over each round's replies")
    minibatches: int = Field(1, ge=1, description="optimizer steps per pass")
    lr: float = Field(2e-6, gt=0, description="learning rate of the policy, constant after the warm-up")
    warmup: int = Field(0, ge=0, description="rounds of linear warm-up")
    clip: float = Field(0.2, gt=0, description="clip range of the probability ratio")
    gradient_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="lambda of the advantage estimate")
    whiten_scores: bool = Field(True, description="scale scores to mean 0, variance 1 over all rounds so far")
    microbatch_tokens: int = Field(2048, ge=64, description="most tokens in one forward pass; bounds memory")
    rollout: Rollout = Field(Rollout(), description="how replies are sampled")
    kl: Kl = Field(Kl(), description="the penalty")
    value: Value = Field(Value(), description="the critic")
    lora: Lora | None = Field(None, description="train adapters only")
    save_every: int = Field(0, ge=0, description="rounds between resume states; 0 saves every three minutes")

    @model_validator(mode="after")
    def _enough_prompts(self) -> Settings:
        prompts = self.rollout.prompts
        if self.minibatches > prompts:  # the replies of a prompt share it and stay together
            raise ValueError(
                f"minibatches ({self.minibatches}) must not exceed the {prompts} prompts of a step"
            )
        return self

    @model_validator(mode="after")
    def _adapters(self) -> Settings:
        sampler = self.rollout.sampler
        if sampler is not None and sampler.weights == "lora" and self.lora is None:
            raise ValueError("a sampler that takes adapters needs lora; set lora, or its weights to reload")
        return self


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time of sampling (300 tokens/s at 135M on two cores), of learning, and of four models that read each reply, at a
    third of what learning takes; one round more measures what came out."""
    parameters = sizes.parameters.get("policy")
    if not parameters:
        return Estimate()
    scale = sizes.speed(parameters)
    replies = settings.rollout.prompts * settings.rollout.replies
    sampled = replies * settings.rollout.max_tokens
    here = 0 if settings.rollout.sampler else sampled  # how fast a server writes is not known
    learned = (replies * 40 + sampled) * (settings.epochs + 4 / 3)
    seconds = (settings.steps + 1) * (here / (300 * scale) + learned / (210 * scale))
    copies = 4 if settings.lora else 16
    return Estimate(
        minutes=seconds / 60,
        memory_gib=(parameters * (copies + 4 + 8) + 4 * 3000 * settings.microbatch_tokens * 30) / 2**30,
        disk_gib=(4 * parameters + (3 * 4 * parameters if settings.rollout.sampler else 0)) / 2**30,
    )
