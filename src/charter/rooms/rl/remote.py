"""Replies by a server elsewhere, which gets the policy's weights before each round, and whose log-probabilities are
checked.

A server computes differently from training: other kernels, another precision, maybe other weights than it reports. So
each round its log-probabilities of the sampled tokens are compared with training's own:

    gap = mean over reply tokens of |log pi(a) - log mu(a)|    pi: training's, mu: the server's

Up to `tolerance` the replies count as the policy's own. Beyond it the round is refused, or the tokens' advantages are
weighted by truncated importance ratios, w = min(pi / mu, C) (Ionides 2008; for rollouts by another engine Yao et al.
2025, Your Efficient RL Framework Secretly Brings You Off-Policy RL Training). The gradient is then again that of pi,
biased if a ratio was truncated. Ratios of the update start at 1 either way, since the old log-probabilities are
training's own.

A round's replies are kept in the step's state until a resume state is past it: a server's seeds may not reproduce them,
and a resumed run must learn from the same ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import fsync_folder
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion, PromptTooLong
from charter.ground.generate.http_client import Asking
from charter.ground.generate.sampling import Sampling
from charter.ground.learn.parallel import barrier, broadcast, full, world
from charter.ground.model.checkpoint import save_policy
from charter.ground.model.transformer import Transformer
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.rl.peft import save_adapter
from charter.rooms.rl.policy_server import PolicyServer, Weights
from charter.rooms.rl.rollout import Reply
from charter.rooms.rl.settings import Server

# versions in the folder: the server may still read the one before
KEPT = 2
# prompts sampled and saved together
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt of a round, and the seed of its replies."""

    prompt: list[int]
    seed: int


class Remote:
    """The server of a run, and the folder with the policy's weights for it."""

    def __init__(
        self, settings: Server, model: Transformer, tokenizer: Tokenizer, ends: Sequence[int], out: Workspace
    ) -> None:
        self.settings, self._model, self._tokenizer, self._out = settings, model, tokenizer, out
        self._folder = (
            Path(settings.folder).expanduser() if settings.folder else out.state / "weights"
        ).resolve()
        self._context = model.shape.context
        self._server = PolicyServer(
            Asking(settings.url, settings.away, out.note),
            settings.model,
            settings.weights,
            tokenizer,
            ends,
            model.shape.vocab_size,
        )
        self._server.check_tokenizer()

    def replies(
        self, requests: Sequence[Request], sampling: Sampling, n: int, step: int, heldout: bool = False
    ) -> list[list[Completion]]:
        """n replies of each prompt from the present weights; for a round sampled before, the same ones again. Replies
        to held-out prompts have their own chunks."""
        for place, one in enumerate(requests):
            if len(one.prompt) + 1 > self._context:
                raise PromptTooLong(len(one.prompt), self._context, place)
        self._forget()
        weights = self._publish(step)

        def ask(chunk: Sequence[Request], number: int) -> list[Any]:
            prompts, seeds = [one.prompt for one in chunk], [one.seed for one in chunk]
            replies = self._server.sample(prompts, sampling, n, seeds, weights)
            return [[_row(completion) for completion in completions] for completions in replies]

        key = f"rollout-{step:06d}" + ("-heldout" if heldout else "")
        rows = self._out.chunks(key, requests, AT_ONCE, ask, "replies")
        return [[self._completion(row) for row in completions] for completions in rows]

    def _publish(self, step: int) -> Weights:
        """Write the weights atomically, and load them into the server."""
        with full(self._model) as whole:
            version = broadcast(self._write(whole, step).encode() if world().leads else b"").decode()
        there = PurePosixPath(self.settings.there) if self.settings.there else self._folder
        weights = Weights(version, str(there / version))
        if world().leads:
            self._server.take(weights)
        barrier()
        return weights

    def _write(self, model: Transformer, step: int) -> str:
        """Write the weights; returns the version: the round, and a digest of the weights."""
        part = self._folder / ".part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            if self.settings.weights == "lora":
                save_adapter(model, part)
            else:
                save_policy(model, self._tokenizer, part, untied=self.settings.untied)
            digest = hashlib.sha256()
            for path in sorted(part.iterdir()):
                # safetensors writes files readable by the owner only; a server may be another user
                path.chmod(0o644)
                with path.open("rb") as file:
                    if path.suffix == ".safetensors":
                        digest.update(hashlib.file_digest(file, "sha256").digest())
                    os.fsync(file.fileno())
            fsync_folder(part)
            version = f"{step:06d}-{digest.hexdigest()[:12]}"
            if not (self._folder / version).exists():
                part.rename(self._folder / version)
                fsync_folder(self._folder)
        except (OSError, SafetensorError) as error:
            raise CharterError(
                f"the policy's weights can't be written to {self._folder} for the server ({error}); make room there, "
                "or name another folder, and run again"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        older = sorted(path for path in self._folder.glob("[0-9]*-*") if path.name != version)
        for path in older[: 1 - KEPT]:
            shutil.rmtree(path, ignore_errors=True)
        return version

    def _forget(self) -> None:
        """Remove the replies of rounds before the last resume state."""
        saved = max((path.name for path in self._out.state.glob("step-*")), default="step-0")
        saved_round = int(saved.split("-")[1])
        for path in self._out.state.glob("rollout-*"):
            if world().leads and int(path.name.split("-")[1]) < saved_round:
                path.unlink(missing_ok=True)

    def _completion(self, row: dict[str, Any]) -> Completion:
        ids, stop = row["ids"], row["stop"]
        text = self._tokenizer.decode(ids[:-1] if stop == "end" else ids)
        return Completion(ids, text, row["logprobs"], stop=stop, done=True)


@dataclass(frozen=True, slots=True)
class Gap:
    """Distance of a server's log-probabilities from training's own, in nats a token."""

    mean: float
    largest: float


def gap_of(replies: Sequence[Reply]) -> Gap:
    """The gap of a round that a server wrote."""
    apart_N = (_flat(replies, "log_probs") - _flat(replies, "sampled")).abs()
    return Gap(float(apart_N.mean()), float(apart_N.max()))


def check_gap(replies: Sequence[Reply], settings: Server) -> None:
    """Raises CharterError for a round beyond the tolerance, if `beyond` is "refuse"."""
    gap = gap_of(replies)
    if gap.mean > settings.tolerance and settings.beyond == "refuse":
        raise CharterError(
            f"{settings.url} and training disagree by {gap.mean:.2g} nats a token (at most {gap.largest:.2g}; the "
            f"tolerance is {settings.tolerance:g}): it computes with other weights than it got, or in another "
            "precision or at another temperature; see docs/howto/remote_sampling.md, or raise rollout.sampler.tolerance"
        )


def importance(replies: Sequence[Reply], settings: Server) -> Tensor | None:
    """The weight [N] of each token of a round, min(pi / mu, C); None within the tolerance."""
    if gap_of(replies).mean <= settings.tolerance:
        return None
    ratio_N = (_flat(replies, "log_probs") - _flat(replies, "sampled")).exp()
    return ratio_N.clamp(max=settings.truncate)


def _flat(replies: Sequence[Reply], field: str) -> Tensor:
    return torch.tensor([p for reply in replies for p in getattr(reply, field)])


def _row(completion: Completion) -> dict[str, Any]:
    return {"ids": completion.ids, "logprobs": completion.logprobs, "stop": completion.stop}
