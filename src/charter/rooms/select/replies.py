"""The replies to each prompt, and which of them may be chosen by text alone.

They are samples of the policy, the start's own answer, and candidates that exist already. A reply may be chosen if it
is whole, long enough, no loop, and a refusal or an answer as required.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.detect import is_loop, is_refusal
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message
from charter.ground.text.examples import read_transcripts
from charter.ground.text.records import check_distinct, read_dialogues, read_prompts
from charter.rooms.select.settings import Filters, Settings

# The end of a sentence: its mark, closing quotes or brackets, then white space or the text's end.
_END = re.compile(r"(?:[.!?…][\"'”’)\]*_`]*(?=\s|$)|[。！？])")
_SHORT_FORM = re.compile(r"(?:^|\s)\(?(?:e\.g|i\.e|vs|mr|mrs|ms|dr|st|[a-z])\.$", re.I)
_LIST_MARK = re.compile(r"(?:^|\n)[ \t]*\(?\d{1,3}\.$")
_NUMBER = re.compile(r"\d\.$")
PROMPT_ROLES = ("prompts", "harmless")


def fault(filters: Filters, role: str, text: str, cut: bool) -> str | None:
    """Why a reply to a prompt of a role is dropped, or None; `cut`: it ends at the token limit."""
    if cut and filters.cut != "keep":
        return "cut"
    if len(text.split()) < filters.words:
        return "short"
    if is_loop(text):
        return "loop"
    if role == "harmless" and filters.no_refusal and is_refusal(text):
        return "refusal"
    if role == "prompts" and filters.refusal == "require" and not is_refusal(text):
        return "answer"
    return None


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; empty if there is none.

    The full stop of an abbreviation or of a list number ends no sentence, nor does one after a digit at the very
    end: the cut may have removed decimals.

    >>> whole_sentences("Mix it well. Then bake it for 3.")
    'Mix it well.'
    """
    for mark in reversed(list(_END.finditer(text))):
        upto = text[: mark.end()]
        cut_number = mark.end() == len(text.rstrip()) and _NUMBER.search(upto)
        if not (_SHORT_FORM.search(upto) or _LIST_MARK.search(upto) or cut_number):
            return upto
    return ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to a prompt. `name` is unique within the prompt; `cut`: it ends at the token limit; `shortened`: it was
    cut, and now ends with its last whole sentence."""

    name: str
    origin: str
    text: str
    cut: bool = False
    shortened: bool = False
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Pool:
    """A prompt, its role, its replies (samples, then the start's, then candidates), and its drafts."""

    prompt: Dialogue
    role: str
    replies: list[Reply] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)


def read_pools(settings: Settings, inputs: Inputs) -> list[Pool]:
    """The prompts of both roles, without replies. Raises CharterError if a prompt is in both."""
    pools: list[Pool] = []
    for role in PROMPT_ROLES:
        folders = [source.folder for source in inputs.many(role)]
        pools += [Pool(d, role) for d in read_prompts(folders, settings.limit, settings.draw_seed)]
    check_distinct("prompts and harmless together", (pool.prompt.id for pool in pools))
    first: dict[str, Pool] = {}
    for pool in pools:
        other = first.setdefault(_key(pool.prompt.messages), pool)
        if other.role != pool.role:
            raise CharterError(
                f"prompt {other.prompt.id} of {other.role} and prompt {pool.prompt.id} of {pool.role} are one and the "
                "same: it may be refused, or must be answered; leave it out of one of the two roles"
            )
    return pools


def add_samples(settings: Settings, pools: Sequence[Pool], inputs: Inputs, out: Workspace) -> None:
    """Add the policy's k samples to every prompt."""
    if not settings.k:
        return
    sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens)
    rows = _sample_all(settings, [pool.prompt for pool in pools], ("policy", sampling, settings.k), inputs, out)
    for pool, samples in zip(pools, rows, strict=True):
        for number, sample in enumerate(samples):
            pool.replies.append(_reply(settings, f"s{number}", "sample", "sample", sample))


def add_starts(settings: Settings, pools: Sequence[Pool], inputs: Inputs, out: Workspace) -> None:
    """Add the start's greedy reply to every prompt that must be answered, if the role is filled."""
    if inputs.optional("start") is None:
        return
    harmless = [pool for pool in pools if pool.role == "harmless"]
    sampling = Sampling(temperature=0.0, max_tokens=settings.max_tokens)
    rows = _sample_all(settings, [pool.prompt for pool in harmless], ("start", sampling, 1), inputs, out)
    for pool, (sample,) in zip(harmless, rows, strict=True):
        pool.replies.append(_reply(settings, "start", "start", "start", sample))


