"""The models of RL in one place: policy, its frozen start, the critic where there is one, and the preference models.

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
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.judge.detect import is_refusal
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import distribute, divided, full, world
from charter.ground.learn.step import autocast
from charter.ground.model.branches import Batch
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.generation import decoding_of
from charter.ground.model.heads import ValueHead
from charter.ground.model.lora import adapter_off
from charter.ground.model.moved import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.model.transformer import Transformer, Trunk
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import Template
from charter.rooms.rl.prompts import Prompt
from charter.rooms.rl.remote import Asked, Remote, check_gap
from charter.rooms.rl.reward import judges
from charter.rooms.rl.rollout import Episode, Reply, all_replies, batch_of, groups
from charter.rooms.rl.settings import Settings

T = TypeVar("T")

RATIO_TOLERANCE = 1e-3
MEAN_TOLERANCE = 0.05  # of bfloat16; a model of 135M shows 0.01 to 0.02


class Actor:
    """Policy, reference, critic (with baseline critic alone) and graders, with the optimizer and resume state of the
    first and third."""

    def __init__(self, settings: Settings, inputs: Inputs, out: Workspace) -> None:
        self.settings, self.device, self.precision = settings, out.device, out.precision
        self.seed = out.seed
        folder = checkpoint_folder(inputs.one("policy"))
        self.model, self.tokenizer = load_policy(folder, out.device)
        self.model.precision = out.precision
        self.template = Template(self.tokenizer, self.tokenizer.template)
        self.reference: Transformer | None = None
        choose_weights(self.model, settings, derive_seed(out.seed, "adapters"))
        if not settings.lora:
            self.reference = load_policy(folder, out.device)[0].requires_grad_(False)
        self.value_head = (
            ValueHead(self.model.shape.hidden_size).to(out.device) if settings.has_critic else None
        )
        own = settings.has_critic and settings.value.trunk == "own"
        self.value_trunk = load_policy(folder, out.device)[0] if own else None
        self.read = 0  # tokens of the round that this process learnt from
        modules: dict[str, nn.Module] = {"policy": self.model}
        rates = [(self.model.parameters(), settings.lr)]
        if self.value_head is not None:
            modules["value"] = self.value_head
            rates.append((self.value_head.parameters(), settings.value.lr))
        if self.value_trunk is not None:
            modules["value_trunk"] = self.value_trunk
            rates.append((self.value_trunk.parameters(), settings.value.lr / 10))
        distribute(*modules.values(), precision=out.precision)
        self.optimizer = adamw(rates, betas=(0.9, 0.95))
        self.saver = Saver(out.state, modules, self.optimizer, settings.save_every)
        self.graders = [
            PreferenceModel.open(given.folder, out.device, out.precision) for given in inputs.many("reward")
        ]
        heldout = inputs.optional("heldout_reward")
        self.heldout = PreferenceModel.open(heldout.folder, out.device, out.precision) if heldout else None
        self.engine = self._engine()
        sampler = settings.rollout.sampler
        self.remote = (
            Remote(sampler, self.model, self.tokenizer, sorted(self.engine.ends), out) if sampler else None
        )

    def _engine(self) -> Engine:
        replies = self.settings.rollout.prompts * self.settings.rollout.replies
        shared = self.value_head is not None and self.value_trunk is None
        probe = self._shared_values if shared else None
        return Engine(self.model, self.tokenizer, min(64, replies), probe=probe, ends=[self.template.end_id])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, this process has all weights of what learns, to sample and to read with; where it is alone it always
        has."""
        before = self.model, self.value_head, self.value_trunk, self.engine
        with ExitStack() as stack:
            self.model = stack.enter_context(full(self.model))
            if self.value_head is not None:
                self.value_head = stack.enter_context(full(self.value_head))
            if self.value_trunk is not None:
                self.value_trunk = stack.enter_context(full(self.value_trunk))
            if self.model is not before[0]:
                self.engine = self._engine()
            yield
        self.model, self.value_head, self.value_trunk, self.engine = before

    def sample(self, prompts: Sequence[Prompt], step: int) -> list[Episode]:
        """A round of episodes; each reply's seed depends on the run's seed, the round and its place alone.

        Replies come from the policy's own distribution, as PPO needs: nothing is cut from it, and the settings allow
        no temperature of 0. Their text is stripped, as it is everywhere else; their tokens stay as sampled. Where a
        server writes them, values and log-probabilities are read anew, as training reads. Raises CharterError for a
        server whose log-probabilities are not the policy's.
        """
        episodes = self._answered(prompts, step)
        if self.remote is not None:
            self._read_anew(episodes)
            check_gap(all_replies(episodes), self.remote.settings)
        if self.value_trunk is not None:
            self._read_values(self.value_trunk, episodes)
        return episodes

    def answer_heldout(self, prompts: Sequence[Prompt], step: int) -> list[Episode]:
        """One reply to each held-out prompt by the policy as it is, at the checkpoint's own decoding, which a user
        gets (a server draws as in rollouts), and by the same seeds at any round; scored by the model that RL never
        sees."""
        episodes = self._answered(prompts, step, heldout=True)
        self._score_heldout(episodes)
        return episodes

    def _answered(self, prompts: Sequence[Prompt], step: int, heldout: bool = False) -> list[Episode]:
        """Episodes with their replies, which this process or a server writes."""
        episodes = [Episode(p, self.template.encode_prompt(p.dialogue.messages)) for p in prompts]
        drawn = ("heldout",) if heldout else ("rollout", step)
        seeds = [derive_seed(self.seed, *drawn, number) for number in range(len(episodes))]
        count = 1 if heldout else self.settings.rollout.replies
        sampling = self._sampling(heldout)
        asked = [Asked(e.prompt, seed) for e, seed in zip(episodes, seeds, strict=True)]
        if self.remote is None:
            numbered = list(enumerate(asked))
            found = divided(numbered, lambda part: self._written(episodes, part, sampling, count))
        else:
            with naming_prompts(e.dialogue.id for e in episodes):
                completions = self.remote.replies(asked, sampling, count, step, heldout)
            found = [[_row(c) for c in each] for each in completions]
        for episode, rows in zip(episodes, found, strict=True):
            episode.replies = [Reply(*row) for row in rows]
            for reply in episode.replies:
                reply.refused = is_refusal(reply.text)
        return episodes

    def _written(
        self, episodes: Sequence[Episode], part: Sequence[tuple[int, Asked]], sampling: Sampling, count: int
    ) -> list[list[Any]]:
        """The replies to some numbered prompts by the engine of this process; each has what a Reply is of."""
        prompts, seeds = [one.prompt for _, one in part], [one.seed for _, one in part]
        with naming_prompts(episodes[number].dialogue.id for number, _ in part):
            found = self.engine.generate(prompts, sampling, count, seeds)
        return [[_row(c) for c in completions] for completions in found]

    def _sampling(self, heldout: bool) -> Sampling:
        how = self.settings.rollout
        if heldout and self.remote is None:  # a server is asked for whole distributions alone
            return sampling_at(decoding_of(self.model.generation), how.max_tokens)
        return Sampling(temperature=how.temperature, max_tokens=how.max_tokens)

    def score(self, episodes: Sequence[Episode]) -> None:
        """Fill in the scores of the models that RL maximises, each of the replies that it judges, and of the one it
        never sees."""
        chosen = [judges(e.asked, self.settings.reward, len(self.graders)) for e in episodes]
        for number, grader in enumerate(self.graders):
            judged = [e for e, numbers in zip(episodes, chosen, strict=True) if number in numbers]
            for reply, value in _scored(grader, judged):
                reply.scores[number] = value
        self._score_heldout(episodes)

    def _score_heldout(self, episodes: Sequence[Episode]) -> None:
        if self.heldout is not None:
            for reply, value in _scored(self.heldout, episodes):
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
                part, lambda b, members: self._of_tokens(model, self.states(model, b, members), b)
            )

        rows = divided(episodes, read)
        return torch.tensor([p for row in rows for p in row], device=self.device)

    def _by_episode(
        self, episodes: Sequence[Episode], read: Callable[[Batch, Sequence[Episode]], Tensor]
    ) -> list[list[Any]]:
        """A number, or a few, for each reply token of each episode, read in microbatches."""
        flat: list[Any] = []
        with torch.no_grad():
            for members in groups(episodes, self.settings.microbatch_tokens):
                with autocast(self.device, self.precision):
                    flat += read(batch_of(members, self.device), members).tolist()
        return cut(flat, [sum(len(r.ids) for r in e.replies) for e in episodes])

    def states(self, model: Transformer, batch: Batch, episodes: Sequence[Episode] = ()) -> Tensor:
        """States [N, D] that predict the reply tokens of a batch. What the frozen layers, which policy and reference
        share, made of its episodes is kept with them, and read where an earlier pass kept it. In one process alone: of
        several all must gather the weights of a layer, or none."""
        if not self.settings.frozen_layers or not episodes or world().size > 1:
            return model.hidden(batch.ids, batch.layout)[batch.predicts]
        kept = [e.below for e in episodes if e.below is not None]
        known = len(kept) == len(episodes)
        trunk = Trunk(self.settings.frozen_layers, torch.cat(kept) if known else None)
        hidden_TD = model.hidden(batch.ids, batch.layout, trunk)
        if trunk.states is not None and not known:
            parts = trunk.states.split_with_sizes([e.tokens for e in episodes])
            for episode, part in zip(episodes, parts, strict=True):
                episode.below = part
        return hidden_TD[batch.predicts]

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
        assert self.value_head is not None
        values_N: Tensor = self.value_head(hidden_ND)
        return values_N

    def _own_values(self, trunk: Transformer, batch: Batch) -> Tensor:
        with autocast(self.device, self.precision):
            return self._shared_values(self.states(trunk, batch))

    def _read_anew(self, episodes: Sequence[Episode]) -> None:
        """Put training's own log-probabilities into replies that a server wrote, beside the server's, and the values of
        a critic on the policy's trunk, if there is one."""

        def read(batch: Batch, members: Sequence[Episode]) -> Tensor:
            hidden_ND = self.states(self.model, batch, members)
            log_probs_N = self._of_tokens(self.model, hidden_ND, batch)
            values_N = (
                torch.zeros_like(log_probs_N) if self.value_head is None else self._shared_values(hidden_ND)
            )
            return torch.stack((log_probs_N, values_N), 1)

        rows = divided(episodes, lambda part: self._by_episode(part, read))
        pairs = [pair for row in rows for pair in row]
        replies = all_replies(episodes)
        for reply, own in zip(replies, cut(pairs, [len(r.ids) for r in replies]), strict=True):
            reply.sampled = reply.log_probs
            reply.log_probs, reply.values = [pair[0] for pair in own], [pair[1] for pair in own]

    def _read_values(self, trunk: Transformer, episodes: Sequence[Episode]) -> None:
        """Put the values of a critic on its own trunk into the replies."""
        rows = divided(
            episodes, lambda part: self._by_episode(part, lambda batch, _: self._own_values(trunk, batch))
        )
        replies = all_replies(episodes)
        flat = [value for row in rows for value in row]
        for reply, values in zip(replies, cut(flat, [len(r.ids) for r in replies]), strict=True):
            reply.values = values

    def check_ratio_one(self, episodes: Sequence[Episode]) -> None:
        """Before the first update sampling and training must agree on log-probabilities, ratio 1: in float32 on every
        one, in bfloat16, which now and then rounds an unlikely token far off, in the mean. A server's own are held
        against a tolerance in each round instead (`sample`)."""
        with torch.no_grad():
            gaps_N = (self._logprobs(self.model, episodes) - self._sampled(episodes)).abs()
        exact = self.precision == "float32"
        gap = float(gaps_N.max() if exact else gaps_N.mean())
        limit = RATIO_TOLERANCE if exact else MEAN_TOLERANCE
        if gap > limit:
            where = "on a token" if exact else "a token in the mean"
            raise CharterError(
                f"sampling and training disagree by {gap:.2g} nats {where} (at most {limit:g} expected); "
                "the rollouts would be off-policy: please report this with the model's config.json"
            )


def cut(flat: Sequence[T], lengths: Sequence[int]) -> list[list[T]]:
    """A row cut into parts of given lengths."""
    ends = list(accumulate(lengths))
    return [list(flat[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def _scored(grader: PreferenceModel, episodes: Sequence[Episode]) -> Iterator[tuple[Reply, float]]:
    """Every reply of the episodes with its score."""
    items = [(e.dialogue.messages, [r.text for r in e.replies]) for e in episodes]
    scores = divided(items, grader.score) if items else []
    return zip(all_replies(episodes), (score for each in scores for score in each), strict=True)


def _row(completion: Completion) -> list[Any]:
    return [completion.ids, completion.text.strip(), completion.stop, completion.logprobs, completion.probes]
