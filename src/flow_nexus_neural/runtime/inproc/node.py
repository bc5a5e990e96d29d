"""One service as a node in this process: the same frames, the same responder, planned faults."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from numpy.typing import NDArray
from typing_extensions import override

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.protocol.codec import (
    REPLY_HEADERS,
    REQUEST_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Unreadable,
    encode,
)
from flow_nexus_neural.protocol.dispatch import Responder, Service
from flow_nexus_neural.protocol.messages import Grant, Ready, Reply, Request
from flow_nexus_neural.runtime.base import Isolation, NodeExit, NodeSpec
from flow_nexus_neural.runtime.connection.conversation import Outgoing
from flow_nexus_neural.runtime.connection.node_end import NodeEnd
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan, PlannedFault

_LIMITS: Final = FrameLimits(body_bytes=1 << 30)
_MAX_NODES: Final = 256
_GARBAGE: Final = b"\xff" * 64
_STOPPED: Final = "stopped: ended by itself after it was asked to stop"

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
OnEvent = Callable[[str, str, str], None]
"""Called with (slot, direction, kind): direction is `to_node`, `from_node` or `end`."""


class Worker(Protocol):
    """Where the services of nodes run.

    Attributes:
        can_wait: Whether a service may be made to wait in the middle of its work.
        isolation: Of a node that runs there.
    """

    can_wait: bool
    isolation: Isolation

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """From the event loop: run a service's part and wait for it."""
        ...

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """From within `work`: run something on the event loop."""
        ...

    def wait(self, delay_s: float) -> None:
        """From within `work`, where `can_wait`: let the service sleep."""
        ...


class ThreadWorker:
    """Each node works in a thread, so that quick requests are answered while it trains."""

    can_wait = True
    isolation = Isolation(level="none", missing=("nodes are threads of the server",))

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(_MAX_NODES)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run it in a thread, which is left alone when the node is killed meanwhile."""
        return await anyio.to_thread.run_sync(
            function, *arguments, limiter=self._threads, abandon_on_cancel=True
        )

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run it on the event loop while this thread waits."""
        return anyio.from_thread.run_sync(function, *arguments)

    def wait(self, delay_s: float) -> None:
        """Let this thread wait by the event loop's clock."""
        anyio.from_thread.run(anyio.sleep, delay_s)


class InlineWorker:
    """Services run on the event loop itself: no threads, and no order that a machine's load decides."""

    can_wait = False
    isolation = Isolation(level="none", missing=("nodes are objects of the server",))

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call it; nothing else runs meanwhile."""
        return function(*arguments)

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call it: this is the event loop."""
        return function(*arguments)

    def wait(self, delay_s: float) -> None:
        """Cannot be: a call cannot give the event loop back before it returns."""
        raise NotImplementedError(f"a service on the event loop cannot wait {delay_s} s")


