"""Figures for alarms: a full disk, queues that don't move, blocked threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from charter_service.api.metrics import Metrics
from charter_service.api.service import Service

LOOK_SECONDS = 0.05
STALL_SECONDS = 0.25


class Alarms(Collector):
    """Figures that are read on request. Register it with the metrics of its service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Free space of the database's disk, if known; waits by queue; slow steps by model."""
        room = self._service.room
        free, floor = room.free, room.floor
        if free is not None and floor is not None:
            yield GaugeMetricFamily("charter_disk_free_bytes", "Free on the database's disk", free)
            yield GaugeMetricFamily("charter_disk_floor_bytes", "Free bytes below which no batch is accepted", floor)
        words = "Seconds that the first in line has waited"
        waits = GaugeMetricFamily("charter_oldest_wait_seconds", words, labels=["queue"])
        for queue, seconds in self._service.waits.items():
            waits.add_metric([queue], seconds)
        yield waits
        slow = CounterMetricFamily("charter_slow_steps", "Steps of the engine over 250 ms", labels=["model"])
        for served in self._service.registry.served:
            slow.add_metric([served.id], served.backend.slow_steps)
        yield slow


@asynccontextmanager
async def watching_loop(metrics: Metrics) -> AsyncIterator[None]:
    """Counts the stalls of the event loop for as long as the context lasts."""
    watch = asyncio.create_task(_watch(metrics), name="charter-stalls")
    try:
        yield
    finally:
        watch.cancel()


async def _watch(metrics: Metrics) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
        if time.monotonic() - began - LOOK_SECONDS > STALL_SECONDS:
            metrics.stalled()
