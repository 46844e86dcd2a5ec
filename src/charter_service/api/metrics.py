"""Counters for Prometheus: requests and tokens by model, times of replies, actions of the policy, queues.

No label has content, a key or a user.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from charter_service.api.model_request import Usage

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        by_model = ("model", "surface")
        self._answered = Counter("charter_answers", "Answers that were begun", by_model, registry=registry)
        self._tokens = Counter("charter_tokens", "Tokens", ("model", "kind"), registry=registry)
        self._seconds = Histogram(
            "charter_answer_seconds", "Time of an answer", by_model, registry=registry, buckets=SECONDS
        )
        self._responses = Counter("charter_responses", "HTTP answers", ("path", "status"), registry=registry)
        self._refused = Counter("charter_refused", "Answers 503 and 529", ("status", "reason"), registry=registry)
        self._stalls = Counter("charter_loop_stalls", "Stalls of the event loop over 250 ms", registry=registry)
        self._engine = Gauge("charter_engine", "What engines are doing", ("model", "what"), registry=registry)

    def answered(self, model: str, surface: str, usage: Usage, seconds: float) -> None:
        """Counts an answer."""
        self._answered.labels(model, surface).inc()
        self._seconds.labels(model, surface).observe(seconds)
        for kind in ("input_tokens", "cached_tokens", "output_tokens"):
            self._tokens.labels(model, kind.removesuffix("_tokens")).inc(getattr(usage, kind))

    def responded(self, path: str, status: int) -> None:
        """Counts an HTTP answer; `path` is a route's pattern, or "other"."""
        self._responses.labels(path, str(status)).inc()

    def refused(self, status: int, reason: str) -> None:
        """Counts requests refused for now."""
        self._refused.labels(str(status), reason).inc()

    def stalled(self) -> None:
        """Counts a stall of the event loop."""
        self._stalls.inc()

    def show(self, model: str, figures: dict[str, float]) -> None:
        """Records the state of an engine."""
        for figure, value in figures.items():
            self._engine.labels(model, figure).set(value)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)
