"""The machines of the cluster as the engine knows them, and the choice among them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flow_nexus_neural.runtime.base import Placement
from flow_nexus_neural.runtime.ray.memory import HostRegion
from flow_nexus_neural.runtime.ray.stream import MessageStream
from flow_nexus_neural.runtime.ray.wire import Buffer


class Host:
    """One machine, as long as its agent answers. Messages reach it in the order of the calls here.

    Args:
        number: Of its agent.
        told: What it said when it joined.
        stream: To the driver.
    """

    def __init__(self, number: int, told: Mapping[str, Any], stream: MessageStream) -> None:
        self.number = number
        self.placement = Placement(host=str(told["name"]), address=str(told["address"]))
        self.cores = int(told["cores"])
        self.isolation = str(told["isolation"])
        self.is_remote = not told["is_here"]
        self.lost = False
        self._stream = stream
        self._regions: set[int] = set()

    def start(self, node: int, spec: Mapping[str, Any], ready_timeout_s: float) -> None:
        """Order a node."""
        self._send("start", node=node, spec=spec, ready_timeout_s=ready_timeout_s)

    def pass_in(
        self,
        node: int,
        frame: Sequence[Buffer],
        region: int | None,
        *,
        asked_to_stop: bool,
    ) -> int:
        """Pass a frame on to a node, with a region that the host holds; returns the frame's bytes."""
        told = {"node": node, "region": region, "asked_to_stop": asked_to_stop}
        self._stream.send(self.number, {"kind": "frame", **told}, *frame)
        return sum(memoryview(part).nbytes for part in frame)

    def kill(self, node: int, cause: str) -> None:
        """End a node at once."""
        self._send("kill", node=node, cause=cause)

    def hold(self, region: HostRegion) -> int:
        """Make sure that the host holds a region; returns the bytes of it that were sent, once per host."""
        if region.number in self._regions:
            return 0
        self._regions.add(region.number)
        told = {"region": region.number, "key": region.key, "specs": region.specs()}
        self._stream.send(self.number, {"kind": "put", **told}, *region.body())
        return sum(layout.nbytes for layout in region.layout)

    def drop(self, region: int) -> None:
        """The engine has given a region up; nodes that were granted it keep it."""
        if region in self._regions:
            self._regions.discard(region)
            self._send("drop", region=region)

    def _send(self, kind: str, **told: Any) -> None:
        self._stream.send(self.number, {"kind": kind, **told})


def least_loaded(hosts: Iterable[Host], placed: Iterable[Host]) -> Host | None:
    """The host with the fewest nodes for its cores; among equals the one that joined first.

    Args:
        hosts: To choose among.
        placed: The host of every node that lives or is being started.
    """
    loads = Counter(host.number for host in placed)
    return min(
        (host for host in hosts if not host.lost),
        key=lambda host: (loads[host.number] / max(host.cores, 1), host.number),
        default=None,
    )
