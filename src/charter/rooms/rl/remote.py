"""Replies by a server elsewhere, which gets the policy's weights before each round, and whose log-probabilities are
checked.

A server computes differently from training: other kernels, another precision, maybe other weights than it reports. It
can't prove that it computes with the weights of a version. So each round its log-probabilities of the sampled tokens
are compared with training's own:

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
import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import fsync_folder
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion, PromptTooLong
from charter.ground.generate.http_client import Answered, Asking, bearer, one_line
from charter.ground.generate.sampling import Sampling
from charter.ground.learn.parallel import barrier, broadcast, full, world
from charter.ground.model.checkpoint import save_policy
from charter.ground.model.linear import Projection
from charter.ground.model.transformer import Transformer
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.rl.rollout import Reply
from charter.rooms.rl.settings import Server

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_ROOT = "base_model.model.model.layers"
Takes = Literal["reload", "lora"]
# requests under way: a server fills its slots with them
PARALLEL = 64
# of a call, each after the server has lost the weights
TRIES = 4
# tries to empty the prefix cache, of which other requests may hold parts
RESETS = 20
# adapters on the server
LOADED = 2
# of a certain token, rounded
MOST_LOGPROB = 1e-3
PROBE = 'Être où? "naïve" 東京\tdef f(x):\n  return 3.14e-10 if x else None'
RESTARTED = "was restarted or got other weights from somebody else while it sampled"
NEEDED = {
    "reload": "VLLM_SERVER_DEV_MODE=1 (vLLM 0.32 or newer), or as charter serve --weights-from",
    "lora": "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 (vLLM)",
}
# versions in the folder: the server may still read the one before
KEPT = 2
# prompts sampled and saved together
AT_ONCE = 64


def save_adapter(model: Transformer, folder: Path | str, start: str = "") -> None:
    """Write a model's adapters; `start` names the checkpoint that they were trained on.

    The layout is PEFT's, which vLLM and transformers read: `adapter_config.json` and a safetensors file with an A and a
    B for every adapted part, under the names of the base model's own modules.

        W_p + alpha / rank * B_p A_p     A_p [rank, inputs], B_p [outputs, rank]

    Raises CharterError for a model without adapters.
    """
    tensors: dict[str, Tensor] = {}
    adapters = []
    for number, layer in enumerate(model.blocks()):
        for group, projections in (("self_attn", (layer.qkv, layer.out)), ("mlp", (layer.gate_up, layer.down))):
            for projection in projections:
                for part, (low, high) in _parts(projection).items():
                    tensors[f"{_ROOT}.{number}.{group}.{part}.lora_A.weight"] = low
                    tensors[f"{_ROOT}.{number}.{group}.{part}.lora_B.weight"] = high
                if projection.adapter is not None:
                    adapters.append(projection.adapter)
    if not adapters:
        raise CharterError("the model has no adapters to write; train with lora, or write its whole weights")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": start,
        "r": adapters[0].rank,
        "lora_alpha": adapters[0].scale * adapters[0].rank,
        "lora_dropout": 0.0,
        "target_modules": sorted({part for adapter in adapters for part in adapter.parts}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _parts(projection: Projection) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each adapted part."""
    adapter = projection.adapter
    if adapter is None:
        return {}
    down = adapter.down.detach()
    return {
        name: (down[i * adapter.rank : (i + 1) * adapter.rank], adapter.up[name].detach())
        for i, name in enumerate(adapter.parts)
    }


class _Lost(Exception):
    """The server no longer has the weights."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A version, and its folder as the server's machine names it."""

    version: str
    folder: str


