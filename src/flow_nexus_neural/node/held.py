"""A network of a node, with weights of its own for serving, for training and for a candidate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.proofs import SegmentLog
from flow_nexus_neural.node.trainer import Workspace
from flow_nexus_neural.node.weights import Weights


@dataclass(slots=True)
class Held:
    """One network of the node, with separate weights for serving, training and evaluating a candidate.

    The three share no memory: a prediction during training or evaluation reads complete serving weights.
    """

    network: Network
    serving: Weights
    digest: str
    workspace: Workspace | None = None
    candidate: Weights | None = None
    log: SegmentLog | None = None

    def serve(self, state: Mapping[str, NDArray[Any]]) -> str:
        """Copy a state into the serving weights; return their digest."""
        self.serving.load(state["params"], state["buffers"])
        self.digest = self.serving.digest()
        return self.digest
