"""Forms are sent once, by the session that was given them; secrets are shown once."""

from __future__ import annotations

import pytest

from charter_service.web.entrance import FORM_SECONDS, Once, SentOnce
from charter_service.web.refusal import Refusal, Stale


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def sent(once: SentOnce, session: str, proof: str) -> None:
    with once.sending(session, proof):
        pass


def test_a_form_is_good_once_and_for_its_session_alone() -> None:
    once = SentOnce()
    first, second = once.make("ada"), once.make("ada")
    assert first != second
    with pytest.raises(Refusal, match="out of date") as refused:
        sent(once, "bob", first)
    assert refused.value.status == 403
    sent(once, "ada", first)
    with pytest.raises(Stale, match="already sent"):
        sent(once, "ada", first)
    sent(once, "ada", second)


@pytest.mark.parametrize("change", ["", "x", ".", "..", "1.2", "0.a.b", "é.é.é"])
def test_a_forged_proof_opens_nothing(change: str) -> None:
    with pytest.raises(Refusal, match="out of date"):
        sent(SentOnce(), "ada", change)


def test_a_proof_of_another_time_or_process_opens_nothing() -> None:
    clock = Clock()
    once = SentOnce(clock)
    proof = once.make("ada")
    time, nonce, claimed = proof.split(".")
    with pytest.raises(Refusal, match="out of date"):
        sent(once, "ada", f"{int(time) + 5}.{nonce}.{claimed}")
    with pytest.raises(Refusal, match="out of date"):
        sent(SentOnce(clock), "ada", proof)
    clock.now += FORM_SECONDS + 1
    with pytest.raises(Refusal, match="out of date"):
        sent(once, "ada", proof)


def test_a_form_that_was_refused_may_be_sent_again() -> None:
    once = SentOnce()
    proof = once.make("ada")
    with pytest.raises(Refusal, match="no name"), once.sending("ada", proof):
        raise Refusal("no name")
    sent(once, "ada", proof)


def test_a_secret_is_shown_once_to_its_owner() -> None:
    once = Once()
    once.put("ada", ["secret"])
    assert once.take("bob") == []
    assert once.take("ada") == ["secret"]
    assert once.take("ada") == []
