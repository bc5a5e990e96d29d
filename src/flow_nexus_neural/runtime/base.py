"""The protocol between the engine and the places where nodes live. Two objects, few verbs.

New abilities are new messages, never new verbs. A runtime restarts nothing and has no timer of its own
except `ready_timeout_s`; deadlines belong to `engine.calls.deadlines`. Nothing here is specific to one
platform, and importing this module does not import numpy.
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
    """What a node is told before it starts.

    Attributes:
        node_id: Names this incarnation.
        slot: Stable identity, for example `worker-3`.
        incarnation: 1, 2, 3 ... per slot; every frame carries it.
        seed: Seeds whatever library draws before the first seeded request.
        memory_mb: Memory it may allocate above its start size.
        cpu_s: CPU seconds over its whole life.
        max_regions: Regions it may hold at one time (sizes its descriptor limit).
    """

    node_id: str
    slot: str
    incarnation: int
    seed: int
    memory_mb: int = 1024
    cpu_s: int = 86_400
    max_regions: int = 80


@dataclass(frozen=True, slots=True)
class NodeExit:
    """Why a node is gone, in words and in numbers.

    Attributes:
        reason: `stopped`, `killed`, `crashed`, `out_of_memory`, `cpu_limit`, `sandbox_violation`,
            `node_bug`, `confinement_failed`, `runtime_lost`, `unexplained`, ...
        sentence: For people, for example `killed by SIGKILL`.
        returncode: As of `wait`; negative for signals; None when nobody could wait for it.
        stderr_tail: Its last words, at most 4 KiB.
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
    """What confines a node, as measured on it after the fact.

    Attributes:
        level: strict, seccomp, seatbelt, job, process or none.
        layers: Each layer and the kernel's own view of it.
        probes: What the node got when it tried what it must not be able to do.
        not_enforced: Limits that nobody enforces here.
        missing: What kept the level from being higher.
        shared_with: Slots in the same process.
    """

    level: str
    layers: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, str] = field(default_factory=dict)
    not_enforced: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory of a node's process; `source` is `pss` or `rss_growth` (growth since it was ready)."""

    nbytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a runtime offers on this machine. Measured by the runtime; the engine decides by nothing else.

    Attributes:
        places: Nodes that may train at one time: more would only slow each other down.
        isolation: The best level that a node can reach here; see `Isolation.level`.
        shared_memory: Arrays reach nodes through shared memory, not inside frames.
        peer_views: A node that was granted a view reads its neighbour's buffer directly. Otherwise the engine
            relays, and each view shows what the writer's last reply brought.
        processes: Every node is a process of its own: it has a process id and can be killed at any moment.
        gpu: Nodes can compute on a GPU.
    """

    places: int
    isolation: str
    shared_memory: bool = False
    peer_views: bool = False
    processes: bool = False
    gpu: bool = False


class Region(Protocol):
    """Bytes written once, sealed, and readable by the nodes that were granted them."""

    key: str
    nbytes: int
    layout: tuple[ArrayLayout, ...]

    def close(self) -> None:
        """Give up the engine's reference. Nodes that hold it keep it. Idempotent."""
        ...


class Buffer(Protocol):
    """A region of fixed layout that one node writes and the engine copies from."""

    key: str
    nbytes: int
    layout: tuple[ArrayLayout, ...]

    def copy(self) -> dict[str, NDArray[np.float32]]:
        """Private copies of every array.

        Costs one pass over `nbytes`; may block: call it off the loop.
        """
        ...

    def close(self) -> None:
        """Give up the engine's reference. Idempotent."""
        ...


class NodeHandle(Protocol):
    """The engine's end of one node."""

    @property
    def spec(self) -> NodeSpec:
        """What it was started with."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id; None where the node has no process of its own."""
        ...

    @property
    def isolation(self) -> Isolation:
        """As measured when it was ready."""
        ...

    @property
    def runtime_version(self) -> str:
        """For example `python-3.11/torch-2.13.0+cpu`."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Bytes of frames sent to the node, prefix included, descriptors' contents not included."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes of frames received from it."""
        ...

    async def call(
        self, request: AnsweredBy[R], arrays: Arrays | None = None
    ) -> tuple[R, dict[str, NDArray[Any]]]:
        """One reply for one request. Cancelling gives up: the late reply is dropped, the next call unharmed.

        The returned arrays are private copies. Sends are shielded from cancellation.

        Raises:
            NodeFault: The operation raised inside the node (`details["type"]` has the reason).
            NodeDied: The node's process ended after the request was sent.
            NodeUnavailable: It had ended before the request was delivered.
            ProtocolViolation: It sent what the protocol forbids and has been killed.
        """
        ...

    async def grant(self, region: Region | Buffer) -> None:
        """Let the node use a region (read-only) or a buffer (writable, its own).

        Raises as `call`.
        """
        ...

    async def revoke(self, *keys: str) -> None:
        """Make the node forget regions. Raises as `call`."""
        ...

    async def wait_exit(self) -> NodeExit:
        """Return once the node is gone, to every waiter, as often as asked."""
        ...

    async def stop(self, grace_s: float = 0.5) -> NodeExit:
        """Ask, wait, then SIGKILL.

        Idempotent; runs to its end when cancelled. grace_s 0 kills at once.
        """
        ...

    def memory(self) -> MemoryReading | None:
        """Memory now, read from the system; None where it cannot be known."""
        ...


class NodeRuntime(Protocol):
    """Starts nodes and closes them all."""

    name: str
    capabilities: Capabilities

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> NodeHandle:
        """Return when the node has confined itself, passed its probes and said ready.

        Raises:
            NodeStartFailed: It raised, exited or stayed silent; nothing is left behind.
            IsolationUnavailable: The level it reached is below the required one; it has been killed.
            RuntimeUnavailable: The process that forks nodes is gone and cannot be restarted.
        """
        ...

    def share(self, key: str, arrays: Arrays) -> Region:
        """Write arrays once into a sealed region.

        May block on large data: call it off the event loop.
        """
        ...

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Make a zeroed buffer of (name, dtype, shape) arrays."""
        ...

    def view(self, buffer: Buffer) -> Region:
        """A buffer as its writer's neighbours may be granted it: for reading only, under the buffer's key.

        Whoever maps it sees what the writer writes from then on, and sees nothing of a later buffer. Without
        `capabilities.peer_views` the engine's end relays: each Observe is preceded by what the
        writer's last reply brought.

        Raises:
            OSError: If there is no descriptor left.
        """
        ...

    def isolation_preview(self) -> Isolation:
        """What nodes will get, from the platform and past nodes; its level is `unknown` before the first."""
        ...

    async def aclose(self) -> None:
        """Stop every node in whatever state and release every descriptor. Idempotent."""
        ...
