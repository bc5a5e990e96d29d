"""What a worker delivered in a round."""

from dataclasses import dataclass

from flow_nexus_neural.engine.state.network_groups import ModelState
from flow_nexus_neural.protocol.messages import Commitment


@dataclass(frozen=True)
class Update:
    """A worker's new state, copied and checked.

    Attributes:
        rows: Rows of its shard that it trained on, counted by the engine.
        loss: Its mean training loss; None when that was not finite.
        commitment: To its course of training, where a proof was ordered.
    """

    slot: str
    state: ModelState
    digest: str
    rows: int
    steps: int
    loss: float | None
    cpu_s: float
    commitment: Commitment | None = None
