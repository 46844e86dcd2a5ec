"""What may be done once: a secret that a page shows once, and a form that is sent once.

Both are kept in this process's memory, for services that are one process.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from charter.service.web.refusal import Refusal, Stale
from charter.service.web.tokens import new_token, proof_of, proves

KEPT_SECONDS = 600.0
FORM_SECONDS = 12 * 3600.0  # that a page may lie open before its form is sent
MOST_SENT = 100_000  # forms that are remembered
_OUT_OF_DATE = "this form is out of date or was not made here; go back, reload the page and send it again"


class Once:
    """Secrets that a page shows once, kept in memory for some minutes: a personal key, invitation links."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, list[str]]] = {}
        self._lock = threading.Lock()

    def put(self, owner: str, secrets: list[str]) -> None:
        """Keeps secrets for whoever has the session `owner`."""
        with self._lock:
            now = time.monotonic()
            self._kept = {k: v for k, v in self._kept.items() if now - v[0] < KEPT_SECONDS}
            self._kept[owner] = (now, secrets)

    def take(self, owner: str) -> list[str]:
        """The secrets of a session, which are then gone."""
        with self._lock:
            then, secrets = self._kept.pop(owner, (0.0, []))
            return secrets if time.monotonic() - then < KEPT_SECONDS else []


class SentOnce:
    """Proofs that forms of a session carry, each good for one sending (CSRF, and no replay).

    A proof is `milliseconds.nonce.HMAC`, the time being this process's own: a form from before it began is out of date.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._secret = new_token()
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, session: str) -> str:
        """What a new page's form carries."""
        made = f"{self._now()}.{new_token()}"
        return f"{made}.{proof_of(session + self._secret, made)}"

    @contextmanager
    def sending(self, session: str, proof: str) -> Iterator[None]:
        """What a form asks for, once; where it is refused within the context, the form may be sent again.

        Raises Refusal for a proof that this session wasn't given or that is old, Stale for one that was used.
        """
        made, _, claimed = proof.rpartition(".")
        if not made or not proves(session + self._secret, made, claimed):
            raise Refusal(_OUT_OF_DATE, 403)
        if self._now() - int(made.partition(".")[0]) > 1000 * FORM_SECONDS:
            raise Refusal(_OUT_OF_DATE, 403)
        with self._lock:
            if made in self._sent:
                raise Stale("this form was sent already; reload the page to send another")
            self._sent[made] = None
            if len(self._sent) > MOST_SENT:
                self._sent.popitem(last=False)
        try:
            yield
        except BaseException:
            with self._lock:
                self._sent.pop(made, None)
            raise

    def _now(self) -> int:
        return int(1000 * (self._clock() - self._began))
