"""The interface of a runtime: `NodeRuntime` starts nodes, `NodeHandle` calls one.

New operations of nodes are new messages, never new methods here. A runtime restarts nothing and has no timer
except `ready_timeout_s`; `engine.calls.deadlines` sets deadlines. Nothing here is specific to one platform,
and importing this module does not import numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from flow_nexus_neural.protocol.contract import AnsweredBy, R

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from flow_nexus_neural.protocol.arrays import ArrayLayout

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Parameters with which a node is started.

    Attributes:
        node_id: Id of this incarnation.
        slot: Stable identity, for example `worker-3`.
        incarnation: 1, 2, 3 ... per slot; every frame carries it.
        seed: Seed of the global random generators of its libraries.
        memory_mb: MiB that it may allocate above its start size.
        cpu_s: CPU seconds over its whole life.
        max_regions: Regions it may hold at one time; determines its descriptor limit.
        group: Nodes of one group may share a process, where a runtime offers that; None for a process of
            its own.
        group_size: Most nodes of its group in one process.
    """

    node_id: str
    slot: str
    incarnation: int
    seed: int
    memory_mb: int = 1024
    cpu_s: int = 86_400
    max_regions: int = 80
    group: str | None = None
    group_size: int = 1


@dataclass(frozen=True, slots=True)
class NodeExit:
    """How and why a node ended.

    Attributes:
        reason: `stopped`, `killed`, `crashed`, `out_of_memory`, `cpu_limit`, `sandbox_violation`,
            `node_bug`, `confinement_failed`, `runtime_lost`, `unexplained`, ...
        sentence: For people, for example `killed by SIGKILL`.
        returncode: Exit status, negative for signals; None if no process could wait for the node.
        stderr_tail: The end of its stderr, at most 4 KiB.
    """

    reason: str
    sentence: str
    returncode: int | None
    signal: str | None
    stderr_tail: str
    max_rss_bytes: int | None
    cpu_s: float | None


@dataclass(frozen=True, slots=True)
class Isolation:
    """The confinement of a node, as measured when it was ready.

    Attributes:
        level: strict, seccomp, seatbelt, job, process or none.
        layers: Each layer of confinement, as the kernel reports it.
        probes: Results of the node's attempts at forbidden operations.
        not_enforced: Limits that are not enforced here.
        missing: What is missing for a higher level.
        shared_with: Slots in the same process.
    """

    level: str
    layers: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, str] = field(default_factory=dict)
    not_enforced: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """The machine on which a node lives: its name and its address, as its cluster knows them."""

    host: str
    address: str


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory of a node's process; `source` is `pss` or `rss_growth` (growth since it was ready)."""

    nbytes: int
    source: str


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """What the system's scheduler gave a node's process since it began.

    Attributes:
        ran_s: Seconds in which it ran.
        waited_s: Seconds in which it could have run and others did; a wait counts when it is over.
        runnable: Whether it runs or waits for a processor now.
    """

    ran_s: float
    waited_s: float
    runnable: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a runtime offers on this machine. The engine depends on these fields, not on the runtime's class.

    Attributes:
        places: Number of nodes that may train at one time; more would only slow each other down.
        isolation: The best level that a node can reach here; see `Isolation.level`.
        shared_memory: Arrays reach nodes through shared memory, not inside frames.
        groups: Nodes of one group share a process; see `NodeSpec.group`.
        peer_views: A node with a granted view reads its neighbour's buffer directly. Otherwise the engine
            relays, and a view shows the content of the writer's last reply.
        processes: Each node is a separate process: it has a process id and can be killed at any moment.
        gpu: Nodes can compute on a GPU.
    """

    places: int
    isolation: str
    shared_memory: bool = False
    groups: bool = False
    peer_views: bool = False
    processes: bool = False
    gpu: bool = False


class Region(Protocol):
    """Memory that is written once, then sealed, and readable by the nodes to which it is granted."""

    key: str
    nbytes: int
    layout: tuple[ArrayLayout, ...]

    def close(self) -> None:
        """Release the engine's reference; nodes that hold the region keep it. Idempotent."""
        ...


