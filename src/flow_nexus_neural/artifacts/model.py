"""What is exported: one committed version of a cluster's model, as values that nothing changes meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.protocol.digest import named_tensors
from flow_nexus_neural.protocol.plan import NetworkPlan

SEPARATOR = "/"
"""Between the key of a network and the name of its tensor, where a file holds those of several."""


@dataclass(frozen=True)
class ExportedNetwork:
    """One network with its weights.

    Attributes:
        params: [n_params] float32, in plan order.
        buffers: [n_buffers] float32, likewise.
        digest: Of both.
    """

    key: str
    plan: NetworkPlan
    params: NDArray[np.float32]
    buffers: NDArray[np.float32]
    digest: str

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Contiguous copies of its tensors, by name.

        Writers of tensor files take the memory of an array as it lies, whatever its strides say.
        """
        named = named_tensors(self.plan, self.params, self.buffers)
        return {name: np.array(tensor, order="C", copy=True) for name, tensor in named.items()}


@dataclass(frozen=True)
class ExportedModel:
    """One committed version.

    Attributes:
        cluster_id: Where it comes from.
        name: Of the cluster.
        version: Of the model.
        sha: sha256 over everything that shapes or describes an answer of it.
        schema: How records become input, and what the output means.
        networks: Those by which a slot answers, by key.
        slots: Key of the network of every serving slot, in slot order.
        calibrator: Of aggregation `mean`; None where it has none.
        rule: Which class probabilities decide.
        liars: How many of the slots may lie, so that their answers are combined robustly; 0 for a plain mean.
        roles: Networks of aggregators, validators and parameter servers, by slot.
        stored: The version as the store keeps it: plans, bundle, data set, metrics.
        cluster: What the cluster was declared to be, as far as a new one can be made like it.
        nodes: What its slots were declared to be, by name.
        privacy: Of all trainings in its weights; None where that was not recorded.
    """

    cluster_id: str
    name: str
    version: int
    sha: str
    schema: DataSchema
    networks: Mapping[str, ExportedNetwork]
    slots: Mapping[str, str]
    calibrator: Calibrator | None
    rule: DecisionRule
    liars: int
    stored: Mapping[str, JsonValue]
    roles: Mapping[str, ExportedNetwork] = field(default_factory=dict)
    cluster: Mapping[str, JsonValue] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    privacy: ModelPrivacy | None = None

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Tensors of all serving networks, each as `<key>/<name>`; contiguous copies."""
        return {
            f"{network.key}{SEPARATOR}{name}": tensor
            for network in self.networks.values()
            for name, tensor in network.tensors.items()
        }

    @property
    def needs_symbols(self) -> bool:
        """Whether the scaling of a row depends on its symbol."""
        return any(column.medians is not None for column in self.schema.columns)


@dataclass(frozen=True)
class Examples:
    """Rows with the answers that the cluster's own nodes gave to them, by which an export is checked.

    Attributes:
        rows: [n, *row_shape] float64 in the data's own units, NaN where a value is missing.
        symbols: Of each row; None without one.
        scaled: [n, *row_shape] float32, as the nodes got them.
        logits: [n, n_outputs] by key of the network, as the nodes answered.
        answers: [n, classes] probabilities, or [n, 1] values, as the cluster answers with aggregation `mean`.
        decisions: [n] indices of the classes that the cluster decides with it; None of values.
    """

    rows: NDArray[np.float64]
    symbols: tuple[str | None, ...]
    scaled: NDArray[np.float32]
    logits: Mapping[str, NDArray[np.float64]]
    answers: NDArray[np.float64]
    decisions: NDArray[np.int64] | None = None
