"""The models of PPO in one place: policy, its frozen start, the critic, and the two preference models.

With LoRA the frozen start is the policy with its adapters off; otherwise it is a second copy of the weights.
A critic on the shared trunk is read while sampling, so values cost no pass of their own; one on a trunk of its own
reads each round's replies once they are whole.

Several processes share what learns by its rows, and have what only reads (the frozen start, the preference models)
each for itself. Each writes and reads the replies to its part of a round's prompts; every process then has all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion, Engine, naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import distribute, divided, full
from charter.ground.learn.step import autocast
from charter.ground.model.branches import Batch
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.heads import ValueHead
from charter.ground.model.lora import adapter_off, add_lora
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.template import Template
from charter.rl.remote import Asked, Remote, check_gap
from charter.rl.rollout import Episode, Reply, all_replies, batch_of, groups
from charter.rl.settings import Settings

T = TypeVar("T")

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
        self.value_trunk = load_policy(folder, out.device)[0] if settings.value.trunk == "own" else None
        self.read = 0  # tokens of the round that this process learnt from
        modules: dict[str, nn.Module] = {"policy": self.model, "value": self.value_head}
        if self.value_trunk is not None:
            modules["value_trunk"] = self.value_trunk
        distribute(*modules.values(), precision=out.precision)
        rates = [(self.model.parameters(), settings.lr), (self.value_head.parameters(), settings.value.lr)]
        if self.value_trunk is not None:
            rates.append((self.value_trunk.parameters(), settings.value.lr / 10))
        self.optimizer = adamw(rates, betas=(0.9, 0.95))
        self.saver = Saver(out.state, modules, self.optimizer, settings.save_every)
        self.reward = PreferenceModel.open(inputs.one("reward").folder, out.device, out.precision)
        heldout = inputs.optional("heldout_reward")
        self.heldout = PreferenceModel.open(heldout.folder, out.device, out.precision) if heldout else None
        self.engine = self._engine()
        sampler = settings.rollout.sampler
        self.remote = (
            Remote(sampler, self.model, self.tokenizer, sorted(self.engine.ends), out) if sampler else None
        )

    def _engine(self) -> Engine:
        replies = self.settings.rollout.prompts * self.settings.rollout.replies
        probe = self._shared_values if self.value_trunk is None else None
        return Engine(self.model, self.tokenizer, min(64, replies), probe=probe, ends=[self.template.end_id])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, this process has all weights of what learns, to sample and to read with; where it is alone it always
        has."""
        before = self.model, self.value_head, self.value_trunk, self.engine
        with ExitStack() as stack:
            self.model = stack.enter_context(full(self.model))
            self.value_head = stack.enter_context(full(self.value_head))
            if self.value_trunk is not None:
                self.value_trunk = stack.enter_context(full(self.value_trunk))
            if self.model is not before[0]:
                self.engine = self._engine()
            yield
        self.model, self.value_head, self.value_trunk, self.engine = before

    def sample(self, prompts: Sequence[tuple[Dialogue, str]], step: int) -> list[Episode]:
        """A round of episodes; each reply's seed depends on the run's seed, the round and its place alone.

        Replies come from the policy's own distribution, as PPO needs: nothing is cut from it, and the settings allow
        no temperature of 0. Their text is stripped, as it is everywhere else; their tokens stay as sampled. Where a
        server writes them, values and log-probabilities are read anew, as training reads. Raises CharterError for a
        server whose log-probabilities are not the policy's.
        """
        episodes = [Episode(d, source, self.template.encode_prompt(d.messages)) for d, source in prompts]
        if self.remote is None:
            found = divided(list(enumerate(episodes)), lambda part: self._written(part, step))
        else:
            found = self._asked(episodes, step)
        for episode, rows in zip(episodes, found, strict=True):
            episode.replies = [Reply(*row) for row in rows]
        if self.remote is not None:
            self._read_anew(episodes)
            check_gap(all_replies(episodes), self.remote.settings)
        if self.value_trunk is not None:
            self._read_values(self.value_trunk, episodes)
        return episodes

    def _written(self, part: Sequence[tuple[int, Episode]], step: int) -> list[list[Any]]:
        """The replies of some numbered episodes by the engine of this process; each has what a Reply is of."""
        prompts = [episode.prompt for _, episode in part]
        seeds = [self._seed(step, number) for number, _ in part]
        with naming_prompts(episode.dialogue.id for _, episode in part):
            found = self.engine.generate(prompts, self._sampling(), self.settings.rollout.replies, seeds)
        return [[_row(c) for c in completions] for completions in found]

    def _asked(self, episodes: Sequence[Episode], step: int) -> list[list[Any]]:
        """The replies of a round by a server."""
        assert self.remote is not None
        asked = [Asked(e.prompt, self._seed(step, number)) for number, e in enumerate(episodes)]
        with naming_prompts(e.dialogue.id for e in episodes):
            found = self.remote.replies(asked, self._sampling(), self.settings.rollout.replies, step)
        return [[_row(c) for c in completions] for completions in found]

    def _sampling(self) -> Sampling:
        how = self.settings.rollout
        return Sampling(temperature=how.temperature, max_tokens=how.max_tokens)

    def _seed(self, step: int, number: int) -> int:
        return derive_seed(self.seed, "rollout", step, number)

    def score(self, episodes: Sequence[Episode]) -> None:
        """Fill in the scores of the model that RL maximises and of the one it never sees."""
        items = [(e.dialogue.messages, [r.text for r in e.replies]) for e in episodes]
        for episode, scores in zip(episodes, divided(items, self.reward.score), strict=True):
            for reply, value in zip(episode.replies, scores, strict=True):
                reply.score = value
        if self.heldout is not None:
            for episode, scores in zip(episodes, divided(items, self.heldout.score), strict=True):
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
        def read(part: Sequence[Episode]) -> list[list[float]]:
            return self._by_episode(
                part, lambda batch: self._of_tokens(model, self._predicting(model, batch), batch)
            )

        rows = divided(episodes, read)
        return torch.tensor([p for row in rows for p in row], device=self.device)

    def _by_episode(self, episodes: Sequence[Episode], read: Callable[[Batch], Tensor]) -> list[list[Any]]:
        """A number, or a few, for each reply token of each episode, read in microbatches."""
        flat: list[Any] = []
        with torch.no_grad():
            for members in groups(episodes, self.settings.microbatch_tokens):
                with autocast(self.device, self.precision):
                    flat += read(batch_of(members, self.device)).tolist()
        return cut(flat, [sum(len(r.ids) for r in e.replies) for e in episodes])

    def _predicting(self, model: Transformer, batch: Batch) -> Tensor:
        """States [N, D] that predict the reply tokens of a batch."""
        return model.hidden(batch.ids, batch.layout)[batch.predicts]

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
            values_N: Tensor = self.value_head(self._predicting(trunk, batch))
        return values_N

    def _read_anew(self, episodes: Sequence[Episode]) -> None:
        """Put training's own log-probabilities into replies that a server wrote, beside the server's, and the values of
        a critic on the policy's trunk."""

        def read(batch: Batch) -> Tensor:
            hidden_ND = self._predicting(self.model, batch)
            return torch.stack(
                (self._of_tokens(self.model, hidden_ND, batch), self._shared_values(hidden_ND)), 1
            )

        rows = divided(episodes, lambda part: self._by_episode(part, read))
        pairs = [pair for row in rows for pair in row]
        replies = all_replies(episodes)
        for reply, own in zip(replies, cut(pairs, [len(r.ids) for r in replies]), strict=True):
            reply.sampled = reply.log_probs
            reply.log_probs, reply.values = [pair[0] for pair in own], [pair[1] for pair in own]

    def _read_values(self, trunk: Transformer, episodes: Sequence[Episode]) -> None:
        """Put the values of a critic on its own trunk into the replies."""
        rows = divided(
            episodes, lambda part: self._by_episode(part, lambda batch: self._own_values(trunk, batch))
        )
        replies = all_replies(episodes)
        flat = [value for row in rows for value in row]
        for reply, values in zip(replies, cut(flat, [len(r.ids) for r in replies]), strict=True):
            reply.values = values

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


def cut(flat: Sequence[T], lengths: Sequence[int]) -> list[list[T]]:
    """A row cut into parts of given lengths."""
    ends = list(accumulate(lengths))
    return [list(flat[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def _row(completion: Completion) -> list[Any]:
    return [completion.ids, completion.text.strip(), completion.stop, completion.logprobs, completion.probes]
