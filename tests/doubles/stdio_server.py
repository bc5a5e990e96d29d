"""Serve the engine's double over real standard streams, as badly behaved as a library can be.

Opening the engine starts a child that inherits the standard streams; closing it ends the child and leaves the
file named by the only argument. Every call writes to standard output in three ways.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flow_nexus_neural.server.wire import claim_wire

WIRE = claim_wire()

import anyio  # noqa: E402 - the streams are claimed before anything else is imported, as in the product

from flow_nexus_neural.cli.logs import configure_logging  # noqa: E402
from flow_nexus_neural.engine.reports import ClusterReport  # noqa: E402
from flow_nexus_neural.engine.requests import InitRequest  # noqa: E402
from flow_nexus_neural.server.app import build_server  # noqa: E402
from flow_nexus_neural.server.host import EngineHost  # noqa: E402
from flow_nexus_neural.server.stdio import serve_stdio  # noqa: E402
from flow_nexus_neural.settings import Settings  # noqa: E402
from tests.doubles.engine_double import EngineDouble  # noqa: E402


class NoisyEngine(EngineDouble):
    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self.child = child

    async def init_cluster(self, request: InitRequest) -> ClusterReport:
        print("a stray print")  # noqa: T201 - the point
        os.write(1, b"a stray write to descriptor 1\n")
        ctypes.CDLL(None).puts(b"a stray line of C code")
        ctypes.CDLL(None).fflush(None)
        await anyio.run_process(["/bin/sh", "-c", "echo a stray line of a child"], stdout=None)
        report = await super().init_cluster(request)
        return report.model_copy(update={"name": str(self.child.pid)})


@asynccontextmanager
async def open_noisy(marker: Path) -> AsyncIterator[NoisyEngine]:
    child = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - starting it does not block
    try:
        yield NoisyEngine(child)
    finally:
        await anyio.sleep(0.05)  # closing needs the event loop, like the engine's
        child.kill()
        child.wait()
        marker.write_text("closed")  # noqa: ASYNC240 - a few bytes


configure_logging(Settings())  # before the server exists, whose constructor would do it otherwise
host = EngineHost(lambda: open_noisy(Path(sys.argv[1])))
anyio.run(serve_stdio, build_server(host, Settings()), host, WIRE)
