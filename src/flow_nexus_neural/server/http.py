"""Serve over HTTP on the loopback interface, for tests and for hosts that cannot start a process.

There is no authentication: whoever can connect may call the tools. So only loopback is bound, and
requests whose Host or Origin is not loopback are refused, which keeps web pages out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from typing_extensions import override

from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.lifetime import serve_until_stopped
from flow_nexus_neural.server.neural_server import NeuralServer

LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to `lifetime`: its own handlers end the process before nodes are stopped."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(server: NeuralServer, host: EngineHost, port: int) -> None:
    """Serve on `http://127.0.0.1:PORT/mcp` until a signal comes; then end the process."""
    config = uvicorn.Config(
        server.streamable_http_app(host=LOOPBACK),
        host=LOOPBACK,
        port=port,
        log_config=None,  # our logging is set up already, on standard error
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    listener = _Server(config)

    async def serve(stop: anyio.Event) -> None:
        async def stop_listener() -> None:
            await stop.wait()
            listener.should_exit = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_listener)
            await listener.serve()
            tasks.cancel_scope.cancel()

    await serve_until_stopped(host, serve)