class Buffer(Protocol):
    """A region of fixed layout that one node writes and the engine copies from."""

    key: str
    nbytes: int
    layout: tuple[ArrayLayout, ...]

    def copy(self) -> dict[str, NDArray[np.float32]]:
        """Private copies of every array: the node may write while the engine reads.

        Costs one pass over `nbytes` and may block: do not call it on the event loop.
        """
        ...

    def read(self, name: str, start: int, into: NDArray[Any]) -> None:
        """Fill a private array with the bytes of an array of the buffer, from its element `start` on.

        May block.
        """
        ...

    def close(self) -> None:
        """Release the engine's reference. Idempotent."""
        ...


class NodeHandle(Protocol):
    """The engine's end of one node."""

    @property
    def spec(self) -> NodeSpec:
        """The parameters with which it was started."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id; None if the node is not a separate process."""
        ...

    @property
    def placement(self) -> Placement | None:
        """Where it lives; None on this machine."""
        ...

    @property
    def isolation(self) -> Isolation:
        """Its confinement, as measured when it was ready."""
        ...

    @property
    def runtime_version(self) -> str:
        """For example `python-3.11/torch-2.13.0+cpu`."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Bytes of frames sent to the node, including prefixes, without the content of shared memory."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes of frames received from it."""
        ...

    @property
    def inter_host_bytes(self) -> int:
        """Bytes of its frames, and of regions put on its host for it, that went between two machines."""
        ...

    async def call(
        self, request: AnsweredBy[R], arrays: Arrays | None = None
    ) -> tuple[R, dict[str, NDArray[Any]]]:
        """Send one request and wait for its reply.

        A cancelled caller stops waiting; the late reply is dropped and the next call is not affected. Sends
        are shielded from cancellation: half a frame would make the stream unreadable. The returned arrays
        are private copies.

        Raises:
            NodeFault: The operation raised inside the node (`details["type"]` has the reason).
            NodeDied: The node's process ended after the request was sent: the request may have run.
            NodeUnavailable: The process had ended before the request was delivered.
            ProtocolViolation: The node sent bytes that the protocol forbids and has been killed.
        """
        ...

    async def grant(self, region: Region | Buffer) -> None:
        """Give the node access to a region (read-only) or to a buffer (writable).

        Raises as `call`.
        """
        ...

    async def revoke(self, *keys: str) -> None:
        """Make the node drop regions. Raises as `call`."""
        ...

    async def wait_exit(self) -> NodeExit:
        """Wait until the node has ended; every caller gets the same object, also after the end."""
        ...

    async def stop(self, grace_s: float = 0.5) -> NodeExit:
        """Send Shutdown, wait `grace_s`, then kill; with `grace_s` 0 kill at once.

        Idempotent; completes even if the caller is cancelled.
        """
        ...

    def memory(self) -> MemoryReading | None:
        """Current memory use, read from the system; None if unknown."""
        ...

    def is_stopped(self) -> bool:
        """Whether the system keeps its process from running; False if unknown."""
        ...

    def processor_time(self) -> ProcessorTime | None:
        """How long its process ran and waited for a processor; None if unknown."""
        ...


class NodeRuntime(Protocol):
    """Starts nodes, and stops all of them when it is closed."""

    name: str
    capabilities: Capabilities

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> NodeHandle:
        """Start a node; return when it has confined itself, run its probes and sent Ready.

        Raises:
            NodeStartFailed: The node raised, exited or did not answer in time; nothing is left behind.
            IsolationUnavailable: Its isolation level is below the required one; it has been killed.
            RuntimeUnavailable: The process that forks nodes has ended and cannot be restarted.
        """
        ...

    def share(self, key: str, arrays: Arrays) -> Region:
        """Write arrays once into a sealed region.

        May block for large data: do not call it on the event loop.
        """
        ...

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Create a zeroed buffer of (name, dtype, shape) arrays."""
        ...

    def view(self, buffer: Buffer) -> Region:
        """Create a read-only region over a buffer, under the same key, to grant to its writer's neighbours.

        A node that maps it sees all later writes to this buffer, and nothing of a buffer that replaces it.
        Without `capabilities.peer_views` the engine relays: before each Observe it sends the content of the
        writer's last reply.

        Raises:
            OSError: If there is no free descriptor.
        """
        ...

    def isolation_preview(self) -> Isolation:
        """Expected confinement, from the last node; before the first one the level may be `unknown`."""
        ...

    async def aclose(self) -> None:
        """Stop every node, whatever its state, and release every descriptor. Idempotent."""
        ...
