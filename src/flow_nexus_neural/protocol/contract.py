"""The contract of a request: which reply, arrays and regions belong to it. Both ends of the wire enforce it.

A request names the class of its reply in its class statement (`class Ping(AnsweredBy[Pong])`) and overrides
the methods here whose default does not apply to it. The engine's end (`runtime.connection`) and the node's
end (`protocol.dispatch`) list no messages themselves, so that a new message needs only its class in
`protocol.messages` and its case in `node.service`.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel

from flow_nexus_neural.protocol.arrays import ArraySpecs, Shapes
from flow_nexus_neural.protocol.plan import Frozen, NetworkPlan

R = TypeVar("R", bound=BaseModel)
"""The class of a reply."""

NO_ARRAYS: tuple[ArraySpecs, ...] = ((),)
"""For replies without arrays: the only valid list of arrays is the empty one."""


@dataclass(slots=True)
class NodeRecord:
    """The engine's record of what it has sent to one node, in the order in which the node reads it.

    From it the exact size of a valid reply is known before the first byte of that reply arrives.

    Attributes:
        plans: By network, the plans to which a reply may belong. There are several while a Build has no
            reply yet: the node may answer other requests before it builds.
        rows: By region, the number of rows of its array `x`; 0 if it has none.
        carried: By writable region, its arrays, if they travel inside frames instead of shared memory: the
            replies to requests that fill the region carry them.
    """

    plans: dict[str, tuple[NetworkPlan, ...]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    carried: dict[str, ArraySpecs] = field(default_factory=dict)

    def plans_of(self, network: str) -> tuple[NetworkPlan, ...]:
        """The plans to which a reply about a network may belong; none if it was never built."""
        return self.plans.get(network, ())

    def weights_of(self, network: str) -> tuple[ArraySpecs, ...]:
        """Arrays of the weights of a network, for each plan to which the reply may belong."""
        return tuple(
            (("buffers", "f4", (plan.n_buffers,)), ("params", "f4", (plan.n_params,)))
            for plan in self.plans_of(network)
        )

    def outputs_of(self, network: str, rows: int) -> tuple[ArraySpecs, ...]:
        """Array of a network's outputs for `rows` rows, for each plan to which the reply may belong."""
        return tuple((("y", "f4", (rows, plan.n_outputs)),) for plan in self.plans_of(network))

    def forget_region(self, key: str) -> None:
        """Delete the entries of a region that was revoked or replaced."""
        self.rows.pop(key, None)
        self.carried.pop(key, None)


class AnsweredBy(Frozen, Generic[R]):
    """Base of every request; `AnsweredBy[Pong]` is the base of requests whose reply is a `Pong`.

    Any request may be answered by `Failed` instead, which never has arrays.

    Attributes:
        kind: Name of the message on the wire.
        is_long: Whether a node runs one such request at a time, and answers all others between its steps.
    """

    is_long: ClassVar[bool] = False

    kind: str

    @classmethod
    def reply_class(cls) -> type[R]:
        """The class of the reply, as named in the class statement."""
        for ancestor in cls.__mro__:
            if issubclass(ancestor, AnsweredBy):
                named = ancestor.__pydantic_generic_metadata__["args"]
                if named:
                    return cast("type[R]", named[0])
        raise TypeError(f"{cls.__name__} does not name the class of its reply")

    def reply_arrays(
        self,
        node: NodeRecord,
        shapes: Shapes,  # noqa: ARG002 - few replies depend on what goes with the request
    ) -> tuple[ArraySpecs, ...]:
        """The valid lists of arrays for the reply: one, or several while a Build has no reply yet.

        Args:
            node: Record of what the node was sent before this request.
            shapes: Shapes of the arrays in this request.
        """
        filled = self.region_filled()
        return NO_ARRAYS if filled is None else (node.carried.get(filled, ()),)

    def region_filled(self) -> str | None:
        """Key of the writable region into which the node writes its result, if any.

        Without shared memory, the reply carries the new content of that region.
        """
        return None

    def regions_observed(self) -> tuple[str, ...]:
        """Keys of regions that other nodes write and this request reads.

        Without shared memory, their latest content is granted again before the request is sent.
        """
        return ()

    def fault_of(self, reply: R) -> str | None:  # noqa: ARG002 - most replies cannot contradict the request
        """Describe how a reply of the right class contradicts this request; None if it does not."""
        return None

    def note_sent(self, node: NodeRecord, *, arrays_in_frame: bool) -> None:
        """Record what this request changes in the node, at the time it is sent.

        Args:
            node: Updated in place.
            arrays_in_frame: The granted arrays are in the frame's body, not behind a descriptor.
        """

    def note_answered(self, node: NodeRecord, reply: BaseModel) -> None:
        """Record what this request has changed in the node, according to its reply or `Failed`."""
