"""The message loop of a node's process, which has one thread: reads frames, sends replies.

While a long request runs, the service calls `poll` between its steps; requests that have arrived by then are
answered there, so a prediction waits for one step at most.

A process may host several nodes (`node.hosting`). Each has a socket, a service and an incarnation of its own,
and its frames are answered on that socket alone. One long request runs at a time in the whole process; those
of other nodes wait for its end, while short ones are answered between its steps. Orders to train that the
engine gives together wait for each other, and are trained together.

The allocator keeps freed memory for the next request. After a long request, whose reply is sent first, it is
given back to the system at once; after predictions only when none has come for a while, since each would else
pay for fresh pages.
"""

import select
import socket
from functools import partial
from typing import Final

from flow_nexus_neural.node.free_memory import CAN_RETURN_FREE_MEMORY, return_free_memory
from flow_nexus_neural.node.gathering import Gathering
from flow_nexus_neural.node.hosting import Hosting, LoopSeat, Member
from flow_nexus_neural.node.wire import HungUp, Wire
from flow_nexus_neural.protocol.codec import Frame, FrameLimits, Unreadable, encode
from flow_nexus_neural.protocol.dispatch import Responder, Service
from flow_nexus_neural.protocol.messages import (
    Cancel,
    Failed,
    Host,
    Predict,
    Ready,
    Reply,
    Request,
    Train,
)

_IDLE_MS: Final = 1000


