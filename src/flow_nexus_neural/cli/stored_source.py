"""Clusters of a state directory followed while a server may have it, by looking at copies.

A new copy is made when the journal changed, and one at a time, however many look.
"""

from dataclasses import asdict
from pathlib import Path

import anyio

from flow_nexus_neural.cli.stored import Look, look, stored_status
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.operations.plot import recorded_links
from flow_nexus_neural.engine.storage.commit_marker import NAME as MARKER
from flow_nexus_neural.engine.storage.snapshot import JOURNAL
from flow_nexus_neural.server.dashboard.sources import Shown
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

    def forget(self) -> None:
        """Look again though nothing was written, as when the server was killed."""
        self._at = None

    async def _refresh(self, cluster_id: str | None) -> None:
        """Look again if the journal changed since the last look, or this cluster was not looked at."""
        async with self._looking:
            now = self._fingerprint()
            if now != self._at:
                self._shown.clear()
            elif cluster_id is None or cluster_id in self._shown:
                return

            async def read(engine: Engine, seen: Look) -> None:
                lines = (await engine.clusters()).clusters
                self._clusters = [
                    {
                        "cluster_id": one.cluster_id,
                        "name": one.name,
                        "status": seen.of_cluster(one.status),
                    }
                    for one in lines
                    if one.status != "terminated"
                ]
                if cluster_id is not None:
                    status = await stored_status(engine, cluster_id, seen)
                    history = await engine.history(cluster_id)
                    rounds = [wire_json(point) for point in history.rounds]
                    links = await recorded_links(engine.context.store, status["cluster_id"])
                    self._shown[cluster_id] = Shown(
                        status, rounds, "stored", None if links is None else asdict(links)
                    )

            await look(self._settings, read)
            self._at = now

    def _fingerprint(self) -> Fingerprint:
        return fingerprint(self._settings.state_dir)


def fingerprint(state_dir: Path) -> Fingerprint:
    """Size and time of change of the files that a commit touches."""
    found: list[tuple[int, int] | None] = []
    for name in JOURNAL_FILES:
        try:
            stat = (state_dir / name).stat()
            found.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)
