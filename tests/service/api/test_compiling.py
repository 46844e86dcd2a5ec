"""Forms are compiled a few at a time, and what is too much, or takes too long, is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from lobby import MODEL, open_hall, until
from malformed import HELLO

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine_limits import Overloaded
from charter_service.api import local
from charter_service.api.errors import api_error
from charter_service.api.local import Compiling
from charter_service.forms.grammars import Form, compile_form, known_form


def unknown() -> None:
    """No form is known."""


def test_what_is_known_waits_for_nobody() -> None:
    gate = threading.Event()

    async def run() -> None:
        compiling = Compiling(at_once=1)
        slow = asyncio.create_task(compiling.do(unknown, lambda: gate.wait() and "slow", "a"))
        await asyncio.to_thread(until, lambda: compiling.waiting)
        assert await compiling.do(lambda: "known", unknown, "a") == "known"
        assert not slow.done()
        gate.set()
        assert await slow == "slow"
        compiling.close()

    asyncio.run(run())


def test_a_slow_form_is_refused_and_others_go_on() -> None:
    gate = threading.Event()

    async def run() -> None:
        compiling = Compiling(at_once=2, seconds=0.3)
        with pytest.raises(CharterError, match="seconds to compile; simplify it") as found:
            await compiling.do(unknown, gate.wait, "a")
        assert api_error(found.value).status == 400
        assert await compiling.do(unknown, lambda: "other", "b") == "other"
        gate.set()
        await asyncio.to_thread(until, lambda: not compiling.waiting)
        compiling.close()

    asyncio.run(run())


def test_who_finds_too_many_or_waits_too_long_tries_again() -> None:
    gate, ran = threading.Event(), list[int]()

    async def run() -> None:
        compiling = Compiling(at_once=1, most=4, seconds=2.0)
        given: list[Callable[[], object]] = [gate.wait, lambda: ran.append(1), lambda: ran.append(2)]
        asked = [asyncio.create_task(compiling.do(unknown, given[0], "a"))]
        await asyncio.to_thread(until, lambda: compiling.waiting == 1)
        asked += [asyncio.create_task(compiling.do(unknown, one, "a")) for one in given[1:]]
        await asyncio.to_thread(until, lambda: compiling.waiting == 3)
        with pytest.raises(Overloaded, match="2 schemas, patterns and grammars of yours wait already"):
            await compiling.do(unknown, gate.wait, "a")
        first, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(first, CharterError) and not isinstance(first, Overloaded)
        assert all(isinstance(one, Overloaded) and api_error(one).status == 529 for one in others)
        gate.set()
        await asyncio.to_thread(until, lambda: not compiling.waiting)
        assert ran == []
        compiling.close()

    asyncio.run(run())


def test_a_form_that_takes_long_stalls_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), local.compile_form
    held: list[object] = []

    def slow(form, *given):  # type: ignore[no-untyped-def]
        if form.schema["title"] == "slow":
            held.append(form)
            assert gate.wait(60)
        return real(form, *given)

    monkeypatch.setattr(local, "compile_form", slow)

    def send(url: str, key: str, title: str, found: list[int]) -> None:
        schema = {"type": "object", "title": title, "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
        body = {
            "model": MODEL,
            "max_tokens": 100,
            "messages": HELLO,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        }
        given = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        found.append(httpx.post(f"{url}/v1/messages", headers=given, json=body, timeout=60).status_code)

    with open_hall(tmp_path) as hall:
        key, found = hall.key(), list[int]()
        thread = threading.Thread(target=send, args=(hall.url, key, "slow", found))
        thread.start()
        until(lambda: held)
        quick: list[int] = []
        send(hall.url, key, "quick", quick)
        assert quick == [200] and found == []
        gate.set()
        thread.join()
    assert found == [200]


def test_one_organisation_s_slow_forms_keep_no_other_waiting() -> None:
    gate = threading.Event()

    async def run() -> None:
        compiling = Compiling(seconds=60)
        slow = [asyncio.create_task(compiling.do(unknown, gate.wait, "a")) for _ in range(5)]
        await asyncio.to_thread(until, lambda: compiling.waiting == 5)
        assert await compiling.do(unknown, lambda: "quick", "b") == "quick"
        gate.set()
        assert await asyncio.gather(*slow) == [True] * 5
        compiling.close()

    asyncio.run(run())


def test_a_form_is_known_to_who_had_it_made_alone() -> None:
    """Else a shorter time would tell others that it was asked for."""
    form, tokenizer = Form("regex", pattern="(yes|no)!"), toys.tokenizer()
    made = compile_form(form, tokenizer, (), "a")
    assert known_form(form, tokenizer, (), "a") is made
    assert known_form(form, tokenizer, (), "b") is None is known_form(form, tokenizer)
