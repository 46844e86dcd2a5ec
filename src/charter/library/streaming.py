"""A reply piece by piece, as a model samples it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator

import torch

from charter.ground.generate.assistant import Assistant, LocalAssistant, Prompt
from charter.ground.generate.engine import Completion, Engine, Event
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.threads import Threads


def steps(engine: Engine) -> Iterator[Event]:
    """The events of an engine until nothing is left to do, with as many threads as the machine has idle cores for."""
    threads, before = Threads(), torch.get_num_threads()
    try:
        while not engine.idle:
            with threads.step():
                events = engine.step()
            yield from events
    finally:
        torch.set_num_threads(before)


def stream(
    assistant: Assistant,
    prompt: Prompt,
    sampling: Sampling,
    seed: int | None = None,
    events: Callable[[Engine, int], Iterator[Event]] | None = None,
) -> Generator[str, None, Completion]:
    """The reply in pieces, as they are sampled, and the completion at the end; a remote engine's comes whole.

    Without a seed, one is drawn. Closing the iterator, or an interrupt, gives the engine's slot back. Raises
    CharterError for a prompt that leaves no room for a reply.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    if not isinstance(assistant, LocalAssistant):
        reply = assistant.reply([prompt], sampling, seeds=[seed])[0][0]
        yield reply.text
        return reply
    engine, ids = assistant.engine, assistant.encode(prompt)
    request = engine.submit(ids, sampling, seed=seed)
    output, completion = "", Completion()
    try:
        for event in events(engine, len(ids)) if events else steps(engine):
            completion = event.completion
            text = completion.text if event.done else _decode_settled(assistant, completion)
            if text.startswith(output) and len(text) > len(output):
                yield text[len(output) :]
                output = text
    finally:
        engine.cancel(request)
    return completion


def _decode_settled(assistant: LocalAssistant, completion: Completion) -> str:
    """The text so far, without special tokens, without what may begin a loop, and without a character whose last bytes
    are still to come."""
    ids = completion.ids[: len(completion.ids) - completion.held]
    return assistant.engine.tokenizer.decode(ids).rstrip("\ufffd")
