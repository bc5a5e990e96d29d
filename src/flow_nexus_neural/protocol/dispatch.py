"""The node's end of the wire: grants, the check of incarnations, and shutdown, around a service. No I/O.

The responder answers the messages of `messages.TransportRequest` itself and passes all others to the service.
All runtimes, with nodes in confined processes or in threads for simulation, use this one responder, so that
they differ only in transport.
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
    Host,
    Reply,
    Request,
    Revoke,
    ServiceRequest,
    Shutdown,
)

Arrays = Mapping[str, NDArray[Any]]


class Service(Protocol):
    """The operations of a node, without the transport of requests."""

    def handle(
        self, request: ServiceRequest, arrays: Arrays, poll: Callable[[], bool]
    ) -> tuple[Reply, dict[str, NDArray[Any]]]:
        """Answer a request; never raises.

        Args:
            request: The request.
            arrays: The arrays of its frame.
            poll: To be called between the steps of a long request. It answers other requests by calling
                `handle` again; True means: end the work with `Failed` of type `cancelled`.
        """
        ...

    def attach(self, key: str, arrays: Arrays, *, writable: bool) -> None:
        """Store a region; replaces one of that key."""
        ...

    def detach(self, keys: Sequence[str]) -> None:
        """Drop regions; unknown keys are ignored."""
        ...


class Responder:
    """Answers frames for one incarnation of a slot.

    Args:
        service: The node's.
        incarnation: Of its slot.
        limits: Longest frames.
        host: Begins to serve another node in this process; None where that is refused.

    Attributes:
        closing: Whether a Shutdown was accepted: the node answers no further request and exits.
        cancelled: Whether the running long request must end. The caller resets it before the next request.
    """

    def __init__(
        self,
        service: Service,
        incarnation: int,
        limits: FrameLimits | None = None,
        host: Callable[[Host], None] | None = None,
    ) -> None:
        self.closing = False
        self.cancelled = False
        self._service = service
        self._incarnation = incarnation
        self._limits = limits or FrameLimits()
        self._host = host
        self._carried: dict[str, Arrays] = {}

    def answer(
        self,
        frame: Frame[Request] | Unreadable,
        poll: Callable[[], bool],
        open_region: Callable[[Grant], Arrays],
    ) -> list[bytes | memoryview]:
        """Answer a frame; return the encoded reply.

        Args:
            frame: The received frame.
            poll: Passed to the service.
            open_region: Returns the arrays of a Grant whose frame does not carry them.
        """
        reply, arrays = self._reply(frame, poll, open_region)
        return self.encoded(frame, reply, arrays)

    def encoded(
        self, frame: Frame[Request] | Unreadable, reply: BaseModel, arrays: Arrays
    ) -> list[bytes | memoryview]:
        """The reply to a frame as it goes out; one that cannot be encoded becomes a failure."""
        try:
            return self._encode(frame, reply, arrays)
        except (LimitExceeded, ValueError) as failure:
            return self._encode(frame, failed(failure), {})

    def _encode(
        self, frame: Frame[Request] | Unreadable, reply: BaseModel, arrays: Arrays
    ) -> list[bytes | memoryview]:
        return encode(frame.call_id, self._incarnation, reply, arrays, limits=self._limits)

    def _reply(  # noqa: PLR0911 - one case a message
        self,
        frame: Frame[Request] | Unreadable,
        poll: Callable[[], bool],
        open_region: Callable[[Grant], Arrays],
    ) -> tuple[Reply, Arrays]:
        # First of all: a request meant for an earlier process of this slot must have no effect here.
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
            case Host() as order:
                return self._hosted(order), {}
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
        # Without shared memory the engine cannot read the filled region: the reply carries its content.
        filled = request.region_filled()
        if filled is not None and isinstance(reply, request.reply_class()):
            return reply, self._carried.get(filled, brought)
        return reply, brought

    def _hosted(self, order: Host) -> Done | Failed:
        if self._host is None:
            return Failed(type="no_host", message="this process serves one node and hosts no other")
        try:
            self._host(order)
        except (OSError, ValueError) as failure:
            return failed(failure)
        return Done()

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
    """Convert an exception into a reply."""
    return Failed(type=type(failure).__name__[:80], message=str(failure)[:2000])


def _as_granted(grant: Grant, carried: Arrays) -> Arrays:
    promised = {array.name: (DTYPES[array.dtype], array.shape) for array in grant.arrays}
    if promised != {name: (array.dtype, array.shape) for name, array in carried.items()}:
        raise ValueError(f"region {grant.key!r} came with other arrays than its grant says")
    if not grant.writable:  # as in shared memory, which is mapped read-only
        for array in carried.values():
            array.flags.writeable = False
    return carried
