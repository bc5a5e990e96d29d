"""Shuts the server down cleanly at end of input, on a signal, and when the client dies.

Clients send SIGTERM two seconds after closing the server's input, and SIGKILL soon after, so shutdown has a
time limit. The process always ends by `os._exit`, because the SDK's reader is in a blocking read that cannot
be cancelled. Nodes die with their zygote and the zygote with the server, so that even an interrupted shutdown
leaves no process behind.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio

from flow_nexus_neural.server.host import EngineHost

PARENT_CHECK_INTERVAL_S = 0.5
CLOSING_BUDGET_S = 1.7  # below the 2 s after which clients send SIGTERM

log = logging.getLogger(__name__)

Serve = Callable[[anyio.Event], Awaitable[None]]
"""Serves clients until it ends by itself or the event is set."""


async def serve_until_stopped(host: EngineHost, serve: Serve) -> NoReturn:
    """Run the host and a transport; end the process when the transport ends or the server must stop.

    Args:
        host: Closed, with all nodes, before the process ends.
        serve: The transport.
    """
    stop = anyio.Event()
    status = 1
    try:
        async with anyio.create_task_group() as tasks:
            try:
                async with host.running():
                    tasks.start_soon(_serve_then_stop, serve, stop)
                    tasks.start_soon(_stop_on_signal, stop)
                    tasks.start_soon(_stop_when_orphaned, stop)
                    await stop.wait()
                    limit_closing()
                status = 0
            finally:
                # Inside the task group: leaving it would wait for the transport, which cannot be cancelled.
                _exit(status)
    finally:
        _exit(status)


async def _serve_then_stop(serve: Serve, stop: anyio.Event) -> None:
    try:
        await serve(stop)
    except Exception:  # logged here, since what it breaks may hide it
        log.exception("the transport failed")
        raise
    finally:
        stop.set()


async def _stop_on_signal(stop: anyio.Event) -> None:
    names = ("SIGTERM", "SIGINT", "SIGHUP")
    wanted = [getattr(signal, name) for name in names if hasattr(signal, name)]
    with anyio.open_signal_receiver(*wanted) as signals:
        async for received in signals:
            log.info("stopping on %s", signal.Signals(received).name)
            stop.set()


async def _stop_when_orphaned(stop: anyio.Event) -> None:
    """Stop when the parent process changes.

    A killed client causes no end of input if another process holds the pipe open.
    """
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - the kernel offers no event for this
        await anyio.sleep(PARENT_CHECK_INTERVAL_S)
    log.info("stopping: the client's process is gone")
    stop.set()


def limit_closing() -> None:
    """End the process when closing takes too long, even if the event loop is stuck.

    To be called as soon as it is known that there is nothing more to serve: what still runs then, and may
    hang, counts as closing. Any thread may call it, and more than once; the first call counts.
    """
    timer = threading.Timer(CLOSING_BUDGET_S, _exit, (1,))
    timer.daemon = True
    timer.start()


def _exit(status: int) -> NoReturn:
    with contextlib.suppress(
        OSError, ValueError
    ):  # a client that is gone no longer reads our last words
        logging.shutdown()
        sys.stderr.flush()
    os._exit(status)
