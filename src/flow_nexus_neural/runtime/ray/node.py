"""The engine's end of a node on another host."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import anyio
from typing_extensions import override

from flow_nexus_neural.errors import NeuralError, NodeStartFailed, ProtocolViolation
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.runtime.base import (
    Buffer,
    MemoryReading,
    NodeExit,
    NodeSpec,
    Placement,
    ProcessorTime,
    Region,
)
from flow_nexus_neural.runtime.connection.conversation import Outgoing
from flow_nexus_neural.runtime.connection.node_end import NodeEnd
from flow_nexus_neural.runtime.ray.hosts import Host
from flow_nexus_neural.runtime.ray.memory import HostRegion
from flow_nexus_neural.runtime.ray.shapes import (
    error_of,
    exit_of,
    isolation_of,
    memory_of,
    processor_time_of,
)

_LOG: Final = logging.getLogger(__name__)


class RayNode(NodeEnd):
    """Frames go to the node's host and come from there; its bytes are read and checked here.

    Args:
        spec: What it is started with.
        limits: Longest frames that it takes.
        host: On which it lives.
        number: Of the node, among all of this runtime.
    """

    def __init__(self, spec: NodeSpec, limits: FrameLimits, host: Host, number: int) -> None:
        super().__init__(spec, limits)
        self._host = host
        self._number = number
        self._pid: int | None = None
        self._up = anyio.Event()
        self._refusal: NeuralError | None = None
        self._violation: NeuralError | None = None
        self._killed = False
        self._region_bytes = 0
        self._readings: Mapping[str, Any] = {}

    @property
    @override
    def pid(self) -> int | None:
        """Process id, on its host."""
        return self._pid

    @property
    @override
    def placement(self) -> Placement | None:
        """Where it lives."""
        return self._host.placement

    @property
    @override
    def inter_host_bytes(self) -> int:
        """Its frames, and the regions that its host was sent for its sake; none on the server's machine."""
        if not self._host.is_remote:
            return 0
        return self.bytes_sent + self.bytes_received + self._region_bytes

    async def run(self) -> None:
        """Until it has ended."""
        await self._gone.wait()

    async def up(self) -> None:
        """Return once its host has started and measured it.

        Raises:
            NodeStartFailed, IsolationUnavailable, RuntimeUnavailable: As its host said.
            NodeDied, ProtocolViolation: It ended first.
        """
        await self._up.wait()
        if self._refusal is not None:
            raise self._refusal
        await self.ready()

    @override
    async def grant(self, region: Region | Buffer) -> None:
        """Let the node use a region, which its host is sent if it does not hold it."""
        if isinstance(region, HostRegion):
            region.grant_frame()  # raises where it has been given up
            self._region_bytes += self._host.hold(region)
        await super().grant(region)

    def take(self, kind: str, told: Mapping[str, Any], body: memoryview) -> None:
        """A message of its host about it."""
        match kind:
            case "frame":
                self._receive(body)
            case "started":
                self._pid = int(told["pid"])
                self.isolation = isolation_of(told["isolation"])
                self.runtime_version = str(told["runtime_version"])
                self._up.set()
            case "refused":
                self._refusal = error_of(told["error"])
                self.lose("was not started")
            case "exit":
                self._end(exit_of(told["exit"]))

    def note(self, readings: Mapping[str, Any]) -> None:
        """What the system of its host says of its process."""
        self._readings = readings

    def lose(self, why: str) -> None:
        """Its host, or what runs there, is gone: nobody will tell how it ended."""
        sentence = f"ended with its host {self._host.placement.address}: {why}"
        self._end(NodeExit("runtime_lost", sentence, None, None, "", None, None))

    @override
    def memory(self) -> MemoryReading | None:
        """As its host read it last."""
        return None if self.gone else memory_of(self._readings.get("memory"))

    @override
    def is_stopped(self) -> bool:
        """As its host read it last."""
        return not self.gone and bool(self._readings.get("is_stopped", False))

    @override
    def processor_time(self) -> ProcessorTime | None:
        """As its host read it last."""
        return None if self.gone else processor_time_of(self._readings.get("processor_time"))

    def order(self, ready_timeout_s: float) -> None:
        """Have its host start it."""
        self._host.start(self._number, asdict(self.spec), ready_timeout_s)

    def _end(self, exit_: NodeExit) -> None:
        if not self.gone:
            self._settle(exit_, self._violation)
            self._up.set()

    def _receive(self, body: memoryview) -> None:
        if self._violation is not None or self.gone:
            return
        try:
            self._conversation.receive(body)
        except NeuralError as violation:
            self._break_off(violation, str(violation))
        except Exception as failure:  # noqa: BLE001 - the wall between what one node sends and everything else
            _LOG.exception("what node %s sent could not be read", self.spec.slot)
            kind = type(failure).__name__
            unreadable = ProtocolViolation(
                f"node {self.spec.slot} sent what could not be read ({kind}); it was killed",
                hint="call neural_node_deploy to replace it",
            )
            self._break_off(unreadable, f"unreadable ({kind})")

    def _break_off(self, violation: NeuralError, why: str) -> None:
        self._violation = violation
        self._kill(f"protocol_violation: {why}")

    @override
    def _transmit(self, outgoing: Outgoing) -> None:
        asked = self._asked_to_stop
        self.bytes_sent += self._host.pass_in(
            self._number, outgoing.buffers, outgoing.descriptor, asked_to_stop=asked
        )

    @override
    def _kill(self, cause: str) -> None:
        if not self._killed:
            self._killed = True
            self._host.kill(self._number, cause)


def not_placed(spec: NodeSpec) -> NodeStartFailed:
    """The failure of a node for which there is no host."""
    return NodeStartFailed(
        f"node {spec.slot} was not started: the Ray cluster has no host that is alive",
        hint="start Ray on a machine (`ray start --address=...`), then call neural_node_deploy again",
        details={"slot": spec.slot},
    )
