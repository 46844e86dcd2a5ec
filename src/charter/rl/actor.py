"""The models of PPO in one place: policy, its frozen start, the critic, and the two preference models.

With LoRA the frozen start is the policy with its adapters off; otherwise it is a second copy of the weights.
A critic on the shared trunk is read while sampling, so values cost no pass of their own; one on a trunk of its own
reads each round's replies once they are whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion, Engine, naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.step import autocast
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.heads import ValueHead
from charter.ground.model.lora import adapter_off, add_lora
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.template import Template
from charter.rl.remote import Asked, Remote, check_gap
from charter.rl.rollout import Batch, Episode, Reply, all_replies, batch_of, groups
from charter.rl.settings import Settings

RATIO_TOLERANCE = 1e-3


class Actor:
    """Policy, reference, critic and graders, with the optimizer and resume state of the first and third."""

    def __init__(self, settings: Settings, inputs: Inputs, out: Workspace) -> None:
        self.settings, self.device, self.precision = settings, out.device, out.precision
        self.seed = out.seed
        folder = checkpoint_folder(inputs.one("policy"))
        self.model, self.tokenizer = load_policy(folder, out.device)
        self.model.precision = out.precision
        self.template = Template(self.tokenizer, self.tokenizer.template)
        self.reference: Transformer | None = None
        if settings.lora:
            add_lora(
                self.model, settings.lora.rank, settings.lora.alpha, seed=derive_seed(out.seed, "adapters")
            )
        else:
            self.reference = load_policy(folder, out.device)[0].requires_grad_(False)
        self.value_head = ValueHead(self.model.shape.hidden_size).to(out.device)
        self.value_trunk: Transformer | None = None
        rates = [(self.model.parameters(), settings.lr), (self.value_head.parameters(), settings.value.lr)]
        modules: dict[str, torch.nn.Module] = {"policy": self.model, "value": self.value_head}
        if settings.value.trunk == "own":
            self.value_trunk = load_policy(folder, out.device)[0]
            rates.append((self.value_trunk.parameters(), settings.value.lr / 10))
            modules["value_trunk"] = self.value_trunk
        self.optimizer = adamw(rates, betas=(0.9, 0.95))
        self.saver = Saver(out.state, modules, self.optimizer, settings.save_every)
        self.reward = PreferenceModel.open(inputs.one("reward").folder, out.device, out.precision)
        heldout = inputs.optional("heldout_reward")
        self.heldout = PreferenceModel.open(heldout.folder, out.device, out.precision) if heldout else None
        replies = settings.rollout.prompts * settings.rollout.replies
        self.engine = Engine(
            self.model,
            self.tokenizer,
            min(64, replies),
            probe=self._shared_values if self.value_trunk is None else None,
            ends=[self.template.end_id],
        )
        sampler = settings.rollout.sampler
        self.remote = (
            Remote(sampler, self.model, self.tokenizer, sorted(self.engine.ends), out) if sampler else None
        )

    def sample(self, prompts: Sequence[tuple[Dialogue, str]], step: int) -> list[Episode]:
        """A round of episodes; each reply's seed depends on the run's seed, the round and its place alone.

        Replies come from the policy's own distribution, as PPO needs: nothing is cut from it, and the settings allow
        no temperature of 0. Their text is stripped, as it is everywhere else; their tokens stay as sampled. Where a
        server writes them, values and log-probabilities are read anew, as training reads. Raises CharterError for a
        server whose log-probabilities are not the policy's.
        """
        episodes = [Episode(d, source, self.template.encode_prompt(d.messages)) for d, source in prompts]
        with naming_prompts(e.dialogue.id for e in episodes):
            found = self._completions([e.prompt for e in episodes], step)
        for episode, completions in zip(episodes, found, strict=True):
            episode.replies = [
                Reply(c.ids, c.text.strip(), c.stop, c.logprobs, c.probes) for c in completions
            ]
        if self.remote is not None:
            self._read_anew(episodes)
            check_gap(all_replies(episodes), self.remote.settings)
        if self.value_trunk is not None:
            self._read_values(self.value_trunk, episodes)
        return episodes

    def _completions(self, prompts: list[list[int]], step: int) -> list[list[Completion]]:
        """The replies of a round, by this process's engine or by a server."""
        how = self.settings.rollout
        sampling = Sampling(temperature=how.temperature, max_tokens=how.max_tokens)
        seeds = [derive_seed(self.seed, "rollout", step, i) for i in range(len(prompts))]
        if self.remote is None:
            return self.engine.generate(prompts, sampling, how.replies, seeds)
        asked = [Asked(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return self.remote.replies(asked, sampling, how.replies, step)

    def score(self, episodes: Sequence[Episode]) -> None:
        """Fill in the scores of the model that RL maximises and of the one it never sees."""
        items = [(e.dialogue.messages, [r.text for r in e.replies]) for e in episodes]
        for episode, scores in zip(episodes, self.reward.score(items), strict=True):
            for reply, value in zip(episode.replies, scores, strict=True):
                reply.score = value
        if self.heldout is not None:
            for episode, scores in zip(episodes, self.heldout.score(items), strict=True):
                for reply, value in zip(episode.replies, scores, strict=True):
                    reply.heldout = value

    def old_logprobs(self, episodes: Sequence[Episode]) -> Tensor:
        """log pi of every reply token before the round's updates, [N].

        In float32 sampling's own; of replies that a server wrote, those that were read here. In bfloat16 they are made
        once more, as training makes them: the two round differently, and that alone would move many ratios beyond the
        clip.
        """
        if self.precision == "float32" or self.remote is not None:
            return self._sampled(episodes)
        with torch.no_grad():
            return self._logprobs(self.model, episodes)

    def _sampled(self, episodes: Sequence[Episode]) -> Tensor:
        kept = [p for reply in all_replies(episodes) for p in reply.log_probs]
        return torch.tensor(kept, device=self.device)

    def reference_logprobs(self, episodes: Sequence[Episode]) -> Tensor:
        """log pi_0 of every reply token, [N]."""
        off = adapter_off(self.model) if self.reference is None else nullcontext()
        with torch.no_grad(), off:
            return self._logprobs(self.reference or self.model, episodes)

    def _logprobs(self, model: Transformer, episodes: Sequence[Episode]) -> Tensor:
        parts = []
        for members in groups(episodes, self.settings.microbatch_tokens):
            batch = batch_of(members, self.device)
            with autocast(self.device, self.precision):
                hidden_ND = model.hidden(batch.ids, batch.layout)[batch.predicts]
                parts.append(self._of_tokens(model, hidden_ND, batch))
        return torch.cat(parts)

    def _of_tokens(self, model: Transformer, hidden_ND: Tensor, batch: Batch) -> Tensor:
        """Log-probabilities [N] of a batch's reply tokens."""
        temperature = self.settings.rollout.temperature
        return token_logprobs(hidden_ND, model.head_weight(), batch.targets, temperature)[0]

    def values(self, batch: Batch, hidden_ND: Tensor) -> Tensor:
        """The critic's values [N] of a batch whose policy hidden states are `hidden_ND`."""
        if self.value_trunk is None:
            return self._shared_values(hidden_ND)
        return self._own_values(self.value_trunk, batch)

    def _shared_values(self, hidden_ND: Tensor) -> Tensor:
        values_N: Tensor = self.value_head(hidden_ND)
        return values_N

    def _own_values(self, trunk: Transformer, batch: Batch) -> Tensor:
        with autocast(self.device, self.precision):
            values_N: Tensor = self.value_head(trunk.hidden(batch.ids, batch.layout)[batch.predicts])
        return values_N

    def _read_anew(self, episodes: Sequence[Episode]) -> None:
        """Put training's own log-probabilities into replies that a server wrote, beside the server's, and the values of
        a critic on the policy's trunk."""
        replies = iter(all_replies(episodes))
        for members in groups(episodes, self.settings.microbatch_tokens):
            batch = batch_of(members, self.device)
            with torch.no_grad(), autocast(self.device, self.precision):
                hidden_ND = self.model.hidden(batch.ids, batch.layout)[batch.predicts]
                own_N = self._of_tokens(self.model, hidden_ND, batch)
                flat, values = own_N.tolist(), self._shared_values(hidden_ND).tolist()
            for reply in (next(replies) for e in members for _ in e.replies):
                count = len(reply.ids)
                reply.sampled, reply.log_probs, reply.values = reply.log_probs, flat[:count], values[:count]
                flat, values = flat[count:], values[count:]

    def _read_values(self, trunk: Transformer, episodes: Sequence[Episode]) -> None:
        """Put the values of a critic on its own trunk into the replies."""
        replies = iter(all_replies(episodes))
        with torch.no_grad():
            for members in groups(episodes, self.settings.microbatch_tokens):
                batch = batch_of(members, self.device)
                flat = self._own_values(trunk, batch).tolist()
                for reply in (next(replies) for e in members for _ in e.replies):
                    reply.values, flat = flat[: len(reply.ids)], flat[len(reply.ids) :]

    def check_ratio_one(self, episodes: Sequence[Episode]) -> None:
        """Before the first update sampling and training must agree on every log-probability: ratio 1. A server's own
        are held against a tolerance in each round instead (`sample`)."""
        with torch.no_grad():
            gap = float((self._logprobs(self.model, episodes) - self._sampled(episodes)).abs().max())
        limit = RATIO_TOLERANCE if self.precision == "float32" else 0.5
        if gap > limit:
            raise CharterError(
                f"sampling and training disagree by {gap:.2g} nats on a token (at most {limit:g} expected); "
                "the rollouts would be off-policy: please report this with the model's config.json"
            )
