"""Log-probabilities in OpenAI's two shapes: a list of tokens (chat), and four lists side by side (completions).

They are natural logarithms under the distribution that tokens were drawn from, before top_p and top_k cut it; at
temperature 0 and 1 that is the model's own. Given text is always scored under the model's own.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Sequence
from typing import Any

from charter_service.api.model_request import Token

LEAST = -9999.0  # stands for the logarithm of 0, which JSON can't write


def chat_form(tokens: Iterable[Token], top: int) -> dict[str, Any]:
    """`logprobs` of a choice of chat completions, with the `top` likeliest tokens in each place."""
    return {
        "content": [
            {
                **_entry(token.text, token.raw, token.logprob),
                "top_logprobs": [_entry(*other) for other in token.top[:top]],
            }
            for token in tokens
        ],
        "refusal": None,
    }


class Columns:
    """`logprobs` of a choice of completions, for its tokens as they come: `text_offset` counts characters from the
    start of the choice's text."""

    def __init__(self, top: int) -> None:
        self._top, self._offset = top, 0
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def form(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """The four lists for more tokens."""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(token.raw))
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [_number(token.logprob) for token in tokens],
            "top_logprobs": [self._likeliest(token) for token in tokens],
            "text_offset": offsets,
        }

    def _likeliest(self, token: Token) -> dict[str, float] | None:
        """The likeliest tokens and the token itself, which is one more if it isn't among them. Of tokens with the same
        text, such as parts of characters, the likeliest counts."""
        if math.isnan(token.logprob):
            return None
        by_text: dict[str, float] = {}
        for text, _, logprob in (*token.top[: self._top], (token.text, token.raw, token.logprob)):
            by_text.setdefault(text, _finite(logprob))
        return by_text


def _entry(text: str, raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logprob), "bytes": list(raw)}


def _number(logprob: float) -> float | None:
    return None if math.isnan(logprob) else _finite(logprob)


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST
