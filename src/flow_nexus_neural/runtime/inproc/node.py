"""A node as an object in this process: same frames and responder as a process, plus planned faults."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
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
from flow_nexus_neural.runtime.event_loop import answered
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan, PlannedFault

_LIMITS: Final = FrameLimits(body_bytes=1 << 30)
_MAX_NODES: Final = 256
_GARBAGE: Final = b"\xff" * 64
DELAYS: Final = ("slow", "drag")
_STOPPED: Final = "stopped: ended by itself after it was asked to stop"

# Any exception would end a node's own process. Here only these count as a failed start of the node; others
# are bugs of this program and must not be hidden.
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
    """Executes the services of nodes.

    Attributes:
        can_wait: Whether a service can sleep in the middle of its work.
        isolation: Isolation of a node that runs there.
    """

    can_wait: bool
    isolation: Isolation

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Called on the event loop: run a function of a service and wait for it."""
        ...

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Called within `work`: run a function on the event loop."""
        ...

    def wait(self, delay_s: float) -> None:
        """Called within `work` if `can_wait`: let the service sleep."""
        ...


class ThreadWorker:
    """Each node works in a thread, so that quick requests are answered while it trains."""

    can_wait = True
    isolation = Isolation(level="none", missing=("nodes are threads of the server",))

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(_MAX_NODES)
        self._event_loop: anyio.lowlevel.EventLoopToken

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run the function in a thread; if the node is killed meanwhile, the thread is abandoned."""
        self._event_loop = anyio.lowlevel.current_token()
        return await anyio.to_thread.run_sync(
            function, *arguments, limiter=self._threads, abandon_on_cancel=True
        )

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run the function on the event loop while this thread waits."""
        return answered(self._event_loop, function, *arguments)

    def wait(self, delay_s: float) -> None:
        """Let this thread sleep by the event loop's clock."""
        anyio.from_thread.run(anyio.sleep, delay_s)


class InlineWorker:
    """Runs services on the event loop itself: no threads, so the order of events does not depend on load."""

    can_wait = False
    isolation = Isolation(level="none", missing=("nodes are objects of the server",))

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function; nothing else runs meanwhile."""
        return function(*arguments)

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function: this is the event loop."""
        return function(*arguments)

    def wait(self, delay_s: float) -> None:
        """Not possible: a synchronous call blocks the event loop until it returns."""
        raise NotImplementedError(f"a service on the event loop cannot wait {delay_s} s")


class InprocNode(NodeEnd):
    """One service with both ends of its connection.

    Args:
        spec: Its start parameters.
        factory: Creates its service.
        faults: Planned faults.
        worker: Executes the service.
        on_event: Called for every message and for the end, on the event loop.
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
        """End the node at once, as the system or a lost runtime would; cause is `reason: sentence`."""
        self._kill(cause)

    async def run(self) -> None:
        """Serve until Shutdown, a kill, or a fault that ends the node."""
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
            if fault is not None and fault.fault == "drag":
                await self._drag(self._responder, fault.delay_s)
            await self._worker.work(self._answer, self._responder, frame, fault)

    async def _drag(self, responder: Responder, delay_s: float) -> None:
        """Let time pass before a long request; what arrives meanwhile is answered, and a Cancel ends it."""
        until_s = anyio.current_time() + delay_s
        while anyio.current_time() < until_s and not responder.cancelled and not self._ending:
            if self._inbox:
                await self._worker.work(self._answer, responder, *self._inbox.popleft())
                continue
            self._arrived = anyio.Event()
            with anyio.CancelScope(deadline=until_s):
                await self._arrived.wait()

    def _answer(
        self, responder: Responder, frame: Frame[Request] | Unreadable, fault: PlannedFault | None
    ) -> None:
        """In the worker: answer one frame, or execute its fault."""
        if fault is not None and fault.fault not in DELAYS:
            self._worker.on_loop(self._fail, fault)
            return
        reply = responder.answer(frame, self._poll, _refuse)
        self._worker.on_loop(self._reply, reply)
        if responder.closing:
            self._worker.on_loop(self._kill, _STOPPED)

    def _poll(self) -> bool:
        """In the worker, between steps of a long request; as `node.loop.NodeLoop.poll`.

        Inline, nothing can arrive meanwhile: only requests that arrived before are answered, up to one with a
        planned delay, which must wait for the end of the long request.
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
        """On the event loop: produce the effect of a planned fault."""
        match fault.fault:
            case "kill":
                self._kill("killed: a planned fault")
            case "lose":
                self._kill("runtime_lost: a planned fault")
            case "garbage":
                self._reply([_GARBAGE])
            case "freeze":
                self._frozen = True
            case (
                "ignore" | "slow" | "drag"
            ):  # nothing to do: no reply, or the delay has already passed
                return

    def _reply(self, buffers: list[bytes | memoryview]) -> None:
        """On the event loop: deliver the node's bytes to the engine's end."""
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
        except NeuralError:  # only for the event log; `_reply` handles the violation
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
