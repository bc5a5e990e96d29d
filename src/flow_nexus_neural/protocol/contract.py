"""What a request class says about its reply: the contract that both ends of the wire enforce.

A request names the class of its reply in its class statement (`class Ping(AnsweredBy[Pong])`) and overrides
the methods here whose default is not true of it. The engine's end (`runtime.connection`) and the
node's end (`protocol.dispatch`) read everything from here and list no messages themselves, so that a new
message needs its class in `protocol.messages` and its case in `node.service`, and nothing else.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel

from flow_nexus_neural.protocol.arrays import ArraySpecs, Shapes
from flow_nexus_neural.protocol.plan import Frozen, NetworkPlan

R = TypeVar("R", bound=BaseModel)
"""The class of a reply."""

NO_ARRAYS: tuple[ArraySpecs, ...] = ((),)
"""The only right list of arrays is the empty one."""


@dataclass(slots=True)
class NodeRecord:
    """What the engine has sent to one node so far, in the order in which the node reads it.

    The length of an honest reply follows from it before the first byte of that reply arrives.

    Attributes:
        plans: By network, the plans that a reply may follow. There are several while a Build has no reply
            yet: the node may answer other requests before it builds.
        rows: By region, how many rows its array `x` has; 0 where it has none.
        carried: By writable region, its arrays, where they travel inside frames: the replies that fill the
            region bring them.
    """

    plans: dict[str, tuple[NetworkPlan, ...]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    carried: dict[str, ArraySpecs] = field(default_factory=dict)

    def plans_of(self, network: str) -> tuple[NetworkPlan, ...]:
        """The plans that a reply about a network may follow; none where it was never built."""
        return self.plans.get(network, ())

    def weights_of(self, network: str) -> tuple[ArraySpecs, ...]:
        """Arrays of the weights of a network, for each plan that the reply may follow."""
        return tuple(
            (("buffers", "f4", (plan.n_buffers,)), ("params", "f4", (plan.n_params,)))
            for plan in self.plans_of(network)
        )

    def outputs_of(self, network: str, rows: int) -> tuple[ArraySpecs, ...]:
        """The array of a network's outputs for so many rows, for each plan that the reply may follow."""
        return tuple((("y", "f4", (rows, plan.n_outputs)),) for plan in self.plans_of(network))

    def forget_region(self, key: str) -> None:
        """The node holds no region of that key any more, or another one."""
        self.rows.pop(key, None)
        self.carried.pop(key, None)


class AnsweredBy(Frozen, Generic[R]):
    """Base of every request; `AnsweredBy[Pong]` is the base of requests whose reply is a `Pong`.

    Any request may be answered `Failed` instead, which never brings arrays.

    Attributes:
        kind: Names the message on the wire.
        is_long: Whether a node does one such request at a time, answering all others between its steps.
    """

    is_long: ClassVar[bool] = False

    kind: str

    @classmethod
    def reply_class(cls) -> type[R]:
        """The class of the reply, as the class statement names it."""
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
        """The lists of arrays that the reply may bring: one, or several while a Build has no reply yet.

        Args:
            node: What the node was sent before this request.
            shapes: Of the arrays that go with this request.
        """
        filled = self.region_filled()
        return NO_ARRAYS if filled is None else (node.carried.get(filled, ()),)

    def region_filled(self) -> str | None:
        """Key of the writable region into which the node writes the result, if there is one.

        Where memory is not shared, the reply brings the new content of that region.
        """
        return None

    def regions_observed(self) -> tuple[str, ...]:
        """Keys of regions that other nodes write and this request reads.

        Where memory is not shared, their latest content is granted anew before the request is sent.
        """
        return ()

    def fault_of(self, reply: R) -> str | None:  # noqa: ARG002 - most replies cannot contradict the request
        """What in a reply of the right class contradicts this request; None when nothing does."""
        return None

    def note_sent(self, node: NodeRecord, *, arrays_in_frame: bool) -> None:
        """Record what this request changes in the node, as it is sent.

        Args:
            node: Updated in place.
            arrays_in_frame: No descriptor goes with the frame: what it grants lies in its body.
        """

    def note_answered(self, node: NodeRecord, reply: BaseModel) -> None:
        """Record what this request has changed in the node, from its reply or `Failed`."""
