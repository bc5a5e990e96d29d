"""Starts the server: claim the streams, import, launch the zygote, freeze, serve.

`initialize` must be answered in about half a second. So numpy and the engine are imported only when a tool is
called, and torch only in the zygote, which loads it meanwhile.
"""

import gc
import logging
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from flow_nexus_neural.engine.surface import EngineSurface
    from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess

log = logging.getLogger(__name__)


def serve(settings: Settings, http_port: int | None, dashboard_port: int | None = None) -> None:
    """Serve clients; ends the process instead of returning."""
    gc.disable()  # a collection during imports costs more than it frees
    # Before all other imports: a library that writes to standard output would corrupt the protocol.
    from flow_nexus_neural.server.wire import claim_wire

    wire = claim_wire()
    configure_logging(settings)

    import anyio

    from flow_nexus_neural.cli.stored_answers import CopiedAnswers
    from flow_nexus_neural.cli.unfinished import open_for_unfinished
    from flow_nexus_neural.server.app import build_server
    from flow_nexus_neural.server.host import EngineHost
    from flow_nexus_neural.server.stdio import serve_stdio

    opener = partial(open_engine, settings, FirstZygote(launch_zygote()))
    host = EngineHost(opener, CopiedAnswers(settings))
    host.beside(partial(open_for_unfinished, host, settings))
    if dashboard_port is not None:
        from flow_nexus_neural.server.dashboard.sources import LiveSource
        from flow_nexus_neural.server.dashboard.web import serve_beside

        host.beside(partial(serve_beside, LiveSource(host), dashboard_port))
    server = build_server(host, settings)
    _freeze()
    if http_port is None:
        anyio.run(serve_stdio, server, host, wire)
    else:
        from flow_nexus_neural.server.http import serve_http

        anyio.run(serve_http, server, host, settings, http_port)


def launch_zygote() -> "ZygoteProcess | None":
    """Start the zygote, the process that forks nodes. Call it on the main thread.

    The zygote's parent-death signal is bound to the thread that starts it: a worker thread that ends would
    take the zygote with it. If it cannot be started, the server still lists its tools, and the engine reports
    the reason when a node is deployed. None also on systems where nodes are started by exec.
    """
    from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess, can_fork_nodes

    if not can_fork_nodes():
        return None
    try:
        return ZygoteProcess.launch()
    except NeuralError as error:
        log.warning("%s", error)
        return None


class FirstZygote:
    """Passes the zygote that was launched with the server to the first engine that asks for one.

    An engine ends its zygote when it closes. An engine that is opened later, after the first one failed, must
    launch its own: with the ended zygote every later opening would fail.
    """

    def __init__(self, zygote: "ZygoteProcess | None") -> None:
        self._zygote = zygote

    def __call__(self) -> "ZygoteProcess | None":
        """The zygote at the first call, then None."""
        zygote, self._zygote = self._zygote, None
        return zygote


def open_engine(
    settings: Settings, zygote: "Callable[[], ZygoteProcess | None]"
) -> "AbstractAsyncContextManager[EngineSurface]":
    """Import and open the engine; called when a tool is called first, or where a training waits to go on."""
    from flow_nexus_neural.cli.free_state_dir import open_engine_beside_others

    _freeze()  # again, for the modules just imported
    return open_engine_beside_others(settings, zygote)


def _freeze() -> None:
    """Exclude all present objects from garbage collection, since modules live as long as the process."""
    gc.enable()
    gc.collect()
    gc.freeze()
