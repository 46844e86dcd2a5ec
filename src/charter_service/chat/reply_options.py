"""What a person sets for the replies of a chat: instructions, temperature and max tokens; read from forms and exports.

Instructions are a person's text, as messages are, and not the operator's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charter_service.chat.letters import storable_text
from charter_service.web.forms import Form
from charter_service.web.refusal import Refusal

LONGEST_INSTRUCTIONS = 20_000  # characters
MOST_TOKENS = 1_000_000
HIGHEST = 1.0  # temperature that the API takes
GREEDY = 0.35  # up to this temperature another reply says much the same
RETRY_TEMPERATURE = 0.6


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Of the next replies. `temperature` from 0 to 1, None: the model's own; `max_tokens` of a reply, None: as many as
    are allowed here."""

    instructions: str = ""
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """As columns of a row and as keys of an export."""
        return {"instructions": self.instructions, "temperature": self.temperature, "max_tokens": self.max_tokens}

    @property
    def mark(self) -> str:
        """Another one for other settings, by which a form tells what it was filled from."""
        return hashlib.sha256(repr(self.facts).encode()).hexdigest()[:16]


USUAL = ChatSettings()


def settings_in(form: Form) -> ChatSettings:
    """The settings of a form, whose empty fields are the usual ones. Raises Refusal naming what was expected."""
    instructions = storable_text(form.text("instructions").replace("\r\n", "\n")).strip()
    if len(instructions) > LONGEST_INSTRUCTIONS:
        raise Refusal(
            f"the instructions have {len(instructions):,} characters; the limit is {LONGEST_INSTRUCTIONS:,}", 413
        )
    return ChatSettings(instructions, _temperature(form.text("temperature")), _tokens(form.text("max_tokens")))


def _temperature(text: str) -> float | None:
    if not (text := text.strip()):
        return None
    words = f"the temperature is a number from 0 to {HIGHEST:g}, or empty for the model's own"
    try:
        value = float(text.replace(",", ".")) if len(text) <= 20 else math.nan
    except ValueError:
        raise Refusal(words) from None
    if not 0 <= value <= HIGHEST:  # which NaN isn't either
        raise Refusal(words)
    return value


def _tokens(text: str) -> int | None:
    if not (text := text.strip()):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= MOST_TOKENS):
        raise Refusal(f"max tokens is a whole number from 1 to {MOST_TOKENS:,}, or empty")
    return int(text)


def settings_from(exported: Mapping[str, Any]) -> ChatSettings:
    """The settings in an exported chat; what can't be one is the usual one."""
    form = {name: [str(value)] for name in USUAL.facts if (value := exported.get(name)) is not None}
    try:
        return settings_in(Form(form))
    except Refusal:
        return USUAL


def retry_temperature(decoding: Mapping[str, Any] | None) -> float | None:
    """The temperature at which a reply is tried again under a model's own decoding, so that it says something else;
    None if that decoding varies by itself."""
    if decoding is None:
        return None
    temperature, top_k = decoding.get("temperature"), decoding.get("top_k")
    greedy = isinstance(temperature, int | float) and temperature <= GREEDY
    return RETRY_TEMPERATURE if greedy or top_k == 1 else None
