"""What all reports share."""

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Base: immutable, complete, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Guarantees(Report):
    """What the mode in force promises at this size.

    `holds` False says that it promises nothing, for `reason`; None that nodes it needs are recovering: then
    the numbers are those once they are up.
    """

    mode: str
    n: int
    f_tolerated: int
    condition: str
    holds: bool | None
    reason: str | None = None
    trusted: list[str]
    notes: list[str]


class NodeBackend(Report):
    """What computes one node's predictions.

    Attributes:
        backend: `wasm` or `torch` by batch size, up to which it holds; {} where torch does all.
        speedup_measured: How many times faster WebAssembly was, by batch size.
        reason: Why WebAssembly computes none; None where it computes some.
    """

    requested: bool
    backend: dict[str, str]
    speedup_measured: dict[str, float]
    reason: str | None


class Wasm(Report):
    """Whether some node's predictions are computed by WebAssembly, or why none; by slot in `nodes`."""

    requested: bool
    active: bool
    reason: str | None
    nodes: dict[str, NodeBackend] = {}


class Exclusion(Report):
    """A node that was left out, and why."""

    node_id: str
    reason: str
