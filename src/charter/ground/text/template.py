"""The chat template: messages to token ids and loss masks. No other module makes them.

Ids equal those of transformers' apply_chat_template, unless a message spells a special token: that text becomes
ordinary tokens. Before rendering, substitutes (characters that occur nowhere else) replace spelled specials. The
rendered text is cut at the template's own specials, and the pieces are tokenised as plain text.

Masks come from prefix renders: the text up to an assistant turn, rendered with the generation prompt, must be
a prefix of the whole text. A model would write what follows, through the end-of-turn token.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import Message, assistant, check_messages, check_text, user
from charter.ground.text.rendering import render
from charter.ground.text.tokenizer import Spans, Tokenizer

# The form of the 2023 API: system text, then "\n\nHuman: ...\n\nAssistant: ...", the end token after a reply.
CLAUDE_2023 = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] + eos_token }}"
    "{% elif loop.first %}{{ message['content'] }}"
    "{% else %}{{ raise_exception('a system message may only come first') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
_PROBE = (
    ("user", "Probe question one"),
    ("assistant", "Probe answer one"),
    ("user", "Probe question two"),
    ("assistant", "Probe answer two"),
)
_REFUSED = "the chat template is refused: "
_ANOTHER = "; use another template, such as claude-2023"

Turns = tuple[tuple[str, str], ...]  # (role, text with substitutes)
Spelled = tuple[tuple[str, str], ...]  # (substitute character, the text that it stands for)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and 1 on the tokens of assistant turns: content and end-of-turn token, nothing else."""

    ids: list[int]
    mask: list[int]


