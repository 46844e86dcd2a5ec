"""How a task is asked: the card's way, changed where the recipe says so. All of it is part of a score's identity."""

from __future__ import annotations

from dataclasses import dataclass, replace

from charter.ground.model.generation import Decoding
from charter.rooms.benchmark.settings import Change, Form


@dataclass(frozen=True, slots=True)
class Protocol:
    """`max_tokens` 0: nothing is sampled, options are scored. `limit` 0: all questions. `version` goes up when the
    words, the parsing or the scorer of a task change."""

    shots: int = 0
    form: Form = "chat"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    samples: int = 1
    max_tokens: int = 0
    limit: int = 0
    version: int = 1

    def changed(self, limit: int, change: Change) -> Protocol:
        """The protocol as it will be used."""
        wanted = {"limit": limit} | {k: v for k, v in change.model_dump().items() if v is not None}
        return replace(self, **wanted)

    def sampled(self, own: Decoding, change: Change) -> Protocol:
        """The protocol with the model's own decoding, if it samples free answers and nobody set their temperature."""
        if not (self.temperature and self.max_tokens) or change.temperature is not None:
            return self
        return replace(self, temperature=own.temperature, top_p=own.top_p, top_k=own.top_k)

    @property
    def decoding(self) -> Decoding:
        """How answers are drawn."""
        return Decoding(self.temperature, self.top_p, self.top_k)
