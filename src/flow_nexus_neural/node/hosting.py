"""Nodes that share a process: what each has of its own, and how further ones are made."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flow_nexus_neural.node.wire import Wire
from flow_nexus_neural.protocol.codec import Frame
from flow_nexus_neural.protocol.dispatch import Responder, Service
from flow_nexus_neural.protocol.messages import Host, Ready, Reply, Request
from flow_nexus_neural.vocabulary import MAX_NODES_PER_PROCESS


@dataclass(slots=True, eq=False)
class Member:
    """One node of the process: its socket, its service, and one order that waits.

    Attributes:
        waiting: A long request that is carried out later; at most one.
    """

    wire: Wire
    service: Service
    responder: Responder
    incarnation: int
    waiting: Frame[Request] | None = None

    @property
    def ended(self) -> bool:
        """Whether its running request must end: it was cancelled, or the node is gone."""
        return self.responder.cancelled or self.wire.closed

    def take_waiting(self) -> Frame[Request]:
        """The order that waits, which waits no longer."""
        waiting, self.waiting = self.waiting, None
        if waiting is None:
            raise LookupError("nothing waits")
        return waiting


class Seat(Protocol):
    """One order to train among several that are carried out together."""

    @property
    def service(self) -> Any:
        """The node's service."""
        ...

    @property
    def request(self) -> Any:
        """What it is to do, a `Train`."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it must end: it was cancelled, or its node is gone."""
        ...

    @property
    def answered(self) -> bool:
        """Whether it was answered."""
        ...

    def answer(self, reply: Reply) -> None:
        """Answer it on the socket of its own node."""
        ...

    def decline(self) -> None:
        """Leave it to be carried out by itself, after the others."""
        ...


TrainTogether = Callable[[Sequence[Seat], Callable[[], None]], None]
"""Carries out orders and answers those that it can; called between steps is what answers other requests."""


@dataclass(frozen=True, slots=True)
class Hosting:
    """How a process takes in further nodes.

    Attributes:
        make_service: The service of another node.
        ready_of: What it says first.
        train_together: None where every order is carried out by itself.
    """

    make_service: Callable[[Host], Service]
    ready_of: Callable[[Host], Ready]
    train_together: TrainTogether | None = None
    most_members: int = MAX_NODES_PER_PROCESS

    def adopt(self, descriptor: int) -> socket.socket:
        """The socket behind a descriptor that has arrived."""
        # Family and type are given: asking the kernel for them is forbidden in a confined process.
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=descriptor)


@dataclass(slots=True, eq=False)
class LoopSeat:
    """The seat of a member's order; `finish` sends its reply, `put_back` has it wait."""

    member: Member
    frame: Frame[Request]
    finish: Callable[[Member, Frame[Request], Reply], None]
    put_back: Callable[[Member, Frame[Request]], None]
    answered: bool = False

    @property
    def service(self) -> Service:
        """The node's service."""
        return self.member.service

    @property
    def request(self) -> Request:
        """What it is to do."""
        return self.frame.message

    @property
    def ended(self) -> bool:
        """Whether it must end."""
        return self.member.ended

    def answer(self, reply: Reply) -> None:
        """Answer it on the socket of its own node."""
        self.answered = True
        self.finish(self.member, self.frame, reply)

    def decline(self) -> None:
        """Leave it to be carried out by itself, after the others."""
        self.put_back(self.member, self.frame)
