"""A model on this machine as a backend: what is counted and then read is cut into tokens once."""

from __future__ import annotations

import asyncio

import pytest

import toys
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer
from charter.serve.asked import Asked, End
from charter.serve.local import LocalBackend


@pytest.mark.parametrize("words", [3, 900])
def test_a_plain_text_is_cut_once_whether_counted_read_or_scored(
    words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = toys.tokenizer()
    assistant = LocalAssistant(Engine(toys.model(), tokenizer), Template(tokenizer, tokenizer.template))
    backend = LocalBackend(assistant, 1000)
    cut: list[str] = []
    encode = Tokenizer.encode

    def spy(self: Tokenizer, text: str) -> list[int]:
        cut.append(text)
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", spy)
    text = "a b " * words

    async def ask() -> tuple[int, int]:
        count = await backend.count(text)
        if count < backend.context:
            asked = Asked("toy", text, Sampling(temperature=0, max_tokens=2))
            parts = [part async for part in backend.stream(asked, "me", False)]
            assert isinstance(parts[-1], End)
            return count, len(await backend.score(text, 0, "me", False))
        return count, await backend.count(text)

    try:
        counted, again = asyncio.run(ask())
    finally:
        backend.close()
    assert counted == again == len(encode(tokenizer, text))
    assert cut == [text]
