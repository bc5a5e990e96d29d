"""The calls to one node that are under way: their numbers, their replies, and how they end.

There is no transport here: frames to send leave through a function, bytes received come in through `receive`.
Only `call` and `ready` wait. A cancellation cannot leave a call half done: the frame is queued before the
wait begins, and a caller who gives up only marks the call, so that its late reply is recognised and dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from numpy.typing import NDArray

from flow_nexus_neural.errors import (
    Fenced,
    NeuralError,
    NodeDied,
    NodeFault,
    NodeUnavailable,
    ProtocolViolation,
)
from flow_nexus_neural.protocol.codec import (
    MAX_HEADER_BYTES,
    REPLY_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Header,
    encode,
)
from flow_nexus_neural.protocol.contract import AnsweredBy, NodeRecord, R
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.protocol.messages import Failed, Ready, Reply
from flow_nexus_neural.protocol.node_words import own_words, plain, quoted
from flow_nexus_neural.runtime.base import NodeExit, NodeSpec
from flow_nexus_neural.runtime.connection.awaited import READY, Awaited

MAX_FAULT_WORDS = 300
MAX_FAULT_TYPE = 80
START_CALL = 0
"""The call id of the answer to a start."""


@dataclass(slots=True, eq=False)
class Call:
    """One request under way."""

    awaited: Awaited
    answered: anyio.Event = field(default_factory=anyio.Event)
    reply: Reply | None = None
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    failure: NeuralError | None = None
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An encoded frame, and the descriptor that rides on its first byte."""

    buffers: list[bytes | memoryview]
    descriptor: int | None


