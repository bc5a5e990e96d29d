"""What a worker delivered in a round."""

from dataclasses import dataclass

from flow_nexus_neural.engine.state.network_groups import ModelState
from flow_nexus_neural.errors import InternalError
from flow_nexus_neural.protocol.messages import Commitment


@dataclass(frozen=True)
class Update:
    """A worker's new state.

    Attributes:
        state: Copied and checked; None while it is in the worker's buffer only, from which other workers
            read it over their links.
        digest: Of its weights; the worker's word as long as there is no copy.
        rows: Rows of its shard that it trained on, counted by the engine.
        opt_step: Optimiser steps that the state has seen.
        loss: Its mean training loss; None when that was not finite.
        stacked: Clients that were trained in one stack with it, itself included; None by itself.
        commitment: To its course of training, where a proof was ordered.
    """

    slot: str
    state: ModelState | None
    digest: str
    rows: int
    steps: int
    opt_step: int
    loss: float | None
    cpu_s: float
    commitment: Commitment | None = None
    stacked: int | None = None

    @property
    def copied(self) -> ModelState:
        """The engine's copy.

        Raises:
            InternalError: There is none.
        """
        if self.state is None:
            raise InternalError(f"the update of {self.slot} has not been copied")
        return self.state
