"""A web server that runs beside the engine in one event loop."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from typing_extensions import override

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)  # the address is told, however quiet the rest is


def in_url(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


class Listener(uvicorn.Server):
    """uvicorn without its signal handlers, which would end the process before nodes are stopped.

    Args:
        config: Of uvicorn.
        told: What is logged once it serves.
    """

    def __init__(self, config: uvicorn.Config, told: str) -> None:
        super().__init__(config)
        self._told = told

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log.info("%s", self._told)

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def serve_until(
        self, stop: anyio.Event, sockets: list[socket.socket] | None = None
    ) -> None:
        """Serve until the event is set, or until the server ends by itself."""

        async def end() -> None:
            await stop.wait()
            self.should_exit = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            await self.serve(sockets)
            tasks.cancel_scope.cancel()