class Conversation:
    """Calls to one node and their replies; also the gate of its decoder.

    Args:
        spec: Whose incarnation every frame must carry.
        send: Queues a frame; must not block and must keep the order.
        limits: Longest request frames.
    """

    def __init__(
        self, spec: NodeSpec, send: Callable[[Outgoing], None], limits: FrameLimits
    ) -> None:
        self.bytes_received = 0
        self._spec = spec
        self._send = send
        self._limits = limits
        self._decoder: Decoder[Reply] = Decoder(REPLY_HEADERS, self)
        self._record = NodeRecord()
        self._start = Call(READY)
        self._calls: dict[int, Call] = {START_CALL: self._start}
        self._last_id = START_CALL
        self._exit: NodeExit | None = None

    @property
    def waiting(self) -> int:
        """Calls without an answer, given up or not."""
        return len(self._calls)

    async def ready(self) -> Ready:
        """The answer to the start.

        Raises:
            NodeDied: The node ended before it was ready.
            ProtocolViolation: It answered anything else.
        """
        call = self._start
        await call.answered.wait()
        if call.failure is not None:
            raise call.failure
        if not isinstance(call.reply, Ready):
            raise ProtocolViolation(f"node {self._spec.slot} did not report ready")
        return call.reply

    async def call(
        self,
        request: AnsweredBy[R],
        arrays: Arrays | None = None,
        descriptor: int | None = None,
    ) -> tuple[R, dict[str, NDArray[Any]]]:
        """As `NodeHandle.call`; a descriptor is duplicated by the send and stays the caller's."""
        call = self._begin(request, arrays or {}, descriptor)
        try:
            await call.answered.wait()
        except BaseException:  # a cancelled caller: the late reply is dropped
            call.given_up = True
            raise
        if call.failure is not None:
            raise call.failure
        reply = call.reply
        if isinstance(reply, Failed):
            raise self._fault(reply)
        if not isinstance(reply, request.reply_class()):
            raise ProtocolViolation(f"node {self._spec.slot} did not answer {request.kind}")
        return reply, call.arrays

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes from the node; each reply is settled before the next one is admitted.

        Raises:
            ProtocolViolation: The node must be killed.
            Fenced: It spoke for another incarnation, and must be killed too.
        """
        self.bytes_received += len(data)
        for frame in self._decoder.frames(data):
            if isinstance(frame, Frame):
                self._settle(frame)

    def end(self, exit_: NodeExit, violation: NeuralError | None = None) -> None:
        """Fail every call that still waits: the node is gone."""
        self._exit = exit_
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.failure = self._death(exit_, violation)
            call.answered.set()

    def admit_lengths(self, header_bytes: int, body_bytes: int) -> None:
        """Refuse what is longer than every answer that is awaited."""
        longest = max((call.awaited.body_bytes for call in self._calls.values()), default=0)
        if not self._calls:
            raise ProtocolViolation(f"node {self._spec.slot} spoke without being asked")
        if header_bytes > MAX_HEADER_BYTES or body_bytes > longest:
            raise ProtocolViolation(
                f"node {self._spec.slot} announces {header_bytes} header bytes and {body_bytes}"
                f" body bytes, where {MAX_HEADER_BYTES} and {longest} are awaited at most"
            )

    def admit_header(self, header: Header[Reply]) -> None:
        """Refuse another incarnation, a number that is not under way, and any reply but the right one."""
        if header.inc != self._spec.incarnation:
            raise Fenced(
                f"node {self._spec.slot} answers for incarnation {header.inc},"
                f" not {self._spec.incarnation}",
                details={"slot": self._spec.slot},
            )
        call = self._calls.get(header.id)
        if call is None:
            raise ProtocolViolation(f"node {self._spec.slot} answers call {header.id}, not asked")
        call.awaited.check(header.msg, header.arrays)
        if isinstance(header.msg, Ready) and header.msg.node_id != self._spec.node_id:
            name = quoted(header.msg.node_id, MAX_FAULT_TYPE)
            raise ProtocolViolation(f"node {self._spec.node_id} answers under the name {name}")

    def _death(self, exit_: NodeExit, violation: NeuralError | None) -> NeuralError:
        """An error of its own for every call: one raised twice would hold the frames of both callers."""
        if violation is not None:
            details = {**violation.details, "slot": self._spec.slot, "reason": exit_.reason}
            name = f"node {self._spec.slot}"
            said = violation.message
            return type(violation)(
                said
                if said.startswith(name)
                else f"{name} broke the protocol and was killed: {said}",
                hint=violation.hint or "call neural_node_deploy to replace it",
                details=details,
            )
        return NodeDied(
            f"node {self._spec.slot} is gone: {exit_.sentence}",
            hint="the request may have run; call neural_cluster_status",
            details={"slot": self._spec.slot, "reason": exit_.reason},
        )

    def _begin(self, request: AnsweredBy[Any], arrays: Arrays, descriptor: int | None) -> Call:
        if self._exit is not None:
            raise NodeUnavailable(
                f"node {self._spec.slot} is gone: {self._exit.sentence}",
                hint="call neural_cluster_status; a failed node is replaced by neural_node_deploy",
                details={"slot": self._spec.slot, "reason": self._exit.reason},
            )
        buffers = encode(
            self._last_id + 1, self._spec.incarnation, request, arrays, limits=self._limits
        )
        call = Call(Awaited.to(request, arrays, self._record))
        request.note_sent(self._record, arrays_in_frame=descriptor is None)
        self._last_id += 1
        self._calls[self._last_id] = call
        self._send(Outgoing(buffers, descriptor))
        return call

    def _settle(self, frame: Frame[Reply]) -> None:
        call = self._calls.pop(frame.call_id)
        if call.awaited.request is not None:
            call.awaited.request.note_answered(self._record, frame.message)
        if call.given_up:
            return
        call.reply, call.arrays = frame.message, frame.arrays
        call.answered.set()

    def _fault(self, reply: Failed) -> NeuralError:
        slot, kind = self._spec.slot, plain(reply.type, MAX_FAULT_TYPE)
        if kind == "fenced":
            why = own_words(reply.message, MAX_FAULT_WORDS)
            return Fenced(f"node {slot} refused, {why}", details={"slot": slot})
        why = own_words(f"{reply.type[:MAX_FAULT_TYPE]}: {reply.message}", MAX_FAULT_WORDS)
        return NodeFault(
            f"node {slot} could not do it, {why}", details={"slot": slot, "type": kind}
        )
