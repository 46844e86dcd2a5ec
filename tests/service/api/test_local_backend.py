"""A model on this machine as a backend: what is counted and then read is cut into tokens once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import user
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer
from charter_service.api.local import LONGEST_TEXT, LocalBackend
from charter_service.api.model_request import WHOSE, End, ModelRequest


@pytest.mark.parametrize("words", [3, 900])
def test_a_plain_text_is_cut_once_whether_counted_read_or_scored(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
            asked = ModelRequest("toy", text, Sampling(temperature=0, max_tokens=2))
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


def test_one_organisation_s_texts_keep_no_other_s_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, cut and spelled, in numbers that fill all threads."""
    tokenizer = toys.tokenizer()
    assistant = LocalAssistant(Engine(toys.model(), tokenizer), Template(tokenizer, tokenizer.template))
    backend, gate, encode = LocalBackend(assistant, 10**6), threading.Event(), Tokenizer.encode
    decode = Tokenizer.decode

    def slow(self: Tokenizer, text: str) -> list[int]:
        assert not text.startswith("slow") or gate.wait(60)
        return encode(self, text)

    def slow_too(self: Tokenizer, ids: Any, skip_special: bool = True) -> str:
        assert list(ids)[:1] != [33] or gate.wait(60)
        return decode(self, ids, skip_special)

    async def asked(whose: str, work: Callable[[], Awaitable[Any]]) -> Any:
        WHOSE.set(whose)
        return await work()

    async def ask() -> None:
        large: list[Callable[[], Awaitable[Any]]] = [
            *(lambda n=n: backend.cut(f"slow {n}" + " a" * 2000, False) for n in range(20)),  # type: ignore[misc]
            *(lambda n=n: backend.count(f"slow {n}" + " b" * 2000) for n in range(20)),  # type: ignore[misc]
            *(lambda: backend.spell([33] * 5000) for _ in range(20)),
        ]
        waiting = [asyncio.create_task(asked("many", work)) for work in large]
        await asyncio.sleep(0.1)
        assert await asked("few", lambda: backend.count([user("Hello")])) > 1
        assert await asked("few", lambda: backend.cut("Hello", False)) == encode(tokenizer, "Hello")
        assert (await asked("few", lambda: backend.spell([40] * 3000))).ids == (40,) * 3000
        assert not any(task.done() for task in waiting)
        gate.set()
        await asyncio.gather(*waiting)

    monkeypatch.setattr(Tokenizer, "encode", slow)
    monkeypatch.setattr(Tokenizer, "decode", slow_too)
    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        gate.set()
        backend.close()


def test_a_text_that_no_context_bounds_has_a_bound() -> None:
    tokenizer = toys.tokenizer()
    assistant = LocalAssistant(Engine(toys.model(), tokenizer), Template(tokenizer, tokenizer.template))
    backend = LocalBackend(assistant, 1000)
    try:
        with pytest.raises(
            CharterError, match=r"1,048,577 characters, and the limit for cutting into tokens is 1,048,576"
        ):
            asyncio.run(backend.cut("a" * (LONGEST_TEXT + 1), False))
    finally:
        backend.close()
