"""Start the server: claim the streams, import, freeze, launch the zygote, serve.

The order is the point. `initialize` must be answered in about half a second, so nothing that a client may
never need (numpy, the engine, torch) is imported before it, and the zygote loads torch meanwhile in its
own process.
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


def serve(settings: Settings, http_port: int | None) -> None:
    """Serve clients; ends the process instead of returning."""
    gc.disable()  # a collection during imports costs more than it frees
    from flow_nexus_neural.server.wire import claim_wire

    wire = claim_wire()
    configure_logging(settings)

    import anyio

    from flow_nexus_neural.server.app import build_server
    from flow_nexus_neural.server.host import EngineHost
    from flow_nexus_neural.server.stdio import serve_stdio

    host = EngineHost(partial(open_engine, settings, FirstZygote(launch_zygote())))
    server = build_server(host, settings)
    _freeze()
    if http_port is None:
        anyio.run(serve_stdio, server, host, wire)
    else:
        from flow_nexus_neural.server.http import serve_http

        anyio.run(serve_http, server, host, settings, http_port)


def launch_zygote() -> "ZygoteProcess | None":
    """Start the process that forks nodes; from the main thread, whose death it is bound to.

    Where it cannot be started, the server still lists its tools and the engine says why no node can be
    deployed. Where the system has no such process, nodes are started one by one when they are deployed.
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
    """The process that was launched with the server, for the first engine that gets as far as to use it.

    An engine ends its zygote. One that is opened later, because the first could not be opened or fell,
    launches one of its own: handing out the ended one again would make every later opening fail.
    """

    def __init__(self, zygote: "ZygoteProcess | None") -> None:
        self._zygote = zygote

    def __call__(self) -> "ZygoteProcess | None":
        """The zygote at the first call; None from then on."""
        zygote, self._zygote = self._zygote, None
        return zygote


def open_engine(
    settings: Settings, zygote: "Callable[[], ZygoteProcess | None]"
) -> "AbstractAsyncContextManager[EngineSurface]":
    """Import and open the engine; both are put off until a tool is called."""
    from flow_nexus_neural.engine.engine import Engine

    _freeze()
    return Engine.open(settings, zygote=zygote)


def _freeze() -> None:
    """Put what exists now out of the collector's sight: it lives as long as the process."""
    gc.enable()
    gc.collect()
    gc.freeze()