class Template:
    """A chat template on a tokenizer.

    `variables` are further names for the template (such as enable_thinking, or date_string if a template
    would write today's date). `end` is the token that ends an assistant's turn, `end_id` its id. Raises
    CharterError if the template lacks the prefix property or does not close a turn with a special token.
    """

    def __init__(self, tokenizer: Tokenizer, jinja: str, variables: Mapping[str, Any] | None = None) -> None:
        if not jinja:
            raise CharterError("the tokenizer has no chat template; choose one, such as claude-2023")
        self.tokenizer, self.jinja = tokenizer, jinja
        names = {f"{name}_token": token for name, token in tokenizer.names.items() if token is not None}
        self._variables = {**names, **(variables or {})}
        self._render_cached = lru_cache(maxsize=4096)(self._render)
        self._prompt_ids = lru_cache(maxsize=256)(lambda text, spelled: tuple(self._tokens(text, spelled)[0]))
        self._lead, self._gap, self.end = self._probe()
        self.end_id = tokenizer.special[self.end]

    def remember_nothing(self) -> None:
        """Turns off all caches: if strangers share a template, a faster answer would reveal what another asked."""
        self._render_cached = self._render  # type: ignore[assignment]
        self._prompt_ids = lambda text, spelled: tuple(self._tokens(text, spelled)[0])  # type: ignore[assignment]

    def encode(self, messages: Sequence[Message], learn_from: int = 0) -> Encoded:
        """Ids and mask of a whole dialogue: 1 in the assistant's messages from number `learn_from` on.

        Raises CharterError for messages out of order.
        """
        turns, spelled = self._guard(check_messages(messages))
        text, replies = self._render_whole(turns)
        ids, spans = self._tokens(text, spelled)
        mask = [0] * len(ids)
        starts = [start for start, _ in spans]
        for number, before, end in replies:
            if number < learn_from:
                continue
            begin = self._content_start(turns, number, text, before)
            low, high = (bisect_left(starts, len(_restore(text[:at], spelled))) for at in (begin, end))
            mask[low:high] = [1] * (high - low)
        return Encoded(ids, mask)

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids that a model continues: with the generation prompt, or within an open last assistant turn."""
        turns, spelled = self._guard(check_messages(messages))
        return list(self._prompt_ids(self._prompt(turns), spelled))

    def text(self, messages: object) -> str:
        """The text that a model continues, for tools that tokenise it themselves. In those tools a message that spells
        a special token becomes one. Raises CharterError for messages out of order."""
        return self._prompt(tuple((m["role"], m["content"]) for m in check_messages(messages)))

    def encode_reply(self, messages: Sequence[Message], reply: str) -> tuple[list[int], list[int]]:
        """Ids of the prompt, and of the reply with its end-of-turn token.

        Messages end with a user's turn, or with an assistant's that the reply continues. The prompt's ids are
        those of `encode_prompt`. Both together equal `encode` up to the end of the turn, unless a token would
        cross the border (a line break after a line break). Then the reply is tokenised by itself, as a model
        would have to write it.
        """
        history = check_messages(messages)
        check_text(reply, "the reply")
        continued = history[-1]["role"] == "assistant"
        head = history if continued else (*history, assistant(""))
        turns, spelled = self._guard((*head, user(reply)))
        (_, prefill), (_, closing) = turns[-2:]
        if _find_special(self.tokenizer, prefill + closing):
            # both halves together spell a special token, so the reply's first character gets a substitute too
            substitute = _find_unused([*turns, *spelled])
            spelled, closing = ((substitute, reply[0]), *spelled), substitute + closing[1:]
        prompt = self._prompt(turns[:-1] if continued else turns[:-2])
        prompt_ids = list(self._prompt_ids(prompt, tuple(pair for pair in spelled if pair[0] in prompt)))
        text, replies = self._render_whole((*turns[:-2], ("assistant", prefill + closing)))
        text = text[: replies[-1][2]]
        if not text.startswith(prompt):
            raise CharterError("the chat template rewrites a turn that is continued, so that it cannot be prefilled")
        ids, _ = self._tokens(text, spelled)
        if ids[: len(prompt_ids)] == prompt_ids:
            return prompt_ids, ids[len(prompt_ids) :]
        return prompt_ids, self._tokens(text[len(prompt) :], spelled, first=False)[0]

    def _render(self, turns: Turns, prompt: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        return render(self.jinja, messages, {**self._variables, "add_generation_prompt": prompt})

    def _render_whole(self, turns: Turns) -> tuple[str, list[tuple[int, int, int]]]:
        """The whole text, and for each assistant turn its number, the end of its prompt, and its own end."""
        text = self._render_cached(turns, False)
        replies = []
        for number, (role, _) in enumerate(turns):
            if role != "assistant":
                continue
            before = self._render_cached(turns[:number], True)
            if not text.startswith(before):
                raise CharterError(
                    f"the chat template changes the text before turn {number + 1} if more turns follow, "
                    f"so its loss mask is unknown{_ANOTHER}"
                )
            close = text.find(self.end, len(before))
            if close < 0:
                raise CharterError(f"the chat template does not close turn {number + 1} with {self.end}{_ANOTHER}")
            replies.append((number, len(before), close + len(self.end)))
        return text, replies

    def _content_start(self, turns: Turns, number: int, text: str, before: int) -> int:
        """The start of an assistant's tokens: after the prompt and after text that only some turns have (<think>)."""
        content = turns[number][1]
        if content and text.startswith(self._lead + content, before):
            return before
        mark = _find_unused(turns)
        marked = (*turns[:number], ("assistant", mark + content), *turns[number + 1 :])
        start = self._render_cached(marked, False).find(mark)
        return start if text[before:start].strip() else before

    def _prompt(self, turns: Turns) -> str:
        """The text that a model continues (transformers: add_generation_prompt, continue_final_message)."""
        role, content = turns[-1]
        if role != "assistant":
            return self._render_cached(turns, True)
        mark = _find_unused(turns)
        # the space after the mark shows whether the template keeps white space at the end of a turn
        text = self._render_cached((*turns[:-1], ("assistant", f"{content}{mark} ")), False)
        at = text.rfind(mark)
        if at < 0:
            raise CharterError("the chat template drops the last assistant turn, so that it cannot be continued")
        return text[:at] if text[at : at + 2] == f"{mark} " else text[:at].rstrip()

    def _guard(self, messages: Sequence[Message]) -> tuple[Turns, Spelled]:
        """Turns with a substitute for every spelled special token, and the token of each substitute."""
        turns = tuple((message["role"], message["content"]) for message in messages)
        pattern = self.tokenizer.special_pattern
        tokens = sorted({token for _, text in turns for token in pattern.findall(text)}) if pattern else []
        if not tokens or pattern is None:
            return turns, ()
        back = dict(zip(tokens, _list_unused(turns), strict=False))
        guarded = tuple((role, pattern.sub(lambda match: back[match.group()], text)) for role, text in turns)
        return guarded, tuple((substitute, token) for token, substitute in back.items())

    def _tokens(self, text: str, spelled: Spelled, first: bool = True) -> tuple[list[int], Spans]:
        """Ids of rendered text, and the characters of the restored text that each covers."""
        if first and not spelled:
            return self.tokenizer.special_spans(text)
        ids: list[int] = []
        spans: Spans = []
        at = 0
        for piece, special in self._pieces(text):
            restored = piece if special is not None else _restore(piece, spelled)
            if special is not None:
                ids.append(special)
                spans.append((at, at + len(restored)))
            elif restored:
                piece_ids, places = self.tokenizer.encode_spans(restored, first=first and not ids)
                ids += piece_ids
                spans += [(at + a, at + b) for a, b in places]
            at += len(restored)
        return ids, spans

    def _pieces(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Text cut at the template's special tokens: (piece, its id, or None for plain text)."""
        pattern = self.tokenizer.special_pattern
        at = 0
        while pattern and (match := pattern.search(text, at)):
            left, right = self.tokenizer.strips(match.group())
            start, end = match.span()
            if left:
                start = max(at, len(text[:start].rstrip()))
            if right and (blank := re.compile(r"\s*").match(text, end)):
                end = blank.end()
            yield text[at:start], None
            yield text[start:end], self.tokenizer.special[match.group()]
            at = end
        yield text[at:], None

    def _probe(self) -> tuple[str, str, str]:
        """The text before and after an assistant's text, and the token that ends its turn."""
        text, before = self._render_cached(_PROBE, False), self._render_cached(_PROBE[:1], True)
        start = text.find(_PROBE[1][1])
        until = text.find(_PROBE[2][1])
        if not text.startswith(before) or not len(before) <= start < until:
            raise CharterError(
                f"{_REFUSED}its text before an assistant turn is not a prefix of the whole, so loss masks "
                f"are unknown{_ANOTHER}"
            )
        lead = text[len(before) : start]
        if lead.strip():
            raise CharterError(f"{_REFUSED}its generation prompt lacks {lead.strip()!r} before a reply{_ANOTHER}")
        # the last turn, because after an earlier one the next turn's header has specials too
        close = text.rfind(_PROBE[3][1]) + len(_PROBE[3][1])
        end = _find_special(self.tokenizer, text[close:])
        if end is None:
            raise CharterError(f"{_REFUSED}no special token ends an assistant turn{_ANOTHER}")
        self.end = end.group()
        self._render_whole(_PROBE)
        return lead, text[close : close + end.start()], end.group()


def _find_special(tokenizer: Tokenizer, text: str) -> re.Match[str] | None:
    return tokenizer.special_pattern.search(text) if tokenizer.special_pattern else None


def _list_unused(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Characters of the last private plane that no text holds."""
    texts = "".join(text for pair in pairs for text in pair)
    return (c for c in map(chr, range(0xF0000, 0xFFFFE)) if c not in texts)


def _find_unused(pairs: Sequence[tuple[str, str]]) -> str:
    return next(_list_unused(pairs))


def _restore(text: str, spelled: Spelled) -> str:
    for substitute, token in spelled:
        text = text.replace(substitute, token)
    return text
