"""Where the dashboard gets clusters from: the engine of this process, or something like it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import anyio

from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import StatusResult

Seen = Literal["live", "stored"]


@dataclass(frozen=True)
class Shown:
    """What the page draws of one cluster.

    Attributes:
        status: As `neural_cluster_status` reports it in full.
        rounds: Every committed round of the latest training, as the history resource has it.
        seen: Whether it is as it is now, or as it was stored last.
        recorded_links: Of a stored one `topology`, `at` and `edges` as they were recorded last; None where
            nodes never were linked, and of a live one, whose status has its links.
    """

    status: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    seen: Seen
    recorded_links: Mapping[str, Any] | None = None


class ClusterSource(Protocol):
    """What the dashboard asks. All raise `NeuralError` leaves."""

    async def clusters(self) -> list[dict[str, str]]:
        """`cluster_id`, `name` and `status` of every cluster that has not ended, newest last."""
        ...

    async def show(self, cluster_id: str) -> Shown:
        """One cluster."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Return when something may have changed, at the latest after `timeout_s`."""
        ...


class LiveSource:
    """The engine of this server.

    Args:
        host: Whose engine is opened at the first look, as by a tool call.
    """

    def __init__(self, host: EngineHost) -> None:
        self._host = host
        self._changed = anyio.Event()
        host.on_change(self._note_change)

    async def clusters(self) -> list[dict[str, str]]:
        """Those that have not ended."""
        engine = await self._host.engine()
        lines = (await engine.clusters()).clusters
        return [
            {"cluster_id": one.cluster_id, "name": one.name, "status": one.status}
            for one in lines
            if one.status != "terminated"
        ]

    async def show(self, cluster_id: str) -> Shown:
        """A cluster as it is now."""
        engine = await self._host.engine()
        status = await engine.status(StatusRequest(cluster_id=cluster_id, detail="full"))
        history = await engine.history(cluster_id)
        rounds = [wire_json(point) for point in history.rounds]
        return Shown(wire_json(StatusResult.of(status)), rounds, "live")

    async def wait(self, timeout_s: float) -> None:
        """Until any cluster changed."""
        changed = self._changed
        with anyio.move_on_after(timeout_s):
            await changed.wait()

    def _note_change(self, _cluster_id: str) -> None:
        self._changed.set()
        self._changed = anyio.Event()
