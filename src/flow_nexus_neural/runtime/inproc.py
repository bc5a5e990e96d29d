"""Nodes as objects in this process, for simulation and debugging: no isolation, the same frames.

Everything a node says and hears is encoded and decoded by the codec of the real wire, and answered by the
same responder; regions travel inside the frames. Each node works in a worker thread, so that quick requests
are answered while it trains. What this cannot do: end a service that neither finishes nor polls.
"""

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskGroup
from numpy.typing import NDArray
from typing_extensions import override

from flow_nexus_neural.errors import (
    NeuralError,
    NodeDied,
    NodeStartFailed,
    ProtocolViolation,
    RuntimeUnavailable,
)
from flow_nexus_neural.protocol.codec import (
    REQUEST_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Unreadable,
    encode,
)
from flow_nexus_neural.protocol.dispatch import Arrays, Responder, Service
from flow_nexus_neural.protocol.messages import Grant, Ready, Request
from flow_nexus_neural.runtime.base import Buffer, Isolation, NodeExit, NodeSpec, Region
from flow_nexus_neural.runtime.conversation import Outgoing
from flow_nexus_neural.runtime.fault_plan import FaultPlan, PlannedFault
from flow_nexus_neural.runtime.memory import CarriedBuffer, CarriedRegion, view_of
from flow_nexus_neural.runtime.node_end import NodeEnd

_BODY_BYTES: Final = 1 << 30
_MAX_NODES: Final = 256
_GARBAGE: Final = b"\xff" * 64
_STOPPED: Final = "stopped: ended by itself after it was asked to stop"
_ISOLATION: Final = Isolation(level="none", missing=("nodes are threads of the server",))

