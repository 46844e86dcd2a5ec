"""The sampler: samples the replies of a round by the engine of this process, or by a server.

Several processes each sample and read the replies to a part of a round's prompts, then share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion, Engine, naming_prompts
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.judge.detect import is_refusal
from charter.ground.learn.parallel import divide
from charter.ground.model.branches import Batch
from charter.ground.model.generation import decoding_of
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import Template
from charter.rooms.rl.critic import Critic
from charter.rooms.rl.policy import Policy
from charter.rooms.rl.prompts import Prompt
from charter.rooms.rl.remote import Remote, Request, check_gap, importance
from charter.rooms.rl.rollout import Episode, Reply, all_replies, by_reply
from charter.rooms.rl.settings import Rollout

MOST_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Sampler:
    """`engine` samples from the policy, and computes the values of a critic on the shared trunk. `remote`: the server
    that writes the replies instead, if there is one. `seed` is the step's."""

    engine: Engine
    template: Template
    rollout: Rollout
    seed: int
    remote: Remote | None = None

    @classmethod
    def open(cls, policy: Policy, critic: Critic | None, rollout: Rollout, out: Workspace) -> Sampler:
        """The sampler of a run. Raises CharterError if the server tokenizes text differently."""
        engine = _engine(policy, critic, min(MOST_SLOTS, rollout.prompts * rollout.replies))
        remote = None
        if rollout.sampler is not None:
            remote = Remote(rollout.sampler, policy.model, policy.tokenizer, sorted(engine.ends), out)
        return cls(engine, policy.template, rollout, out.seed, remote)

    def of(self, policy: Policy, critic: Critic | None) -> Sampler:
        """This sampler with an engine on these weights; itself if its engine already has them."""
        if policy.model is self.engine.model:
            return self
        return replace(self, engine=_engine(policy, critic, self.engine.slots))

    def sample(self, policy: Policy, critic: Critic | None, prompts: Sequence[Prompt], step: int) -> list[Episode]:
        """A round of episodes; a reply's seed depends only on the run's seed, the round and its place.

        Replies come from the policy's full distribution, as PPO needs; the settings allow no temperature of 0. Their
        text is stripped; their tokens stay as sampled. If a server writes them, values and log-probabilities are
        recomputed as in training. Raises CharterError if a server's log-probabilities are not the policy's.
        """
        episodes = self._encode(prompts)
        self._write(episodes, self._whole_distribution(), self.rollout.replies, step)
        if self.remote is not None:
            _read_anew(policy, critic, episodes)
            check_gap(all_replies(episodes), self.remote.settings)
        if critic is not None:
            critic.fill_values(episodes)
        return episodes

    def answer_heldout(self, prompts: Sequence[Prompt], step: int) -> list[Episode]:
        """One reply to each held-out prompt by the present policy, at the checkpoint's own decoding, as a user gets it
        (a server samples as in rollouts). Seeds are the same in each round."""
        episodes = self._encode(prompts)
        if self.remote is None:
            sampling = sampling_at(decoding_of(self.engine.model.generation), self.rollout.max_tokens)
        else:
            # a server samples from the full distribution only
            sampling = self._whole_distribution()
        self._write(episodes, sampling, 1, step, heldout=True)
        return episodes

    def importance(self, episodes: Sequence[Episode]) -> Tensor | None:
        """The weight [N] of each reply token of a round that a server wrote; None if all are 1."""
        return None if self.remote is None else importance(all_replies(episodes), self.remote.settings)

    def _whole_distribution(self) -> Sampling:
        return Sampling(temperature=self.rollout.temperature, max_tokens=self.rollout.max_tokens)

    def _encode(self, prompts: Sequence[Prompt]) -> list[Episode]:
        return [Episode(p, self.template.encode_prompt(p.dialogue.messages)) for p in prompts]

    def _write(
        self, episodes: Sequence[Episode], sampling: Sampling, count: int, step: int, heldout: bool = False
    ) -> None:
        """Sample `count` replies to each prompt, here or by the server, and put them into the episodes."""
        seed_key = ("heldout",) if heldout else ("rollout", step)
        seeds = [derive_seed(self.seed, *seed_key, number) for number in range(len(episodes))]
        requests = [Request(e.prompt_ids, seed) for e, seed in zip(episodes, seeds, strict=True)]
        if self.remote is None:
            numbered = list(enumerate(requests))
            rows = divide(numbered, lambda part: self._generate(episodes, part, sampling, count))
        else:
            with naming_prompts(e.dialogue.id for e in episodes):
                completions = self.remote.replies(requests, sampling, count, step, heldout)
            rows = [[_row(c) for c in each] for each in completions]
        for episode, episode_rows in zip(episodes, rows, strict=True):
            episode.replies = [Reply(*row) for row in episode_rows]
            for reply in episode.replies:
                reply.refused = is_refusal(reply.text)

    def _generate(
        self, episodes: Sequence[Episode], part: Sequence[tuple[int, Request]], sampling: Sampling, count: int
    ) -> list[list[Any]]:
        """Replies by the engine to some numbered prompts, each as the fields of a Reply."""
        prompts, seeds = [request.prompt for _, request in part], [request.seed for _, request in part]
        with naming_prompts(episodes[number].dialogue.id for number, _ in part):
            completions = self.engine.generate(prompts, sampling, count, seeds)
        return [[_row(c) for c in each] for each in completions]


@contextmanager
def whole(policy: Policy, critic: Critic | None, sampler: Sampler) -> Iterator[tuple[Policy, Critic | None, Sampler]]:
    """The three with all trained weights gathered in this process, for sampling and reading. A single process always
    has them."""
    with policy.whole() as acting, critic.whole() if critic else nullcontext() as valuing:
        yield acting, valuing, sampler.of(acting, valuing)


def _engine(policy: Policy, critic: Critic | None, slots: int) -> Engine:
    probe = critic.of_states if critic is not None and critic.trunk is None else None
    return Engine(policy.model, policy.tokenizer, slots, probe=probe, ends=[policy.template.end_id])


def _read_anew(policy: Policy, critic: Critic | None, episodes: Sequence[Episode]) -> None:
    """Fill in training's own log-probabilities of a server's replies, beside the server's, and the values of a critic
    on the policy's trunk, if there is one."""

    def read(batch: Batch, members: Sequence[Episode]) -> Tensor:
        hidden_ND = policy.states(policy.model, batch, members)
        log_probs_N = policy.of_states(policy.model, hidden_ND, batch)[0]
        if critic is not None and critic.trunk is None:
            values_N = critic.of_states(hidden_ND)
        else:
            values_N = torch.zeros_like(log_probs_N)
        return torch.stack((log_probs_N, values_N), 1)

    pairs = policy.microbatches.read(episodes, read)
    for reply, reply_pairs in zip(all_replies(episodes), by_reply(pairs, episodes), strict=True):
        reply.sampled = reply.log_probs
        reply.log_probs, reply.values = [pair[0] for pair in reply_pairs], [pair[1] for pair in reply_pairs]


def _row(completion: Completion) -> list[Any]:
    return [completion.ids, completion.text.strip(), completion.stop, completion.logprobs, completion.probes]
