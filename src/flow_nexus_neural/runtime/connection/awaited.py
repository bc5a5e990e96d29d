"""Which reply a call waits for, exactly: its class and the arrays that it brings.

The engine knows every plan that it sent and every region that it granted, so the length of an honest reply is
known before its first byte arrives. Anything else is a protocol violation. What is right for a request is
said by the request's class; see `protocol.contract`.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Self

from pydantic import BaseModel

from flow_nexus_neural.errors import ProtocolViolation
from flow_nexus_neural.protocol.arrays import ArraySpecs, Layouts, specs_of
from flow_nexus_neural.protocol.codec import DTYPES
from flow_nexus_neural.protocol.contract import NO_ARRAYS, AnsweredBy, NodeRecord
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.protocol.messages import Failed, Ready


@dataclass(frozen=True, slots=True)
class Awaited:
    """The reply to one request, or to the start of a node.

    Attributes:
        reply_class: Of the reply, unless it is `Failed`, which brings no arrays.
        alternatives: Lists of arrays that the reply may bring; several only while a Build has no reply yet.
        request: What is answered; None for the start.
    """

    reply_class: type[BaseModel]
    alternatives: tuple[ArraySpecs, ...] = NO_ARRAYS
    request: AnsweredBy[Any] | None = None

    @classmethod
    def to(cls, request: AnsweredBy[Any], arrays: Arrays, node: NodeRecord) -> Self:
        """The reply to a request that is about to be sent.

        Args:
            request: Says what its reply must be.
            arrays: Those that go with it.
            node: What the node was sent before.
        """
        shapes = {name: array.shape for name, array in arrays.items()}
        return cls(request.reply_class(), request.reply_arrays(node, shapes), request)

    @property
    def body_bytes(self) -> int:
        """The longest body that is right."""
        return max((_bytes_of(specs) for specs in self.alternatives), default=0)

    def check(self, reply: BaseModel, layouts: Layouts) -> None:
        """Compare a header with what is awaited.

        Raises:
            ProtocolViolation: If it is anything else.
        """
        came = specs_of(layouts)
        if isinstance(reply, Failed):
            if came:
                raise ProtocolViolation(f"a failure came with {len(came)} arrays")
            return
        name = type(reply).__name__
        if not isinstance(reply, self.reply_class):
            raise ProtocolViolation(
                f"a reply is {name} where {self.reply_class.__name__} is awaited"
            )
        if came not in self.alternatives:
            raise ProtocolViolation(
                f"a {name} reply brings arrays {came!r:.400}, not {self.alternatives!r:.400}"
            )
        fault = None if self.request is None else self.request.fault_of(reply)
        if fault is not None:
            raise ProtocolViolation(f"a {name} reply contradicts its request: {fault}")


READY = Awaited(Ready)
"""The answer to a start."""


def _bytes_of(specs: ArraySpecs) -> int:
    return sum(DTYPES[dtype].itemsize * prod(shape) for _, dtype, shape in specs)