class InprocNode(NodeEnd):
    """One service behind the wire's two ends.

    Args:
        spec: What it is started with.
        factory: Makes its service.
        faults: What goes wrong.
        worker: Where the service runs.
        on_event: Hears of every message and of the end, on the event loop.
    """

    def __init__(
        self,
        spec: NodeSpec,
        factory: ServiceFactory,
        faults: FaultPlan,
        worker: Worker,
        on_event: OnEvent | None = None,
    ) -> None:
        super().__init__(spec, _LIMITS)
        self.isolation = worker.isolation
        self.runtime_version = "inproc"
        self._factory = factory
        self._faults = faults
        self._worker = worker
        self._on_event = on_event
        self._requests: Decoder[Request] = Decoder(REQUEST_HEADERS, _LIMITS, tolerant=True)
        self._replies: Decoder[Reply] = Decoder(REPLY_HEADERS, _LIMITS, tolerant=True)
        self._inbox: deque[tuple[Frame[Request] | Unreadable, PlannedFault | None]] = deque()
        self._arrived = anyio.Event()
        self._dying = anyio.Event()
        self._frozen = False
        self._cause: str | None = None
        self._violation: NeuralError | None = None
        self._responder: Responder | None = None

    def kill(self, cause: str = "killed: from outside") -> None:
        """End it at once, as the system or a lost runtime might; cause is `reason: sentence`."""
        self._kill(cause)

    async def run(self) -> None:
        """Serve until told to stop, killed, or hit by a fault."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve)
            await self._dying.wait()
            tasks.cancel_scope.cancel()
        exit_ = _exit(self._cause)
        self._note("end", exit_.reason)
        self._settle(exit_, self._violation)

    async def _serve(self) -> None:
        try:
            service = await self._worker.work(self._factory, self.spec)
        except _START_ERRORS as failure:
            self._kill(f"node_bug: {type(failure).__name__}: {failure}")
            return
        self._responder = Responder(service, self.spec.incarnation, _LIMITS)
        self._reply(encode(0, self.spec.incarnation, _ready(self.spec)))
        while not self._frozen:
            await self._arrived.wait()
            if not self._inbox:
                self._arrived = anyio.Event()
                continue
            self._responder.cancelled = False
            frame, fault = self._inbox.popleft()
            if fault is not None and fault.fault == "slow":
                await anyio.sleep(fault.delay_s)
            await self._worker.work(self._answer, self._responder, frame, fault)

    def _answer(
        self, responder: Responder, frame: Frame[Request] | Unreadable, fault: PlannedFault | None
    ) -> None:
        """Where the service runs: answer one frame, or let its fault happen."""
        if fault is not None and fault.fault != "slow":
            self._worker.on_loop(self._fail, fault)
            return
        reply = responder.answer(frame, self._poll, _refuse)
        self._worker.on_loop(self._reply, reply)
        if responder.closing:
            self._worker.on_loop(self._kill, _STOPPED)

    def _poll(self) -> bool:
        """Where the service runs, between steps of long work; as `node.loop.NodeLoop.poll`.

        On the event loop nothing can arrive meanwhile: only what has arrived before is answered, up to a
        request with a planned delay, which then waits for the end of the long work.
        """
        responder = self._responder
        while responder is not None and not responder.cancelled and not self._ending:
            if not self._inbox:
                return False
            _, fault = self._inbox[0]
            slow = fault is not None and fault.fault == "slow"
            if slow and not self._worker.can_wait:
                return False
            frame, fault = self._inbox.popleft()
            if fault is not None and slow:
                self._worker.wait(fault.delay_s)
            self._answer(responder, frame, fault)
        return True

    @property
    def _ending(self) -> bool:
        return self._frozen or self._dying.is_set()

    def _fail(self, fault: PlannedFault) -> None:
        """On the event loop: what a planned fault looks like from outside."""
        match fault.fault:
            case "kill":
                self._kill("killed: a planned fault")
            case "lose":
                self._kill("runtime_lost: a planned fault")
            case "garbage":
                self._reply([_GARBAGE])
            case "freeze":
                self._frozen = True
            case "ignore" | "slow":  # an ignored request is done with; a slow one was answered late
                return

    def _reply(self, buffers: list[bytes | memoryview]) -> None:
        """On the event loop: what the node says arrives at the engine's end."""
        if self._ending:
            return
        if self._on_event is not None:
            self._note("from_node", self._kind_of(buffers))
        try:
            for buffer in buffers:
                self._conversation.receive(buffer)
        except NeuralError as violation:
            self._violation = violation
            self._kill(f"protocol_violation: {violation}")

    def _kind_of(self, buffers: list[bytes | memoryview]) -> str:
        if buffers == [_GARBAGE]:
            return "garbage"
        try:
            (frame,) = [frame for buffer in buffers for frame in self._replies.feed(buffer)]
        except NeuralError:  # what follows for the node is decided where it is received
            return "unreadable"
        return frame.message.kind if isinstance(frame, Frame) else "unreadable"

    def _note(self, direction: str, kind: str) -> None:
        if self._on_event is not None:
            self._on_event(self.spec.slot, direction, kind)

    @override
    def _transmit(self, outgoing: Outgoing) -> None:
        for buffer in outgoing.buffers:
            self.bytes_sent += len(buffer)
            for frame in self._requests.feed(buffer):
                kind = frame.message.kind if isinstance(frame, Frame) else "unreadable"
                self._note("to_node", kind)
                self._inbox.append((frame, self._faults.meet(self.spec.slot, kind)))
        self._arrived.set()

    @override
    def _kill(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
        self._dying.set()


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
