"""`flow-nexus-neural dashboard`: the live view in a browser, also while a server has the state directory.

It looks at copies of what that server stored, as `clusters show` does, and makes a new one when the journal
changed. What only the server knows (latencies, links) is shown as not measured; `--dashboard` of the server
itself shows it.
"""

import signal
import sys

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.stored import Look, look, stored_status
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import ListRequest
from flow_nexus_neural.engine.storage.commit_marker import NAME as MARKER
from flow_nexus_neural.engine.storage.snapshot import JOURNAL
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.server.dashboard.sources import Shown
from flow_nexus_neural.server.dashboard.web import address, bound, new_token, serve_dashboard
from flow_nexus_neural.server.errors import error_text
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.settings import Settings

JOURNAL_FILES = (JOURNAL, f"{JOURNAL}-wal", MARKER)
POLL_S = 1.0
Fingerprint = tuple[tuple[int, int] | None, ...]


class StoredSource:
    """Clusters of a state directory, read from a copy. One copy is made at a time, however many pages look.

    Args:
        settings: Of the state directory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looking = anyio.Lock()
        self._at: Fingerprint | None = None
        self._clusters: list[dict[str, str]] = []
        self._shown: dict[str, Shown] = {}

    async def clusters(self) -> list[dict[str, str]]:
        """Those that have not ended."""
        await self._refresh(None)
        return self._clusters

    async def show(self, cluster_id: str) -> Shown:
        """A cluster as it was stored last."""
        await self._refresh(cluster_id)
        return self._shown[cluster_id]

    async def wait(self, timeout_s: float) -> None:
        """Until the journal was written to."""
        with anyio.move_on_after(timeout_s):
            while self._fingerprint() == self._at:  # noqa: ASYNC110 - files of another process
                await anyio.sleep(POLL_S)

    async def _refresh(self, cluster_id: str | None) -> None:
        """Look again if the journal changed since the last look, or this cluster was not looked at."""
        async with self._looking:
            now = self._fingerprint()
            if now != self._at:
                self._shown.clear()
            elif cluster_id is None or cluster_id in self._shown:
                return

            async def read(engine: Engine, seen: Look) -> None:
                lines = (await engine.clusters(ListRequest())).clusters
                self._clusters = [
                    {
                        "cluster_id": one.cluster_id,
                        "name": one.name,
                        "status": seen.of_cluster(one.status),
                    }
                    for one in lines
                ]
                if cluster_id is not None:
                    status = await stored_status(engine, cluster_id, seen)
                    history = await engine.history(cluster_id)
                    rounds = [wire_json(point) for point in history.rounds]
                    self._shown[cluster_id] = Shown(status, rounds, "stored")

            await look(self._settings, read)
            self._at = now

    def _fingerprint(self) -> Fingerprint:
        """Size and time of change of the files that a commit touches."""
        found: list[tuple[int, int] | None] = []
        for name in JOURNAL_FILES:
            try:
                stat = (self._settings.state_dir / name).stat()
                found.append((stat.st_size, stat.st_mtime_ns))
            except OSError:
                found.append(None)
        return tuple(found)


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
