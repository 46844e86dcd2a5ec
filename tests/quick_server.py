"""uvicorn's server for tests: it looks every few milliseconds, not ten times a second, whether it shall end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import uvicorn

TICK, TICKS_A_SECOND = 0.005, 200
UVICORN_TICKS = 10  # a second, which its counter counts


class QuickServer(uvicorn.Server):
    """Starts and ends as uvicorn's, within one tick; hundreds of tests serve an application of their own."""

    async def main_loop(self) -> None:
        """Serves until it shall end."""
        ticks = 0
        while not await self.on_tick(ticks * UVICORN_TICKS // TICKS_A_SECOND):
            ticks += 1
            await asyncio.sleep(TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes, gives answers that are under way their time of grace, and tells the application."""
        for listening in [*self.servers, *(sockets or [])]:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while (self.server_state.connections or self.server_state.tasks) and not self.force_exit:
                    await asyncio.sleep(TICK)
        for task in self.server_state.tasks:
            task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()
