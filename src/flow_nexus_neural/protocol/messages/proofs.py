"""Proof-of-learning: a worker reveals the state before a segment, another node executes it again."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import Count
from flow_nexus_neural.protocol.contract import AnsweredBy
from flow_nexus_neural.protocol.messages.values import MAX_CPU_S, Digest
from flow_nexus_neural.protocol.messages.work import Train
from flow_nexus_neural.protocol.plan import Frozen, Name


class Revealed(Frozen):
    """The buffer holds the asked state; `cpu_s` is what that cost."""

    kind: Literal["revealed"] = "revealed"
    cpu_s: Annotated[float, Field(ge=0, le=MAX_CPU_S)]


class Reveal(AnsweredBy[Revealed]):
    """Write the state before a segment of the latest training into a buffer.

    The states are kept until the base of that training is revoked.

    Attributes:
        segment: From 0; that of the first one is the base.
        into: Writable region with the arrays of the base's layout.
    """

    kind: Literal["reveal"] = "reveal"
    network: Name
    segment: Count
    into: Name

    @override
    def region_filled(self) -> str:
        return self.into


class Reexecuted(Frozen):
    """A segment was executed again.

    Attributes:
        before: Training digest of the revealed state, as this node read it.
        after: That of the state after the segment.
        cpu_s: CPU seconds of the whole request.
    """

    kind: Literal["reexecuted"] = "reexecuted"
    before: Digest
    after: Digest
    cpu_s: Annotated[float, Field(ge=0, le=MAX_CPU_S)]


class Reexecute(AnsweredBy[Reexecuted]):
    """Execute one segment of another node's assignment again, from a revealed state.

    Attributes:
        work: The assignment as that node got it, with the names of this node's network and regions; its
            `proof` says how long segments are. Every hyper-parameter is taken from here and none from the
            state. Nothing is published.
        segment: From 0.
        state: Region with the state before the segment. Another node may write it: it is copied first.
    """

    is_long: ClassVar[bool] = True

    kind: Literal["reexecute"] = "reexecute"
    work: Train
    segment: Count
    state: Name

    @override
    def regions_observed(self) -> tuple[str, ...]:
        return (self.state,)