# A process would end alone, whatever its program raised; here it is these, and the rest is a bug to see.
_START_ERRORS: Final = (
    NeuralError,
    ArithmeticError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

T = TypeVar("T")
ServiceFactory = Callable[[NodeSpec], Service]


class InprocNode(NodeEnd):
    """One service behind the wire's two ends."""

    def __init__(
        self,
        spec: NodeSpec,
        factory: ServiceFactory,
        faults: FaultPlan,
        threads: anyio.CapacityLimiter,
    ) -> None:
        limits = FrameLimits(body_bytes=_BODY_BYTES)
        super().__init__(spec, limits)
        self.isolation = _ISOLATION
        self.runtime_version = "inproc"
        self._factory = factory
        self._faults = faults
        self._threads = threads
        self._limits = limits
        self._decoder: Decoder[Request] = Decoder(REQUEST_HEADERS, limits, tolerant=True)
        self._inbox: deque[tuple[Frame[Request] | Unreadable, PlannedFault | None]] = deque()
        self._arrived = anyio.Event()
        self._dying = anyio.Event()
        self._frozen = False
        self._cause: str | None = None
        self._violation: NeuralError | None = None
        self._responder: Responder | None = None

    async def run(self) -> None:
        """Serve until told to stop, killed, or hit by a fault."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve)
            await self._dying.wait()
            tasks.cancel_scope.cancel()
        self._settle(_exit(self._cause), self._violation)

    async def _serve(self) -> None:
        try:
            service = await self._in_thread(self._factory, self.spec)
        except _START_ERRORS as failure:
            self._kill(f"node_bug: {type(failure).__name__}: {failure}")
            return
        self._responder = Responder(service, self.spec.incarnation, self._limits)
        self._reply(encode(0, self.spec.incarnation, _ready(self.spec)))
        while not self._frozen:
            await self._arrived.wait()
            if self._inbox:
                self._responder.cancelled = False
                await self._in_thread(self._answer_next, self._responder)
            else:
                self._arrived = anyio.Event()

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await anyio.to_thread.run_sync(
            function, *arguments, limiter=self._threads, abandon_on_cancel=True
        )

    def _answer_next(self, responder: Responder) -> None:
        """In the worker thread: answer one frame, or let its fault happen."""
        frame, fault = self._inbox.popleft()
        if fault is not None and fault.fault != "slow":
            anyio.from_thread.run_sync(self._fail, fault)
            return
        if fault is not None:
            anyio.from_thread.run(anyio.sleep, fault.delay_s)
        reply = responder.answer(frame, self._poll, _refuse)
        anyio.from_thread.run_sync(self._reply, reply)
        if responder.closing:
            anyio.from_thread.run_sync(self._kill, _STOPPED)

    def _poll(self) -> bool:
        """In the worker thread, between steps of long work; as `node.loop.NodeLoop.poll`."""
        responder = self._responder
        while responder is not None and not responder.cancelled and not self._ending:
            if not self._inbox:
                return False
            self._answer_next(responder)
        return True

    @property
    def _ending(self) -> bool:
        return self._frozen or self._dying.is_set()

    def _fail(self, fault: PlannedFault) -> None:
        """On the event loop: what a planned fault looks like from outside."""
        match fault.fault:
            case "kill":
                self._kill("killed: a planned fault")
            case "garbage":
                self._reply([_GARBAGE])
            case "freeze":
                self._frozen = True

    def _reply(self, buffers: list[bytes | memoryview]) -> None:
        """On the event loop: what the node says arrives at the engine's end."""
        if self._ending:
            return
        try:
            for buffer in buffers:
                self._conversation.receive(buffer)
        except NeuralError as violation:
            self._violation = violation
            self._kill(f"protocol_violation: {violation}")

    @override
    def _transmit(self, outgoing: Outgoing) -> None:
        for buffer in outgoing.buffers:
            self.bytes_sent += len(buffer)
            for frame in self._decoder.feed(buffer):
                kind = frame.message.kind if isinstance(frame, Frame) else "unreadable"
                self._inbox.append((frame, self._faults.meet(self.spec.slot, kind)))
        self._arrived.set()

    @override
    def _kill(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
        self._dying.set()


class InprocRuntime:
    """Starts services as nodes; use it as a context manager, as `local.LocalRuntime`.

    Args:
        service_factory: Makes the service of a node; what it raises is a failed start.
        faults: What goes wrong; nothing without it.
    """

    name = "inproc"
    capabilities: frozenset[str] = frozenset()

    def __init__(self, service_factory: ServiceFactory, faults: FaultPlan | None = None) -> None:
        self._factory = service_factory
        self._faults = faults or FaultPlan()
        self._tasks: TaskGroup | None = None
        self._nodes: list[InprocNode] = []
        self._threads: anyio.CapacityLimiter | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        self._threads = anyio.CapacityLimiter(_MAX_NODES)
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        await self.aclose()
        if self._tasks is None:
            return None
        return await self._tasks.__aexit__(kind, failure, trace)

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> InprocNode:
        """Make the service and hear it say ready; see `base.NodeRuntime`."""
        if self._closed or self._tasks is None or self._threads is None:
            raise RuntimeUnavailable("the runtime is not open")
        self._nodes = [node for node in self._nodes if not node.gone]
        node = InprocNode(spec, self._factory, self._faults, self._threads)
        self._nodes.append(node)
        self._tasks.start_soon(_to_its_end, node)
        try:
            with anyio.fail_after(ready_timeout_s):
                await node.ready()
        except (TimeoutError, NodeDied, ProtocolViolation) as failure:
            exit_ = await node.stop(grace_s=0)
            raise NodeStartFailed(
                f"node {spec.slot} did not start: {exit_.sentence}",
                details={"slot": spec.slot, "reason": exit_.reason},
            ) from failure
        except BaseException:
            await node.stop(grace_s=0)
            raise
        return node

    def share(self, key: str, arrays: Arrays) -> Region:
        """Copy arrays once; see `base.NodeRuntime`."""
        return CarriedRegion(key, arrays)

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Make a zeroed buffer of (name, dtype, shape) arrays."""
        return CarriedBuffer(key, layout)

    def view(self, buffer: Buffer) -> Region:
        """Let a neighbour of a buffer's writer read it; see `base.NodeRuntime`."""
        return view_of(buffer)

    def isolation_preview(self) -> Isolation:
        """None, ever."""
        return _ISOLATION

    async def aclose(self) -> None:
        """Stop every node. Idempotent; runs to its end when cancelled."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for node in self._nodes:
                    stopping.start_soon(_stop, node)


async def _to_its_end(node: InprocNode) -> None:
    with anyio.CancelScope(shield=True):
        await node.run()


async def _stop(node: InprocNode) -> None:
    await node.stop()


def _ready(spec: NodeSpec) -> Ready:
    return Ready(
        node_id=spec.node_id, incarnation=spec.incarnation, runtime="inproc", steps={}, probes={}
    )


def _refuse(grant: Grant) -> dict[str, NDArray[Any]]:
    raise ValueError(f"region {grant.key!r} came without its arrays")


def _exit(cause: str | None) -> NodeExit:
    reason, _, sentence = (cause or "killed: cancelled").partition(": ")
    return NodeExit(
        reason=reason,
        sentence=sentence,
        returncode=None,
        signal=None,
        stderr_tail="",
        max_rss_bytes=None,
        cpu_s=None,
    )
