"""Announcing a token in a link buffer, and reading the neighbours' tokens."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import (
    DType,
)
from flow_nexus_neural.protocol.contract import AnsweredBy
from flow_nexus_neural.protocol.messages.replies import Done
from flow_nexus_neural.protocol.messages.values import (
    Seed,
)
from flow_nexus_neural.protocol.plan import Frozen, Name

LINK_LAYOUT: tuple[tuple[str, DType, tuple[int, ...]], ...] = (("token", "i8", (1,)),)
"""Arrays of a link buffer, which one node writes and its neighbours read: (name, dtype, shape)."""


class Sight(Frozen):
    """The token read from one neighbour's link buffer.

    Attributes:
        token: The last value read; any value is possible, since another node wrote it.
        read_ms: Median time of one read.
    """

    token: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    read_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Observed(Frozen):
    """One `Sight` per requested key, in that order; None if the node holds no such region."""

    kind: Literal["observed"] = "observed"
    sights: Annotated[tuple[Sight | None, ...], Field(max_length=256)]


class Announce(AnsweredBy[Done]):
    """Write `token` into the node's own link buffer."""

    kind: Literal["announce"] = "announce"
    key: Name
    token: Seed

    @override
    def region_filled(self) -> str:
        return self.key


class Observe(AnsweredBy[Observed]):
    """Read the tokens in these neighbours' link buffers, each one `reads` times."""

    kind: Literal["observe"] = "observe"
    keys: Annotated[tuple[Name, ...], Field(max_length=256)]
    reads: Annotated[int, Field(ge=1, le=64)]

    @override
    def regions_observed(self) -> tuple[str, ...]:
        return self.keys

    @override
    def fault_of(self, reply: Observed) -> str | None:
        n_sights, n_keys = len(reply.sights), len(self.keys)
        return None if n_sights == n_keys else f"{n_sights} sights of {n_keys} views"
