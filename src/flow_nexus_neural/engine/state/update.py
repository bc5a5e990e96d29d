"""What a worker delivered in a round."""

from dataclasses import dataclass

from flow_nexus_neural.engine.state.network_groups import ModelState


@dataclass(frozen=True)
class Update:
    """A worker's new state, copied and checked.

    Attributes:
        rows: Rows of its shard that it trained on, counted by the engine.
        loss: Its mean training loss; None when that was not finite.
    """

    slot: str
    state: ModelState
    digest: str
    rows: int
    steps: int
    loss: float | None
    cpu_s: float
