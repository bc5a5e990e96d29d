"""How the node's end of the wire answers: grants, fencing and shutdown around a service. No I/O.

The responder answers the messages of `messages.TransportRequest` itself and hands all others to the service.
Every place where a node lives - a confined process, or a thread for simulation - uses this one responder, so
that they differ in transport and in nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray
from pydantic import BaseModel

from flow_nexus_neural.errors import LimitExceeded
from flow_nexus_neural.protocol.codec import DTYPES, Frame, FrameLimits, Unreadable, encode
from flow_nexus_neural.protocol.messages import (
    Cancel,
    Done,
    Failed,
    Grant,
    Reply,
    Request,
    Revoke,
    ServiceRequest,
    Shutdown,
)

Arrays = Mapping[str, NDArray[Any]]


class Service(Protocol):
    """What a node does, apart from how requests reach it."""

    def handle(
        self, request: ServiceRequest, arrays: Arrays, poll: Callable[[], bool]
    ) -> tuple[Reply, dict[str, NDArray[Any]]]:
        """Answer a request; never raises.

        Args:
            request: What is asked.
            arrays: What came with it.
            poll: To be called between the steps of a long request: others are answered meanwhile by calling
                `handle` again, and True asks to end the work with `Failed` of type `cancelled`.
        """
        ...

    def attach(self, key: str, arrays: Arrays, *, writable: bool) -> None:
        """Hold a region; replaces one of that key."""
        ...

    def detach(self, keys: Sequence[str]) -> None:
        """Forget regions; keys that are not held are ignored."""
        ...


class Responder:
    """Answers frames for one incarnation of a slot.

    Attributes:
        closing: Whether a Shutdown was accepted: the node answers nothing more and exits.
        cancelled: Whether the running long request is to end. Reset by the caller before the next request.
    """

    def __init__(
        self, service: Service, incarnation: int, limits: FrameLimits | None = None
    ) -> None:
        self.closing = False
        self.cancelled = False
        self._service = service
        self._incarnation = incarnation
        self._limits = limits or FrameLimits()
        self._carried: dict[str, Arrays] = {}

    def answer(
        self,
        frame: Frame[Request] | Unreadable,
        poll: Callable[[], bool],
        open_region: Callable[[Grant], Arrays],
    ) -> list[bytes | memoryview]:
        """The encoded reply to a frame.

        Args:
            frame: What came.
            poll: Handed to the service.
            open_region: Gives the arrays of a Grant whose frame does not carry them.
        """
        reply, arrays = self._reply(frame, poll, open_region)
        try:
            return self._encode(frame, reply, arrays)
        except (LimitExceeded, ValueError) as failure:
            return self._encode(frame, failed(failure), {})

    def _encode(
        self, frame: Frame[Request] | Unreadable, reply: BaseModel, arrays: Arrays
    ) -> list[bytes | memoryview]:
        return encode(frame.call_id, self._incarnation, reply, arrays, limits=self._limits)

    def _reply(
        self,
        frame: Frame[Request] | Unreadable,
        poll: Callable[[], bool],
        open_region: Callable[[Grant], Arrays],
    ) -> tuple[Reply, Arrays]:
        if frame.incarnation != self._incarnation:
            message = f"incarnation {frame.incarnation} asked incarnation {self._incarnation}"
            return Failed(type="fenced", message=message), {}
        if isinstance(frame, Unreadable):
            return Failed(type="unreadable", message=frame.reason[:2000]), {}
        match frame.message:
            case Grant() as grant:
                return self._grant(grant, frame.arrays, open_region), {}
            case Revoke(keys=keys):
                return self._revoke(keys), {}
            case Shutdown():
                self.closing = True
                return Done(), {}
            case request:
                return self._serve(request, frame.arrays, poll)

    def _serve(
        self, request: ServiceRequest, arrays: Arrays, poll: Callable[[], bool]
    ) -> tuple[Reply, Arrays]:
        if isinstance(request, Cancel):
            self.cancelled = True
        reply, brought = self._service.handle(request, arrays, poll)
        filled = request.region_filled()
        if filled is not None and isinstance(reply, request.reply_class()):
            return reply, self._carried.get(filled, brought)
        return reply, brought

    def _revoke(self, keys: Sequence[str]) -> Done:
        self._service.detach(keys)
        for key in keys:
            self._carried.pop(key, None)
        return Done()

    def _grant(
        self, grant: Grant, carried: Arrays, open_region: Callable[[Grant], Arrays]
    ) -> Done | Failed:
        self._carried.pop(grant.key, None)
        try:
            arrays = _as_granted(grant, carried) if carried else open_region(grant)
        except (OSError, ValueError, MemoryError) as failure:
            return failed(failure)
        self._service.attach(grant.key, arrays, writable=grant.writable)
        if carried and grant.writable:
            self._carried[grant.key] = arrays
        return Done()


def failed(failure: Exception) -> Failed:
    """The reply that an exception becomes."""
    return Failed(type=type(failure).__name__[:80], message=str(failure)[:2000])


def _as_granted(grant: Grant, carried: Arrays) -> Arrays:
    promised = {array.name: (DTYPES[array.dtype], array.shape) for array in grant.arrays}
    if promised != {name: (array.dtype, array.shape) for name, array in carried.items()}:
        raise ValueError(f"region {grant.key!r} came with other arrays than its grant says")
    if not grant.writable:
        for array in carried.values():
            array.flags.writeable = False
    return carried
