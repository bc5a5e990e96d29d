"""`flow-nexus-neural dashboard`: the live view in a browser, also while a server has the state directory.

It looks at copies of what that server stored, as `clusters show` does, and makes a new one when the journal
changed. Links are those that were recorded last. What only the server knows (how nodes and links are,
latencies) is not shown; `--dashboard` of the server itself shows it.
"""

import signal
import sys

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.stored_source import StoredSource
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.server.dashboard.web import address, bound, new_token, serve_dashboard
from flow_nexus_neural.server.errors import error_text
from flow_nexus_neural.settings import Settings


def dashboard(settings: Settings, port: int) -> int:
    """Serve the dashboard until a signal arrives; its address goes to standard output.

    Returns:
        0, or 1 if the port is taken.
    """
    configure_logging(settings)
    try:
        anyio.run(_serve, settings, port)
    except NeuralError as failure:
        sys.stderr.write(f"{PROGRAM}: {error_text(failure)}\n")
        return 1
    return 0


async def _serve(settings: Settings, port: int) -> None:
    listening, token, stop = bound(port), new_token(), anyio.Event()
    sys.stdout.write(f"{address(listening, token)}\n")
    sys.stdout.flush()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, stop)
        await serve_dashboard(StoredSource(settings), listening, token, stop)
        tasks.cancel_scope.cancel()


async def _stop_on_signal(stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            stop.set()