class NodeLoop:
    """Serves nodes on connected stream sockets until the last is shut down or its engine hangs up.

    Args:
        connection: Blocking stream socket to the engine, of the first node.
        service: Answers its requests.
        incarnation: Requests for another incarnation are refused.
        limits: Longest frames; the body may be larger where grants carry their arrays.
        hosting: How further nodes are made; None for a process of one node.
    """

    wire_class: type[Wire] = Wire

    def __init__(
        self,
        connection: socket.socket,
        service: Service,
        incarnation: int,
        limits: FrameLimits,
        hosting: Hosting | None = None,
    ) -> None:
        self._limits, self._hosting = limits, hosting
        self._members: list[Member] = []
        self._running: list[Member] = []
        self._gathering = Gathering()
        self._answered: Member | None = None
        self._may_hold_free_memory = False
        self._first = self._add(connection, service, incarnation)

    def serve(self, ready: Ready) -> None:
        """Send Ready, then answer requests until the end.

        Raises:
            SystemExit: With status 0, after Shutdown or when the engine's end is closed.
        """
        self._send(self._first, encode(0, ready.incarnation, ready))
        while True:
            if not self._work():
                self._wait()

    def _add(self, connection: socket.socket, service: Service, incarnation: int) -> Member:
        host = None if self._hosting is None else self._host
        wire = self.wire_class(connection, self._limits)
        responder = Responder(service, incarnation, self._limits, host)
        member = Member(wire, service, responder, incarnation)
        self._members.append(member)
        return member

    def _host(self, order: Host) -> None:
        """Serve a further node on the socket that came with the order."""
        if self._hosting is None or self._answered is None:
            raise ValueError("this process hosts no other node")
        connection = self._hosting.adopt(self._answered.wire.take_descriptor())
        if len(self._members) >= self._hosting.most_members:
            connection.close()
            raise ValueError(
                f"this process hosts {self._hosting.most_members} nodes, the most it may"
            )
        member = self._add(connection, self._hosting.make_service(order), order.incarnation)
        self._send(member, encode(0, order.incarnation, self._hosting.ready_of(order)))

    def _work(self) -> bool:
        """Answer one frame, or do what has waited; False if there is nothing to do."""
        for member in self._members:
            if member.wire.frames:
                self._answer_next(member)
                return True
        together = self._gathering.due(self._members)
        if together:
            self._train_together(together)
            return True
        for member in self._members:
            if member.waiting is not None and not self._gathering.holds(member):
                self._answer(member, member.take_waiting())
                return True
        return False

    def _wait(self) -> None:
        """Return when a frame has arrived, or an order has waited long enough for others."""
        limit_ms = self._gathering.left_ms()
        if limit_ms is None and self._may_hold_free_memory and not self._readable(_IDLE_MS):
            self._return_free_memory()
        if limit_ms is None and len(self._members) == 1:
            self._receive(self._members[0], wait=True)
            return
        for member in self._readable(limit_ms):
            self._receive(member, wait=False)

    def _poll(self, running: Member) -> bool:
        """Answer what has arrived; True if the running request of a member must end."""
        self._answer_arrived()
        return running.ended

    def _answer_arrived(self) -> None:
        """Answer what has arrived for anybody.

        Frames after a Cancel stay queued until the cancelled request has ended: they may hold the next one.
        """
        received = True
        while received:
            for member in [one for one in self._members if not self._is_cancelled(one)]:
                while member.wire.frames and not self._is_cancelled(member):
                    self._answer_next(member)
            listening = [one for one in self._members if not self._is_cancelled(one)]
            if len(self._members) > 1:
                listening = [one for one in self._readable(0) if one in listening]
            received = sum(self._receive(member, wait=False) for member in listening) > 0

    def _is_cancelled(self, member: Member) -> bool:
        return member in self._running and member.ended

    def _answer_next(self, member: Member) -> None:
        frame = member.wire.next_frame()
        meant = isinstance(frame, Frame) and frame.incarnation == member.incarnation
        if not isinstance(frame, Frame) or not meant or not self._waits(member, frame.message):
            self._answer(member, frame)
        elif member.waiting is not None:
            told = f"{frame.message.kind} came while another request waited"
            self._reply(member, frame, Failed(type="busy", message=told))
        else:
            member.waiting = frame
            if isinstance(frame.message, Train) and frame.message.together is not None:
                self._gathering.arrived(frame.message.together)

    def _waits(self, member: Member, message: Request) -> bool:
        """Whether a request is not answered now."""
        if not message.is_long or self._hosting is None:
            return False
        gathered = isinstance(message, Train) and message.together is not None
        if member in self._running:
            return False  # its service says that it is busy
        return gathered or bool(self._running) or member.waiting is not None

    def _answer(self, member: Member, frame: Frame[Request] | Unreadable) -> None:
        message = frame.message if isinstance(frame, Frame) else None
        is_long = message is not None and message.is_long and member not in self._running
        if is_long:
            self._running.append(member)
            member.responder.cancelled = False
        before, self._answered = self._answered, member
        try:
            reply = member.responder.answer(
                frame, partial(self._poll, member), member.wire.open_region
            )
        finally:
            self._answered = before
            member.wire.done_with_descriptor()
            if is_long:
                self._running.remove(member)
        self._send(member, reply)
        if isinstance(message, Cancel) and member.waiting is not None:
            waiting = member.take_waiting()
            told = Failed(type="cancelled", message="it was asked to stop before it began")
            self._reply(member, waiting, told)
        if member.responder.closing:
            self._leave(member)
        elif message is not None:
            self._tidy_after(message)

    def _train_together(self, members: list[Member]) -> None:
        """Carry out orders that the engine gave together; each is answered when its own result is there."""
        seats = []
        for member in members:
            member.responder.cancelled = False
            self._running.append(member)
            seats.append(self._seat(member, member.take_waiting()))
        train = None if self._hosting is None else self._hosting.train_together
        try:
            if train is not None:
                train(seats, self._answer_arrived)
        finally:
            for seat in seats:
                if not seat.answered:
                    self._put_back(seat.member, seat.frame)
        self._return_free_memory()

    def _seat(self, member: Member, frame: Frame[Request]) -> LoopSeat:
        return LoopSeat(member, frame, self._finish, self._put_back)

    def _put_back(self, member: Member, frame: Frame[Request]) -> None:
        """Have an order wait for its turn: until then its node is not busy and can be asked to drop it."""
        if member in self._running:
            self._running.remove(member)
            if not member.wire.closed:
                member.waiting = frame

    def _finish(self, member: Member, frame: Frame[Request], reply: Reply) -> None:
        self._running.remove(member)
        self._reply(member, frame, reply)

    def _reply(self, member: Member, frame: Frame[Request] | Unreadable, reply: Reply) -> None:
        self._send(member, member.responder.encoded(frame, reply, {}))

    def _send(self, member: Member, buffers: list[bytes | memoryview]) -> None:
        if member.wire.closed:
            return
        try:
            member.wire.send(buffers)
        except HungUp:
            self._leave(member)

    def _receive(self, member: Member, *, wait: bool) -> bool:
        try:
            return member.wire.receive(wait=wait)
        except HungUp:
            self._leave(member)
            return False

    def _leave(self, member: Member) -> None:
        """A node of this process ends; with the last one the process does."""
        if member in self._members:
            self._members.remove(member)
        member.wire.close()
        member.waiting = None
        if not self._members:
            raise SystemExit(0)

    def _tidy_after(self, request: Request) -> None:
        """Give free memory back, or note that there may be some."""
        if request.is_long and not self._running:
            self._return_free_memory()
        elif isinstance(request, Predict):
            self._may_hold_free_memory = CAN_RETURN_FREE_MEMORY

    def _return_free_memory(self) -> None:
        self._may_hold_free_memory = False
        return_free_memory()

    def _readable(self, wait_ms: float | None) -> list[Member]:
        """Members with data, or the end of their stream, within this time."""
        # Not with a timeout of the socket: it would make the socket non-blocking, which confinement refuses.
        poller = select.poll()
        by_number = {member.wire.fileno(): member for member in self._members}
        for number in by_number:
            poller.register(number, select.POLLIN)
        return [by_number[number] for number, _ in poller.poll(wait_ms)]