class PolicyServer:
    """A server that samples from weights which change during training: vLLM, or `charter serve`. `model`: the name that
    it was started with. `ends`: tokens that end a reply. `vocabulary`: number of the model's embeddings.

    The weights are in a folder that both machines see, and have a version, which names their content. The server loads
    a new version in one of two ways, both vLLM's own:

        reload   whole weights:  POST /collective_rpc (reload_weights), /reset_prefix_cache, /update_weight_version
        lora     an adapter:     POST /v1/load_lora_adapter under a new name, MODEL-VERSION

    Replies come from POST /v1/completions: ids of a prompt in, ids and log-probabilities out. Replies that may come
    from other weights are refused. With `lora` the model name of request and answer has the version. With `reload` the
    client reads the server's version before and after (/weight_info), and that of each reply if the server gives it. A
    restarted server has lost the weights: it gets them again, and all requests of that call are repeated.
    """

    def __init__(
        self, asking: Asking, model: str, takes: Takes, tokenizer: Tokenizer, ends: Collection[int], vocabulary: int
    ) -> None:
        self.model, self._takes, self._tokenizer = model, takes, tokenizer
        self._ends, self._vocabulary = sorted(ends), vocabulary
        self._asking = asking
        # adapters, the newest last
        self._loaded: list[str] = []

    def check_tokenizer(self) -> None:
        """Raises CharterError if the server tokenizes text differently."""
        body = {"model": self.model, "prompt": PROBE, "add_special_tokens": False}
        answer = self._post("/tokenize", body)
        if _field(answer, "tokens", "/tokenize") != self._tokenizer.encode(PROBE):
            raise CharterError(
                f"the server {self._asking.url} cuts text into other tokens than the policy's tokenizer; start it with "
                "the checkpoint that the policy starts from"
            )

    def take(self, weights: Weights) -> None:
        """Load these weights into the server, unless it has them."""
        if self._takes == "lora":
            self._load_adapter(weights)
        elif self._version() != weights.version:
            self._reload(weights)

    def sample(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, n: int, seeds: Sequence[int], weights: Weights
    ) -> list[list[Completion]]:
        """n completions of each prompt (ids) from exactly these weights. One request per prompt, each with its own
        seed; its effect depends on the server.

        Raises CharterError for replies that can't be the model's, and if the server keeps losing the weights.
        """
        for _ in range(TRIES):
            self.take(weights)
            try:
                completions = self._all(prompts, sampling, n, seeds, weights)
                if self._takes == "lora" or self._version() == weights.version:
                    return completions
            except _Lost:
                pass
            self._asking.note(f"{self._asking.url} {RESTARTED}; it gets them again, and the requests are repeated")
        raise CharterError(
            f"the server {self._asking.url} {RESTARTED}, {TRIES} times in a row; let nobody else change its weights, "
            "and run again"
        )

    def _all(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, n: int, seeds: Sequence[int], weights: Weights
    ) -> list[list[Completion]]:
        self._asking.given_up.clear()
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                return list(pool.map(lambda p, seed: self._one(p, sampling, n, seed, weights), prompts, seeds))
            except BaseException:
                # Ctrl-C too: don't wait for requests that wait for their next try
                self._asking.given_up.set()
                raise

    def _one(self, prompt: Sequence[int], sampling: Sampling, n: int, seed: int, weights: Weights) -> list[Completion]:
        model = self._adapter(weights) if self._takes == "lora" else self.model
        body = {
            "model": model,
            "prompt": list(prompt),
            "n": n,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": seed,
            "logprobs": 0,
            "return_token_ids": True,
            "return_weight_versions": True,
            "stop_token_ids": self._ends,
            # override the server's defaults, e.g. of generation_config.json: the distribution must be whole
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        try:
            answer = self._post("/v1/completions", body)
        except Answered as error:
            if error.status == 404 and self._takes == "lora":
                # no model of that name: a restarted server has no adapter
                raise _Lost from error
            raise
        if _field(answer, "model", "/v1/completions") != model:
            raise CharterError(f"the server {self._asking.url} answered a request for {model} as {answer['model']}")
        choices = _field(answer, "choices", "/v1/completions")
        if len(choices) != n:
            raise CharterError(f"the server {self._asking.url} gave {len(choices)} replies of {n}")
        return [self._read(choice, prompt, weights) for choice in choices]

    def _read(self, choice: Mapping[str, Any], prompt: Sequence[int], weights: Weights) -> Completion:
        """Check a reply and make a Completion of it."""
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not ids or not isinstance(logprobs, list) or len(logprobs) != len(ids):
            raise CharterError(
                f"the server {self._asking.url} gives no token_ids with a log-probability each; it must be vLLM 0.32 "
                f"or newer, or charter serve: {one_line(json.dumps(choice))}"
            )
        spans = choice.get("weight_versions")
        if self._takes == "reload" and spans and {span["version"] for span in spans} != {weights.version}:
            raise _Lost
        if choice.get("prompt_token_ids") not in (None, list(prompt)):
            raise CharterError(f"the server {self._asking.url} read another prompt than it got")
        ended = choice.get("finish_reason") == "stop"
        if wrong := [token for token in ids if not 0 <= token < self._vocabulary]:
            raise CharterError(
                f"the server {self._asking.url} wrote token {wrong[0]}, and the policy has tokens 0 to "
                f"{self._vocabulary - 1}; start it with the checkpoint that the policy starts from"
            )
        if any(p is None or not math.isfinite(p) or p > MOST_LOGPROB for p in logprobs):
            raise CharterError(f"the server {self._asking.url} gave numbers that are no log-probabilities")
        if ended and ids[-1] not in self._ends:
            raise CharterError(
                f"the server {self._asking.url} ends replies with token {ids[-1]}, which ends none here; start it "
                " with the checkpoint that the policy starts from"
            )
        if not ended and choice.get("finish_reason") != "length":
            raise CharterError(f"the server {self._asking.url} gave up a reply ({choice.get('finish_reason')})")
        text = self._tokenizer.decode(ids[:-1] if ended else ids)
        if _bare(text) != _bare(str(choice.get("text"))):
            raise CharterError(
                f"the server {self._asking.url} spells tokens {ids[:8]} as {choice.get('text')!r:.80}, the policy's "
                f"tokenizer as {text!r:.80}; start it with the checkpoint that the policy starts from"
            )
        return Completion(ids, text, [float(p) for p in logprobs], stop="end" if ended else "length", done=True)

    def _reload(self, weights: Weights) -> None:
        self._tell("/collective_rpc", method="reload_weights", kwargs={"weights_path": weights.folder})
        for _ in range(RESETS):
            if (self._post("/reset_prefix_cache", {}) or {}).get("success", True):
                break
            self._asking.given_up.wait(0.2)
        else:
            raise CharterError(
                f"the prefix cache of {self._asking.url} can't be emptied: what it holds comes from older weights; let "
                "nobody else use the server"
            )
        self._tell("/update_weight_version", new_version=weights.version)
        if (version := self._version()) != weights.version:
            raise CharterError(f"the server {self._asking.url} got weights {weights.version} and reports {version}")

    def _version(self) -> str:
        try:
            return str(_field(self._asking.get("/weight_info", bearer()), "weight_version", "/weight_info"))
        except Answered as error:
            raise self._unable(error) from error

    def _load_adapter(self, weights: Weights) -> None:
        name = self._adapter(weights)
        listed = _field(self._asking.get("/v1/models", bearer()), "data", "/v1/models")
        server_models = {str(model.get("id")) for model in listed}
        if name not in server_models:
            self._tell("/v1/load_lora_adapter", lora_name=name, lora_path=weights.folder)
        self._loaded = [*(adapter for adapter in self._loaded if adapter != name and adapter in server_models), name]
        while len(self._loaded) > LOADED:
            self._tell("/v1/unload_lora_adapter", lora_name=self._loaded.pop(0))

    def _adapter(self, weights: Weights) -> str:
        return f"{self.model}-{weights.version}"

    def _tell(self, path: str, **body: Any) -> None:
        """Send a request that changes the server's weights."""
        try:
            self._asking.tell(path, body, bearer())
        except Answered as error:
            raise self._unable(error) from error

    def _unable(self, error: Answered) -> CharterError:
        if error.status not in (400, 403, 404, 405, 500):
            return error
        return CharterError(
            f"{error}; it must see the folder of the weights, and be started with {NEEDED[self._takes]}"
        )

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._asking.post(path, body, bearer())


def _field(answer: Any, name: str, path: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        answer_text = one_line(json.dumps(answer))
        raise CharterError(f"{path} answered without {name}, in another shape than vLLM: {answer_text}")
    return answer[name]


def _bare(text: str) -> str:
    """A text without white space and replacement characters, in which servers differ at cut characters."""
    return "".join(text.replace("\ufffd", "").split())


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
        self._folder = (Path(settings.folder).expanduser() if settings.folder else out.state / "weights").resolve()
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
        for place, request in enumerate(requests):
            if len(request.prompt) + 1 > self._context:
                raise PromptTooLong(len(request.prompt), self._context, place)
        self._forget()
        weights = self._publish(step)

        def ask(chunk: Sequence[Request], number: int) -> list[Any]:
            prompts, seeds = [request.prompt for request in chunk], [request.seed for request in chunk]
            replies = self._server.sample(prompts, sampling, n, seeds, weights)
            return [[_row(completion) for completion in completions] for completions in replies]

        key = f"rollout-{step:06d}" + ("-heldout" if heldout else "")
        rows = self._out.chunks(key, requests, AT_ONCE, ask, "replies")
        return [[self._completion(row) for row in completions] for completions in rows]

    def _publish(self, step: int) -> Weights:
        """Write the weights atomically, and load them into the server."""
        with full(self._model) as whole_model:
            version = broadcast(self._write(whole_model, step).encode() if world().leads else b"").decode()
        server_folder = PurePosixPath(self.settings.there) if self.settings.there else self._folder
        weights = Weights(version, str(server_folder / version))
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
