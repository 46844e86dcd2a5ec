"""One-time actions: a secret that a page shows once, and a form that is sent once.

Both live in this process's memory, for services that are one process.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from charter_service.web.refusal import Refusal, Stale
from charter_service.web.tokens import new_token, proof_of, proves

KEPT_SECONDS = 600.0
FORM_SECONDS = 12 * 3600.0  # that a page may stay open before its form is sent
MOST_SENT = 100_000  # remembered forms
_OUT_OF_DATE = "this form is out of date or comes from elsewhere; go back, reload the page and send it again"


class Once:
    """Secrets that a page shows once, kept in memory for some minutes: a personal key, invitation links."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, list[str]]] = {}
        self._lock = threading.Lock()

    def put(self, owner: str, secrets: list[str]) -> None:
        """Keeps secrets for the session `owner`."""
        with self._lock:
            now = time.monotonic()
            self._kept = {k: v for k, v in self._kept.items() if now - v[0] < KEPT_SECONDS}
            self._kept[owner] = (now, secrets)

    def take(self, owner: str) -> list[str]:
        """The secrets of a session; they are then deleted."""
        with self._lock:
            then, secrets = self._kept.pop(owner, (0.0, []))
            return secrets if time.monotonic() - then < KEPT_SECONDS else []


class SentOnce:
    """Proofs in the forms of a session, each valid for one sending (CSRF, and no replay).

    A proof is `milliseconds.nonce.HMAC`, by this process's own clock: a form from before its start is out of date.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._secret = new_token()
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, session: str) -> str:
        """The proof for a new page's form."""
        stamp = f"{self._now()}.{new_token()}"
        return f"{stamp}.{proof_of(session + self._secret, stamp)}"

    @contextmanager
    def sending(self, session: str, proof: str) -> Iterator[None]:
        """A context that runs a form's action once; if the action raises, the form may be sent again.

        Raises Refusal if the proof isn't this session's or is old, Stale if it was used.
        """
        stamp, _, claimed = proof.rpartition(".")
        if not stamp or not proves(session + self._secret, stamp, claimed):
            raise Refusal(_OUT_OF_DATE, 403)
        if self._now() - int(stamp.partition(".")[0]) > 1000 * FORM_SECONDS:
            raise Refusal(_OUT_OF_DATE, 403)
        with self._lock:
            if stamp in self._sent:
                raise Stale("this form was already sent; reload the page to send another")
            self._sent[stamp] = None
            if len(self._sent) > MOST_SENT:
                self._sent.popitem(last=False)
        try:
            yield
        except BaseException:
            with self._lock:
                self._sent.pop(stamp, None)
            raise

    def _now(self) -> int:
        return int(1000 * (self._clock() - self._began))