def _sample_all(
    settings: Settings, prompts: Sequence[Dialogue], how: tuple[str, Sampling, int], inputs: Inputs, out: Workspace
) -> list[list[dict[str, Any]]]:
    """Samples of all prompts by the model of a role, which leaves memory afterwards. Sample k of a prompt doesn't
    depend on how many are drawn."""
    role, sampling, count = how
    assistant = open_assistant(inputs.one(role), out.device, precision=out.precision)
    check_prompts(assistant, prompts)

    def produce(part: Sequence[Dialogue], _: int) -> list[list[dict[str, Any]]]:
        return _sample_chunk(assistant, part, sampling, count, derive_seed(out.seed, role))

    return out.chunks(f"replies-{role}", prompts, settings.chunk, produce, f"replies of the {role}")


def _sample_chunk(
    assistant: Assistant, prompts: Sequence[Dialogue], sampling: Sampling, count: int, seed: int
) -> list[list[dict[str, Any]]]:
    with naming_prompts(d.id for d in prompts):
        replies = assistant.reply(
            [list(d.messages) for d in prompts],
            sampling,
            n=count,
            seeds=[derive_seed(seed, "reply", d.id) for d in prompts],
        )
    return [
        [{"text": sample.text.strip(), "cut": sample.stop == "length"} for sample in samples] for samples in replies
    ]


def add_candidates(settings: Settings, pools: Sequence[Pool], inputs: Inputs) -> int:
    """Add the candidates and their drafts to their prompts; returns how many candidates answer none of the prompts.

    Drafts are the candidates of round 0, and those of the transcripts beside a critique's revisions.
    Raises CharterError if no candidate answers a prompt, or `above_draft` has no draft to compare with.
    """
    by_prompt: dict[str, Pool] = {}
    for pool in pools:
        by_prompt.setdefault(_key(pool.prompt.messages), pool)
    counts = Counter[bool]()
    for source in inputs.many("candidates"):
        for dialogue in read_dialogues(source.folder, lessons=True):
            if dialogue.is_prompt:
                raise CharterError(
                    f"candidate {dialogue.id} ends with a user's turn; candidates are replies: end it with the "
                    "assistant's"
                )
            text = dialogue.messages[-1]["content"].strip()
            matching_pool = by_prompt.get(_key(dialogue.messages[:-1]))
            counts[matching_pool is not None] += 1
            if matching_pool is not None:
                _add_candidate(settings, matching_pool, dialogue, text)
        if (source.folder / "transcripts.jsonl").is_file():
            for transcript in read_transcripts(source.folder):
                if (revised_pool := by_prompt.get(_key(transcript["messages"]))) is not None:
                    revised_pool.drafts.append(transcript["draft"].strip())
    if counts[False] and not counts[True]:
        raise CharterError(
            f"none of {counts[False]} candidates answers one of the prompts; give the prompts that they answer as "
            "prompts or harmless, with the limit and draw_seed of the step that made them"
        )
    if settings.filters.above_draft and not any(pool.drafts for pool in pools):
        raise CharterError(
            "above_draft: the candidates have no drafts; give a critique step, or rows with round 0 in their meta"
        )
    return counts[False]


def _add_candidate(settings: Settings, pool: Pool, dialogue: Dialogue, text: str) -> None:
    number = sum(reply.origin == "candidate" for reply in pool.replies)
    sample = {"text": text, "cut": bool(dialogue.meta.get("cut"))}
    source = dialogue.source or "candidate"
    meta = {"candidate": dialogue.id, **dialogue.meta}
    pool.replies.append(_reply(settings, f"c{number}", "candidate", source, sample, meta))
    if dialogue.meta.get("round") == 0:
        pool.drafts.append(text)


def _reply(
    settings: Settings,
    name: str,
    origin: str,
    source: str,
    sample: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
) -> Reply:
    """A reply; if it was cut and the settings say so, up to its last whole sentence."""
    text, cut = sample["text"], sample["cut"]
    if cut and settings.filters.cut == "sentence" and (shortened_text := whole_sentences(text)):
        return Reply(name, origin, shortened_text, False, True, source, meta or {})
    return Reply(name, origin, text, cut, False, source, meta or {})


def _key(messages: Sequence[Message]) -> str:
    return json.dumps([[m["role"], m["content"]] for m in messages])
