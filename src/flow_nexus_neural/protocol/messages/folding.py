"""Summing model states that nodes hold: a node reads those of its neighbours and writes its own."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import Count
from flow_nexus_neural.protocol.contract import AnsweredBy
from flow_nexus_neural.protocol.messages.values import Digest
from flow_nexus_neural.protocol.plan import Frozen, Name

MAX_PARTS = 256
MAX_SOURCES = 256
MAX_WEIGHT = 1e15
"""Above any number of rows; float64 holds every integer below it."""

Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


class FoldSource(Frozen):
    """A region that takes part in a sum, and its weight."""

    region: Name
    weight: Weight


class FoldPart(Frozen):
    """A part of a state, elements `start` to `stop` (exclusive), and what is summed for it.

    The state is the concatenation of the region's arrays in their order.
    """

    start: Count
    stop: Count
    divisor: Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
    sources: Annotated[tuple[FoldSource, ...], Field(min_length=1, max_length=MAX_SOURCES)]


class Folded(Frozen):
    """The sums stand in the region.

    Attributes:
        bytes_read: Payload read from regions that other processes write.
        digest: sha256 of all arrays of the region, one after the other; None where it was not asked for.
    """

    kind: Literal["folded"] = "folded"
    bytes_read: Count
    digest: Digest | None


class Fold(AnsweredBy[Folded]):
    """Write weighted sums of float32 regions of one layout into one of them, which the node may write.

    `hashed` asks for the digest of the whole region, which costs a pass over it.
    """

    is_long: ClassVar[bool] = True

    kind: Literal["fold"] = "fold"
    into: Name
    parts: Annotated[tuple[FoldPart, ...], Field(min_length=1, max_length=MAX_PARTS)]
    hashed: bool = True

    @override
    def fault_of(self, reply: Folded) -> str | None:
        return None if (reply.digest is not None) == self.hashed else "a digest is there or missing"

    @override
    def region_filled(self) -> str:
        return self.into

    @override
    def regions_observed(self) -> tuple[str, ...]:
        read = {source.region for part in self.parts for source in part.sources}
        return tuple(sorted(read - {self.into}))
