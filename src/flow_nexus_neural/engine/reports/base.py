"""What all reports share."""

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Base: immutable, complete, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Guarantees(Report):
    """What the mode in force promises at this size; `holds` False says it promises nothing, for `reason`."""

    mode: str
    n: int
    f_tolerated: int
    condition: str
    holds: bool
    reason: str | None = None
    trusted: list[str]
    notes: list[str]


class Wasm(Report):
    """Whether a node runs WASM, and why not."""

    requested: bool
    active: bool
    reason: str


class Exclusion(Report):
    """A node that was left out, and why."""

    node_id: str
    reason: str
