"""What a classifier keeps of a reply while it is written is freed when the reply ends, and when its reader goes."""

from __future__ import annotations

import json
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from lobby import MODEL, Said, Watch, configuration, open_hall, until

from charter.ground.artifact.steps import Steps
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen

BODY = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}], "stream": True}


class Keeping(Watch):
    """Keeps the texts that it was shown of each reply; `looked` is called at each."""

    def __init__(self, looked: Callable[[], object]) -> None:
        super().__init__("never said")
        self.looked = looked
        self.seen: list[str] = []
        self.kept: list[weakref.ref[Kept]] = []

    def steps(self, messages: Conversation, whose: str) -> Steps[Scores]:
        yield
        return self._scores(messages[-1]["content"])

    def follow(self, messages: Conversation) -> Callable[[str], Steps[Scores]]:
        kept = Kept()
        self.kept.append(weakref.ref(kept))

        def scores(reply: str) -> Steps[Scores]:
            yield
            kept.texts.append(reply)
            self.seen.append(reply)
            self.looked()
            return self._scores(reply)

        return scores


class Kept:
    """Of one reply."""

    def __init__(self) -> None:
        self.texts: list[str] = []


@pytest.mark.parametrize("goes", [False, True])
def test_what_is_kept_of_a_reply_is_freed_with_it(tmp_path: Path, goes: bool) -> None:
    said = Said("One ", "two ", "three ", "four")
    keeping = Keeping(said.gate.clear if goes else bool)
    hold = {"policy": {"state": "on", "hold": 2}}
    with open_hall(tmp_path, configuration(**hold), screen=Screen(shipped_policy(), [keeping]), said=said) as hall:
        headers = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
        if goes:
            address, body = urlsplit(hall.url), json.dumps(BODY).encode()
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = ["POST /v1/messages HTTP/1.1", "host: here", f"content-length: {len(body)}", *lines, "", ""]
            with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
                connection.sendall("\r\n".join(head).encode() + body)
                until(lambda: keeping.seen)
        else:
            assert httpx.post(hall.url + "/v1/messages", headers=headers, json=BODY, timeout=30).is_success
        until(lambda: [ref() for ref in keeping.kept] == [None])
    first, *later = keeping.seen
    assert first == "One two "
    assert later == ([] if goes else ["One two three four", "One two three four"])
